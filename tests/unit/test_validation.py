"""Every rule of every request: the violation it gives, and the legal but nasty data that gives none."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tests.good_requests import GOOD, WRITE_TOKEN, WRITER, Change, clear, extend, put, set_config, set_entry
from tracker.v1 import tracker_service_pb2 as public
from tracker.v1.resources_pb2 import ConfigMap, MetricBlock, MetricColumn, RunStatus
from tracker_server import limits, tokens
from tracker_server.errors import InvalidRequest, RequestTooLarge
from tracker_server.validation import CHECKS, check_size, validate

FOUR_BYTES = "\U0001f600"


def nested_config(levels: int) -> ConfigMap:
    """A config so many levels deep."""
    config = innermost = ConfigMap()
    for _ in range(levels - 1):
        innermost = innermost.values["deeper"].map_value
    innermost.values["leaf"].int_value = 1
    return config


LONG = "x" * 257
BAD_IDS = ["has space", "slash/ed", "ümlaut", "x" * 129, "a\0b", "line\n"]

CASES: list[tuple[str, Change, list[str]]] = [
    *((rpc, put("run_id", bad), ["run_id"]) for rpc in GOOD if "run_id" in GOOD[rpc].DESCRIPTOR.fields_by_name
      for bad in BAD_IDS),
    *((rpc, clear("run_id"), ["run_id"]) for rpc in GOOD if "run_id" in GOOD[rpc].DESCRIPTOR.fields_by_name
      if rpc != "StartRun"),
    *((rpc, put("experiment_id", bad), ["experiment_id"]) for rpc in GOOD
      if "experiment_id" in GOOD[rpc].DESCRIPTOR.fields_by_name for bad in BAD_IDS),
    *((rpc, clear("experiment_id"), ["experiment_id"]) for rpc in ("UpdateExperiment", "GetSummary")),
    *((rpc, put("attempt", -1), ["attempt"]) for rpc in GOOD if "attempt" in GOOD[rpc].DESCRIPTOR.fields_by_name),
    *((rpc, put("timestamp.seconds", bad), ["timestamp.seconds"]) for rpc in GOOD
      if "timestamp" in GOOD[rpc].DESCRIPTOR.fields_by_name for bad in (-62_135_596_801, 253_402_300_800)),
    *((rpc, put("timestamp.nanos", bad), ["timestamp.nanos"]) for rpc in GOOD
      if "timestamp" in GOOD[rpc].DESCRIPTOR.fields_by_name for bad in (-1, 1_000_000_000)),
    *((rpc, put("writer_id", bad), ["writer_id"]) for rpc in GOOD
      if "writer_id" in GOOD[rpc].DESCRIPTOR.fields_by_name for bad in ("", "x" * 15, "x" * 129, "with space in it")),
    *((rpc, put("sequence", bad), ["sequence"]) for rpc in GOOD
      if "sequence" in GOOD[rpc].DESCRIPTOR.fields_by_name for bad in (0, -1)),
    *((rpc, put("page_size", -1), ["page_size"]) for rpc in GOOD if "page_size" in GOOD[rpc].DESCRIPTOR.fields_by_name),
    *((rpc, put("page_token", bad), ["page_token"]) for rpc in GOOD
      if "page_token" in GOOD[rpc].DESCRIPTOR.fields_by_name for bad in ("nonsense", "ü", WRITE_TOKEN)),
    *((rpc, extend("write_tokens", "nonsense", WRITE_TOKEN, ""), ["write_tokens[1]", "write_tokens[3]"])
      for rpc in GOOD if "write_tokens" in GOOD[rpc].DESCRIPTOR.fields_by_name),
    *((rpc, extend("write_tokens", *[WRITE_TOKEN] * 100), ["write_tokens"])
      for rpc in GOOD if "write_tokens" in GOOD[rpc].DESCRIPTOR.fields_by_name),
    # Names, texts and entries.
    *((rpc, put(f"{prefix}name", bad), [f"{prefix}name"])
      for rpc, prefix in (("StartRun", ""), ("UpdateRun", "changes."), ("UpdateExperiment", "changes."))
      for bad in (LONG, "nul\0")),
    *((rpc, put("changes.notes", bad), ["changes.notes"]) for rpc in ("UpdateRun", "UpdateExperiment")
      for bad in ("x" * 65_537, "\0")),
    *((rpc, extend(f"{prefix}tags", "", LONG, "\0"), [f"{prefix}tags[1]", f"{prefix}tags[2]", f"{prefix}tags[3]"])
      for rpc, prefix in (("StartRun", ""), ("UpdateRun", "changes."), ("UpdateExperiment", "changes."))),
    *((rpc, extend(f"{prefix}tags", *["tag"] * 1_000), [f"{prefix}tags"])
      for rpc, prefix in (("StartRun", ""), ("UpdateRun", "changes."), ("UpdateExperiment", "changes."))),
    *((rpc, set_entry(field, key, value), [f'{field}["{shown}"]'])
      for rpc, field in (("StartRun", "metadata"), ("RunCompleted", "metadata"), ("RunCompleted", "artifacts"),
                         ("UpdateRun", "changes.metadata"), ("UpdateRun", "changes.artifacts"),
                         ("UpdateExperiment", "changes.metadata"))
      for key, value, shown in (("", "v", ""), ("nul\0", "v", "nul\\u0000"), ("k", "nul\0", "k"),
                                ("k", "x" * 65_537, "k"), ("long" * 65, "v", "long" * 15 + "…"))),
    ("RunCompleted", lambda request: request.metadata.update({str(number): "" for number in range(1_001)}), ["metadata"]),
    *(("RunCompleted", set_entry("final_metrics", key, 1.0), [f'final_metrics["{shown}"]'])
      for key, shown in (("", ""), ("tab\t", "tab\\t"), (LONG, "x" * 60 + "…"))),
    ("RunCompleted", lambda request: request.final_metrics.update({f"m{n}": n for n in range(1_001)}), ["final_metrics"]),
    *(("RunCompleted", put("status", bad), ["status"]) for bad in (0, 1, 6, 99, -1)),
    *((rpc, put("reason", bad), ["reason"]) for rpc in ("RunCompleted", "StopRun") for bad in ("x" * 65_537, "\0")),
    ("RewindRun", put("step", 2**63 - 1), ["step"]),
    *((rpc, put(f"{prefix}{field}", bad), [f"{prefix}{field}"])
      for rpc, prefix in (("StartRun", ""), ("UpdateRun", "changes."))
      for field, bad in (("parent_run_id", "has space"), ("parent_run_id", "x" * 129), ("group", LONG), ("group", "\0"))),
    *(("UpdateExperiment", lambda request, part=part, bad=bad: setattr(request.changes.metric_definitions[0], part, bad),
       [f"changes.metric_definitions[0].{part}"])
      for part, bad in (("name", ""), ("name", LONG), ("goal", 9), ("x_metric", LONG), ("unit", LONG),
                        ("description", "\0"))),
    ("UpdateExperiment", lambda request: request.changes.metric_definitions.add(name="val/*"),
     ["changes.metric_definitions[1]"]),
    *(("UpdateExperiment", put(f"changes.retention.{part}", -1), [f"changes.retention.{part}"])
      for part in ("delete_runs_after_days", "drop_points_after_days")),
    # Points.
    *(("LogMetric", put("name", bad), ["name"]) for bad in ("", LONG, "line\nbreak", "\0", "del\x7f", "c1\x85")),
    ("LogMetrics", lambda request: request.blocks[0].ClearField("steps"),
     ["blocks[0].steps", "blocks[0].times_unix_ms", "blocks[0].columns[0].values"]),
    ("LogMetrics", lambda request: request.blocks[0].ClearField("columns"), ["blocks[0].columns"]),
    ("LogMetrics", lambda request: request.blocks[0].times_unix_ms.pop(), ["blocks[0].times_unix_ms"]),
    ("LogMetrics", lambda request: request.blocks[0].columns[0].values.pop(), ["blocks[0].columns[0].values"]),
    ("LogMetrics", lambda request: request.blocks[0].columns.add(name="other"), ["blocks[0].columns[1].values"]),
    ("LogMetrics", lambda request: request.blocks[0].columns.add(name="loss", values=[1, 2, 3]),
     ["blocks[0].columns[1].name"]),
    *(("LogMetrics", lambda request, bad=bad: request.blocks[0].columns.add(name=bad, values=[1, 2, 3]),
       ["blocks[0].columns[1].name"]) for bad in ("", LONG, "tab\t", "\0")),
    *(("LogMetrics", lambda request, bad=bad: request.blocks[0].times_unix_ms.__setitem__(1, bad),
       ["blocks[0].times_unix_ms[1]"]) for bad in (-62_135_596_800_001, 253_402_300_800_000)),
    *(("LogMetrics", lambda request, bad=bad: request.blocks.add(
        steps=range(100), times_unix_ms=[*[0] * 98, bad, 0], columns=[MetricColumn(name="m", values=[0.0] * 100)]),
       ["blocks[1].times_unix_ms[98]"]) for bad in (-62_135_596_800_001, 253_402_300_800_000, 2**63 - 1)),
    ("LogMetrics", lambda request: request.blocks.add(
        steps=range(100_000), columns=[MetricColumn(name=name, values=[0.0] * 100_000) for name in "abc"]), ["blocks"]),
    ("LogMetrics", put("dropped_points", -1), ["dropped_points"]),
    ("LogMetrics", put("dropped_points", 1), ["dropped_points"]),
    *(("CloseWriter", put("writer_id", bad), ["writer_id"]) for bad in ("", "x" * 15)),
    ("CloseWriter", put("last_sequence", -1), ["last_sequence"]),
    # Configs.
    *((rpc, set_config(path, nested_config(33)), ["…"]) for rpc, path in (("StartRun", "config"), ("UpdateRun", "changes.config"))),
    *((rpc, change, [f"{path}{found}"]) for rpc, path in (("StartRun", "config"), ("UpdateRun", "changes.config"))
      for change, found in (
          (lambda request, path=path: config_of(request, path).values["unset"].SetInParent(), '["unset"]'),
          (lambda request, path=path: config_of(request, path).values["a"].list_value.values.add(), '["a"][0]'),
          (lambda request, path=path: put("int_value", 1)(config_of(request, path).values[""]), '[""]'),
          (lambda request, path=path: put("int_value", 1)(config_of(request, path).values["\0"]), '["\\u0000"]'),
          (lambda request, path=path: put("string_value", "\0")(config_of(request, path).values["a"]), '["a"]'),
          (lambda request, path=path: put("string_value", "x" * limits.MAX_CONFIG_BYTES)(
              config_of(request, path).values["a"]), ""),
          (lambda request, path=path: put("string_value", "\0")(
              config_of(request, path).values["a"].map_value.values["b"].list_value.values.add()), '["a"]["b"][0]'),
      )),
    # Masks.
    *(("UpdateRun", extend("update_mask.paths", bad), ["update_mask.paths[6]"])
      for bad in ("", "run_id", "name.x", "stop_requested.x", "config.", "tags." + LONG, "metadata.\0", "Config.a")),
    *(("UpdateExperiment", extend("update_mask.paths", bad), ["update_mask.paths[4]"])
      for bad in ("", "config", "artifacts.a", "tags.", "stop_requested")),
    # Reads.
    *(("ListRuns", extend("statuses", bad), ["statuses[1]"]) for bad in (0, 7, -1)),
    *(("ListRuns", put(field, "x" * 10_001), [field]) for field in ("filter", "order_by")),
    *((rpc, extend("metrics", "", "val/loss", "val/loss"), ["metrics[1]", "metrics[2]", "metrics[3]"])
      for rpc in ("ListRuns",)),
    ("ListMetrics", put("prefix", LONG), ["prefix"]),
    ("WatchRuns", extend("run_ids", "b c", "run"), ["run_ids[1]", "run_ids[2]"]),
    ("WatchRuns", extend("metrics", *(f"m{number}" for number in range(100))), ["metrics"]),
    ("GetMetricHistory", clear("run_ids"), ["run_ids"]),
    ("GetMetricHistory", clear("metrics"), ["metrics"]),
    ("GetMetricHistory", extend("run_ids", *(f"r{number}" for number in range(99))), ["run_ids"]),
    ("GetMetricHistory", extend("metrics", *(f"m{number}" for number in range(100))), ["metrics"]),
    ("GetMetricHistory", extend("run_ids", "a", "", "b c"), ["run_ids[3]", "run_ids[4]", "run_ids[2]"]),
    ("GetMetricHistory", extend("metrics", "loss", "", "\n"), ["metrics[2]", "metrics[3]", "metrics[1]"]),
    ("GetMetricHistory", put("max_step", -6), ["min_step"]),
    *(("GetMetricHistory", put("max_points", bad), ["max_points"]) for bad in (-1, 1, 3, 10_001)),
]  # fmt: skip


def config_of(request: Any, path: str) -> ConfigMap:
    """The config of a request, given by its path, emptied of what the good request has."""
    for part in path.split("."):
        request = getattr(request, part)
    assert isinstance(request, ConfigMap)
    return request


def violated(request: Message) -> list[str]:
    with pytest.raises(InvalidRequest) as caught:
        validate(request)
    assert all(violation.description for violation in caught.value.violations)
    return [violation.field for violation in caught.value.violations]


def test_every_request_has_a_check_and_an_example() -> None:
    service = public.DESCRIPTOR.services_by_name["TrackerService"]
    assert {kind.DESCRIPTOR for kind in CHECKS} == {method.input_type for method in service.methods}
    assert set(GOOD) == {method.name for method in service.methods}


@pytest.mark.parametrize("rpc", GOOD)
def test_a_good_request_passes(rpc: str) -> None:
    validate(GOOD[rpc])


@pytest.mark.parametrize(("rpc", "change", "fields"), CASES)
def test_a_wrong_field_is_named(rpc: str, change: Change, fields: list[str]) -> None:
    request = copy.deepcopy(GOOD[rpc])
    change(request)
    found = violated(request)
    if fields == ["…"]:
        assert "…" in found.pop()
    else:
        assert found == fields


def test_all_that_is_wrong_is_listed_at_once() -> None:
    request = public.RunCompletedRequest(
        run_id="bad id",
        experiment_id="bad id",
        status=RunStatus.RUN_STATUS_RUNNING,
        final_metrics={"": 1.0},
        artifacts={"model": "\0"},
        metadata={"": ""},
        timestamp=Timestamp(seconds=10**15, nanos=-1),
        attempt=-1,
        writer_id="short",
        sequence=-1,
    )
    assert violated(request) == [
        "run_id",
        "experiment_id",
        "status",
        'final_metrics[""]',
        'artifacts["model"]',
        'metadata[""]',
        "timestamp.seconds",
        "timestamp.nanos",
        "attempt",
        "writer_id",
        "sequence",
    ]


def test_a_hundred_violations_are_listed_and_the_rest_counted() -> None:
    request = public.StartRunRequest(tags=[""] * 250)
    with pytest.raises(InvalidRequest) as caught:
        validate(request)
    assert len(caught.value.violations) == 101
    assert caught.value.violations[99].field == "tags[99]"
    assert caught.value.violations[100].description == "and 150 more violations"


def test_nobody_counts_a_million_violations() -> None:
    request = public.LogMetricsRequest(run_id="run", blocks=[MetricBlock()] * 100_000)
    with pytest.raises(InvalidRequest) as caught:
        validate(request)
    assert caught.value.violations[100].description == "and at least 9900 more violations"


def test_descriptions_show_the_value_shortened() -> None:
    with pytest.raises(InvalidRequest) as caught:
        validate(public.HeartbeatRequest(run_id="no spaces " * 100_000))
    description = caught.value.violations[0].description
    assert "'no spaces no spaces" in description
    assert "(1000000 characters)" in description
    assert len(description) < 250


@pytest.mark.parametrize(
    "name", ["x", "x" * 256, FOUR_BYTES * 256, " ", "\u2028", "a/b.c-d_e", "\u00a0", "ünïcode", "\xad"]
)
def test_nasty_names_are_legal(name: str) -> None:
    validate(public.LogMetricRequest(run_id="run", name=name))
    validate(
        public.LogMetricsRequest(
            run_id="r", blocks=[MetricBlock(steps=[1], columns=[MetricColumn(name=name, values=[1])])]
        )
    )


def test_257_four_byte_characters_are_one_too_many() -> None:
    assert violated(public.LogMetricRequest(run_id="run", name=FOUR_BYTES * 257)) == ["name"]


def test_nasty_points_are_legal() -> None:
    values = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e308, 1e308]
    steps = [2**63 - 1, -(2**63), 2**62, -(2**62), 0, 0, 0]
    times = [limits.MIN_TIME_MS, limits.MAX_TIME_MS, 0, 0, 0, 0, 0]
    block = MetricBlock(steps=steps, times_unix_ms=times, columns=[MetricColumn(name="m", values=values)])
    long = MetricBlock(steps=steps * 20, times_unix_ms=times * 20, columns=[MetricColumn(name="m", values=values * 20)])
    untimed = MetricBlock(steps=steps, columns=[MetricColumn(name="m", values=values)])
    validate(public.LogMetricsRequest(run_id="." * 128, blocks=[block, long, untimed]))


def test_the_most_points_are_legal() -> None:
    columns = [MetricColumn(name=name, values=[0.0] * 125_000) for name in "ab"]
    validate(public.LogMetricsRequest(run_id="run", blocks=[MetricBlock(steps=range(125_000), columns=columns)]))


def test_void_and_empty_writes_are_legal() -> None:
    validate(public.LogMetricsRequest(run_id="run", writer_id=WRITER, sequence=1, dropped_points=2**62))
    validate(public.LogMetricsRequest(run_id="run", writer_id=WRITER, sequence=2**63 - 1))
    validate(public.CloseWriterRequest(run_id="run", writer_id=WRITER))


def test_the_bounds_of_time_are_legal() -> None:
    for seconds, nanos in ((-62_135_596_800, 0), (253_402_300_799, 999_999_999)):
        validate(public.LogMetricRequest(run_id="r", name="m", timestamp=Timestamp(seconds=seconds, nanos=nanos)))


def test_a_config_of_32_levels_is_legal() -> None:
    validate(public.StartRunRequest(config=nested_config(32)))
    validate(public.UpdateRunRequest(run_id="run", changes=public.RunChanges(config=nested_config(32))))


def test_lists_count_as_levels() -> None:
    config = ConfigMap()
    value = config.values["list"]
    for _ in range(31):
        value = value.list_value.values.add()
    value.int_value = 1
    validate(public.StartRunRequest(config=config))
    value.list_value.SetInParent()
    assert len(violated(public.StartRunRequest(config=config))) == 1


def test_a_path_deep_in_a_config_is_short_enough_to_send() -> None:
    config = ConfigMap()
    innermost = config
    for _ in range(31):
        innermost = innermost.values["k" * 256].map_value
    innermost.values["leaf"].SetInParent()
    (field,) = violated(public.StartRunRequest(config=config))
    assert len(field) <= 201
    assert field.startswith('config["kkk')
    assert field.endswith('["leaf"]')


def test_mask_keys_may_have_dots() -> None:
    paths = ["config.a.b.c", "config..", "metadata.key with space", "tags." + FOUR_BYTES * 256]
    validate(public.UpdateRunRequest(run_id="run", update_mask=FieldMask(paths=paths)))


def test_a_page_token_answers_only_its_own_request() -> None:
    request = public.ListRunsRequest(experiment_id="a", page_size=3)
    token = tokens.page_token(request, time_unix_ms=5, key="run")
    validate(public.ListRunsRequest(experiment_id="a", page_size=500, page_token=token, write_tokens=[WRITE_TOKEN]))
    assert violated(public.ListRunsRequest(experiment_id="b", page_token=token)) == ["page_token"]
    assert violated(public.ListExperimentsRequest(page_token=token)) == ["page_token"]


def test_a_page_token_cannot_go_on_behind_the_last_series() -> None:
    request = public.GetMetricHistoryRequest(run_ids=["a"], metrics=["m", "n"])
    request.page_token = tokens.page_token(request, series_index=1)
    validate(request)
    request.page_token = tokens.page_token(request, series_index=2)
    assert violated(request) == ["page_token"]


def test_sizes() -> None:
    check_size(limits.MAX_REQUEST_BYTES)
    with pytest.raises(RequestTooLarge) as caught:
        check_size(limits.MAX_REQUEST_BYTES + 1)
    assert caught.value.metadata == {"size": "2097153", "limit": "2097152"}
    assert "2097153" in str(caught.value)
