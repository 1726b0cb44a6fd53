"""Histories of metrics as arrays: NumPy's where it is installed, else those of the standard library."""

from __future__ import annotations

import importlib
import operator
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from typing import TYPE_CHECKING, Any, Final

from tracker.v1.resources_pb2 import MetricSeries
from tracker.v1.tracker_service_pb2 import GetMetricHistoryRequest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


@dataclass(frozen=True, eq=False, slots=True)
class Series:
    """The points of one metric of one run, ordered by step, then time. Empty where the run has no such metric.

    The arrays are NumPy's where it is installed, else `array.array` ("q" and "d"), all three of one length.
    """

    run_id: str
    name: str
    """The metric's."""
    steps: npt.NDArray[np.int64]
    """Step of each point."""
    times_unix_ms: npt.NDArray[np.int64]
    """Time of each point, in milliseconds since 1970-01-01 UTC."""
    values: npt.NDArray[np.float64]
    """Value of each point, NaN and the infinities included."""
    total_points: int
    """How many points the series has in the range asked for, before downsampling."""
    downsampled: bool
    """Whether points were left out because of max_points; peaks, ends and non-finite values never are."""

    def __len__(self) -> int:
        return len(self.steps)

    def to_pandas(self) -> pd.DataFrame:
        """A data frame with columns step (int64), time (UTC, to the millisecond) and value (float64).

        Raises ModuleNotFoundError where pandas is not installed.
        """
        import pandas as pd

        times = pd.Series(self.times_unix_ms, dtype="int64").astype("datetime64[ms]").dt.tz_localize("UTC")
        return pd.DataFrame(
            {
                "step": pd.Series(self.steps, dtype="int64"),
                "time": times,
                "value": pd.Series(self.values, dtype="float64"),
            }
        )


def history_request(
    run_ids: Sequence[str] | str,
    metrics: Sequence[str] | str,
    *,
    min_step: int | None,
    max_step: int | None,
    attempt: int | None = None,
    max_points: int = 0,
    page_size: int = 0,
    write_tokens: Iterable[str],
) -> GetMetricHistoryRequest:
    """The request for the first page."""
    return GetMetricHistoryRequest(
        run_ids=[run_ids] if isinstance(run_ids, str) else run_ids,
        metrics=[metrics] if isinstance(metrics, str) else metrics,
        min_step=min_step,
        max_step=max_step,
        attempt=attempt,
        max_points=max_points,
        page_size=page_size,
        write_tokens=write_tokens,
    )


class SeriesBuilder:
    """Puts series together that come in parts, page by page."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], _Parts] = {}

    def add(self, part: MetricSeries) -> None:
        """Takes the next part. Keeps none of the message."""
        parts = self._parts.setdefault((part.run_id, part.name), _Parts(part.total_points))
        parts.steps.append(_array(part.steps, "q"))
        parts.times.append(_array(part.times_unix_ms, "q"))
        parts.values.append(_array(part.values, "d"))
        parts.downsampled |= part.downsampled

    def finish(self) -> list[Series]:
        """All of them, in the order in which they came."""
        return [
            Series(
                run_id=run_id,
                name=name,
                steps=_joined(parts.steps),
                times_unix_ms=_joined(parts.times),
                values=_joined(parts.values),
                total_points=parts.total_points,
                downsampled=parts.downsampled,
            )
            for (run_id, name), parts in self._parts.items()
        ]


@dataclass(slots=True)
class _Parts:
    total_points: int
    downsampled: bool = False
    steps: list[Any] = field(default_factory=list)
    times: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)


_DTYPES: Final = {"q": "int64", "d": "float64"}


@cache
def _numpy() -> Any:
    """NumPy, or None where it is not installed. Not before it is needed: importing it takes a while."""
    try:
        return importlib.import_module("numpy")
    except ModuleNotFoundError:
        return None


def _array(numbers: Sequence[float], kind: str) -> Any:
    numpy = _numpy()
    return array(kind, numbers) if numpy is None else numpy.array(numbers, dtype=_DTYPES[kind])


def _joined(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    numpy = _numpy()
    return reduce(operator.iadd, parts) if numpy is None else numpy.concatenate(parts)
