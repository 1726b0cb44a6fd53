"""What the messages of an envelope hold, checked as far as storing it depends on it, and as the model has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.resources_pb2 import ConfigMap, MetricDefinition, Retention
from tracker_server import limits
from tracker_server.model import writes
from tracker_server.model.typed_json import Json, encode_value


class Undecodable(Exception):
    """A message or a write that this consumer cannot read."""


def changes_of(
    mask: list[str], fields: Mapping[str, Json], maps: Mapping[str, Mapping[str, Json]]
) -> tuple[dict[str, Json], dict[str, writes.MapChange]]:
    """What a request changes of its fields and maps: what its mask names, or, without one, what is not empty.

    Raises Undecodable.
    """
    check_texts(mask)
    if not mask:
        return (
            {name: value for name, value in fields.items() if value},
            {name: writes.MapChange(set=values) for name, values in maps.items() if values},
        )
    chosen: dict[str, Json] = {}
    changes: dict[str, writes.MapChange] = {}
    for path in mask:
        name, dot, entry = path.partition(".")
        if name in fields and not dot:
            chosen[name] = fields[name]
        elif name in maps and not dot:
            changes[name] = writes.MapChange(replace=True, set=maps[name])
        elif name in maps:
            before = changes.get(name, writes.MapChange())
            if before.replace:
                continue
            if entry in maps[name]:
                changes[name] = writes.MapChange(False, {**before.set, entry: maps[name][entry]}, before.remove)
            else:
                changes[name] = writes.MapChange(False, before.set, (*before.remove, entry))
        else:
            message = f"update_mask path {path!r}"
            raise Undecodable(message)
    return chosen, changes


def config_of(config: ConfigMap) -> dict[str, Json]:
    """A config as it is stored. Raises Undecodable."""
    encoded = {key: encode_value(value) for key, value in config.values.items()}
    check_texts(_texts_in(encoded))
    return encoded


def _texts_in(value: Json) -> Iterator[str]:
    """Every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts_in(item)


def time_of(
    request: public.StartRunRequest
    | public.LogMetricRequest
    | public.RunCompletedRequest
    | public.UpdateRunRequest
    | public.UpdateExperimentRequest
    | public.RewindRunRequest
    | public.StopRunRequest
    | public.DeleteRunRequest
    | public.UndeleteRunRequest
    | public.DeleteExperimentRequest
    | public.UndeleteExperimentRequest,
    raw: internal.Write,
) -> int:
    """When a request says that it happened, else when it was accepted; milliseconds since 1970. Raises Undecodable."""
    if not request.HasField("timestamp"):
        return raw.accepted_at_unix_ms
    return check_time(milliseconds(request.timestamp))


def milliseconds(timestamp: Timestamp) -> int:
    """Since 1970."""
    return timestamp.seconds * 1000 + timestamp.nanos // 1_000_000


def check_time(milliseconds: int) -> int:
    """The same time. Raises Undecodable."""
    check(limits.MIN_TIME_MS <= milliseconds <= limits.MAX_TIME_MS, f"time {milliseconds} ms")
    return milliseconds


def check_id(what: str, value: str, *, optional: bool = False) -> None:
    """Raises Undecodable unless it can be an id, or, optional, is empty."""
    right = len(value) <= limits.MAX_ID_LENGTH and value.isprintable() and (optional or value != "")
    check(right, f"{what} {value[:200]!r}")


def check_name(name: str) -> None:
    """Raises Undecodable unless it can be a metric's name."""
    check(0 < len(name) <= limits.MAX_NAME_LENGTH and "\0" not in name, f"metric name {name[:80]!r}")


def check_texts(texts: Iterable[str], *maps: Mapping[str, str]) -> None:
    """Raises Undecodable for a text, key or value that PostgreSQL cannot store."""
    for text in [*texts, *(part for entries in maps for pair in entries.items() for part in pair)]:
        check("\0" not in text, f"U+0000 in {text[:80]!r}")


def check(right: bool, what: str) -> None:
    """Raises Undecodable unless it is right. what: the part that is not."""
    if not right:
        raise Undecodable(what)


def the_one(parts: Iterable[bytes]) -> bytes:
    """The only one of the parts. Raises Undecodable."""
    chunks = list(parts)
    check(len(chunks) == 1, f"an array in {len(chunks)} parts")
    return chunks[0]


def definition_of(definition: MetricDefinition) -> dict[str, Json]:
    """A metric's definition as it is stored. Raises Undecodable."""
    check_name(definition.name)
    check_texts([definition.x_metric, definition.unit, definition.description])
    return {
        "goal": int(definition.goal),
        "x_metric": definition.x_metric,
        "unit": definition.unit,
        "description": definition.description,
    }


def retention_of(retention: Retention) -> Json:
    """A retention as it is stored; None: everything is kept. Raises Undecodable."""
    days = retention.delete_runs_after_days, retention.drop_points_after_days
    check(min(days) >= 0, f"retention of {min(days)} days")
    if not any(days):
        return None
    return {"delete_runs_after_days": days[0], "drop_points_after_days": days[1]}
