"""A small real model on real data: softmax regression on scikit-learn's handwritten digits, trained by plain SGD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import sklearn.datasets
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.int64]

CLASSES = 10
VALIDATION_SHARE = 0.2
SOURCE = Path(sklearn.datasets.__file__).parent / "data" / "digits.csv.gz"
"""Where scikit-learn has the data."""


@dataclass(frozen=True)
class Examples:
    """Pictures, one a row, and which digit each shows."""

    pixels: Floats
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


def load(seed: int) -> tuple[Examples, Examples]:
    """To train with, and to judge by. Shuffled, pixels from 0 to 1."""
    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    pixels, labels = pixels[order] / 16.0, labels[order]
    split = round(len(labels) * VALIDATION_SHARE)
    return Examples(pixels[split:], labels[split:]), Examples(pixels[:split], labels[:split])


class SoftmaxRegression:
    """One linear layer and a softmax."""

    def __init__(self, features: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._weights: Floats = self._random.normal(0.0, 0.01, (features, CLASSES))
        self._bias: Floats = np.zeros(CLASSES)

    def train(self, examples: Examples, learning_rate: float, batch_size: int) -> Iterator[float]:
        """One epoch; gives the loss of each mini-batch."""
        order = self._random.permutation(len(examples))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            pixels, labels = examples.pixels[batch], examples.labels[batch]
            log_odds = self._log_probabilities(pixels)
            yield _loss(log_odds, labels)
            gradient = np.exp(log_odds)
            gradient[np.arange(len(batch)), labels] -= 1.0
            gradient /= len(batch)
            self._weights -= learning_rate * (pixels.T @ gradient)
            self._bias -= learning_rate * gradient.sum(axis=0)

    def judge(self, examples: Examples) -> tuple[float, float]:
        """Loss and accuracy."""
        log_odds = self._log_probabilities(examples.pixels)
        return _loss(log_odds, examples.labels), float((log_odds.argmax(axis=1) == examples.labels).mean())

    def _log_probabilities(self, pixels: Floats) -> Floats:
        scores = pixels @ self._weights + self._bias
        scores -= scores.max(axis=1, keepdims=True)
        probabilities: Floats = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return probabilities


def _loss(log_probabilities: Floats, labels: Labels) -> float:
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())
