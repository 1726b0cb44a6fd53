"""The parts of a run that look like dicts: its config and its final metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from tracker.v1 import tracker_service_pb2 as calls
from tracker_client import requests, values
from tracker_client.reporter import Reporter


class RunConfig(MutableMapping[str, Any]):
    """What a run is configured with. Setting a key sends it; nested dicts are values of their top-level key."""

    def __init__(self, change: Callable[..., None]) -> None:
        self._change = change
        self._values: dict[str, Any] = {}

    def keep(self, config: Mapping[str, Any]) -> None:
        """What has been sent with the start already."""
        self._values.update(config)

    def update(self, *others: Any, **more: Any) -> None:
        """As a dict's, sent as one change."""
        changed = dict(*others, **more)
        self._values.update(changed)
        self._send(changed)

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[key] = value
        self._send({key: value})

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        self._change(calls.RunChanges(), paths=(f"config.{key}",))

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"RunConfig({self._values!r})"

    def _send(self, changed: Mapping[str, Any]) -> None:
        if changed:
            message, _ = requests.config_message(changed)
            self._change(calls.RunChanges(config=message))


class RunSummary(MutableMapping[str, float]):
    """Final metrics by name. Kept until the run ends."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._values: dict[str, float] = {}

    def numbers(self) -> dict[str, float]:
        """What is to be sent."""
        return dict(list(self._values.items())[: requests.MAX_ENTRIES])

    def __setitem__(self, key: str, value: object) -> None:
        numbers, problems = values.clean_metrics({key: value})
        for problem in problems:
            self._reporter.mistake(lambda: TypeError(f"summary: {problem}"), key=problem)  # noqa: B023 - called at once
        self._values.update(numbers)

    def __delitem__(self, key: str) -> None:
        del self._values[key]

    def __getitem__(self, key: str) -> float:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"RunSummary({self._values!r})"
