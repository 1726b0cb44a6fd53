"""The parts of a run that look like dicts: its config and its final metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from tracker.v1 import tracker_service_pb2 as calls
from tracker_client import requests, values
from tracker_client.config import ConfigError
from tracker_client.reporter import Reporter


class RunConfig(MutableMapping[str, Any]):
    """What a run is configured with. Setting a key sends it; nested dicts are values of their top-level key."""

    def __init__(self, change: Callable[..., None], reporter: Reporter) -> None:
        """change: sends changes of the run."""
        self._change = change
        self._reporter = reporter
        self._values: dict[str, Any] = {}

    def keep(self, config: Mapping[str, Any]) -> None:
        """What has been sent with the start already."""
        self._values.update(config)

    def update(self, *others: Any, **more: Any) -> None:
        """As a dict's, sent as one change."""
        try:
            changed = dict(*others, **more)
        except (TypeError, ValueError) as error:
            self._reporter.mistake_is(TypeError(f"config.update() takes what dict() does: {error}"))
        else:
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
        if not changed:
            return
        try:
            message, altered = requests.config_message(changed)
        except ConfigError as error:
            self._reporter.mistake_is(error)
        else:
            if altered:
                self._reporter.warn(f"config: sent as text, having no other form: {', '.join(altered[:10])}")
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
        for name, problem in problems.items():
            self._reporter.mistake_is(TypeError(f"summary: {problem}"), key=f"summary {name}")
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
