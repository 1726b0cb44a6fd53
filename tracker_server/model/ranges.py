"""Sets of sequence numbers, kept as ranges: a writer without gaps costs one pair however long it writes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Ranges:
    """An immutable set of integers as ascending, disjoint, non-adjacent inclusive ranges."""

    pairs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads what `str` wrote: `1-40,42,44-50`. Raises ValueError on anything else."""
        pairs = []
        for part in text.split(",") if text else ():
            first, dash, last = part.partition("-")
            pairs.append((int(first), int(last if dash else first)))
        return cls(tuple(pairs))

    def __str__(self) -> str:
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.pairs)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self.pairs, (number, float("inf"))) - 1
        return at >= 0 and number <= self.pairs[at][1]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.pairs)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.pairs)

    def add(self, numbers: Iterable[int]) -> Ranges:
        """The set with these numbers in it too."""
        return Ranges(_merge([*self.pairs, *((n, n) for n in numbers)]))

    def union(self, other: Ranges) -> Ranges:
        """The numbers of both sets."""
        return Ranges(_merge([*self.pairs, *other.pairs]))

    def remove(self, numbers: Iterable[int]) -> Ranges:
        """The set without these numbers."""
        pairs = list(self.pairs)
        for number in numbers:
            at = bisect_right(pairs, (number, float("inf"))) - 1
            if at < 0 or not pairs[at][0] <= number <= pairs[at][1]:
                continue
            first, last = pairs[at]
            pairs[at : at + 1] = [p for p in ((first, number - 1), (number + 1, last)) if p[0] <= p[1]]
        return Ranges(tuple(pairs))

    def missing(self, last: int) -> Ranges:
        """Which numbers from 1 to `last` are not in the set."""
        holes = []
        expected = 1
        for low, high in self.pairs:
            if low > last:
                break
            if low > expected:
                holes.append((expected, low - 1))
            expected = max(expected, high + 1)
        if expected <= last:
            holes.append((expected, last))
        return Ranges(tuple(holes))

    def overlaps(self, other: Ranges) -> bool:
        """Whether any number is in both sets."""
        return any(first <= high and low <= last for first, last in self.pairs for low, high in other.pairs)

    @property
    def highest(self) -> int:
        """The largest number, or 0 for the empty set."""
        return self.pairs[-1][1] if self.pairs else 0


EMPTY = Ranges()


def _merge(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return tuple(merged)
