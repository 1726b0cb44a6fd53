"""Write tokens and page tokens: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

import base64
import re

import pytest

from tests.good_requests import WRITER
from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker_server import tokens
from tracker_server.errors import InvalidRequest
from tracker_server.partitions import partition_of
from tracker_server.tokens import BadToken


def encoded(token: internal.WriteToken | internal.PageToken) -> str:
    return base64.urlsafe_b64encode(token.SerializeToString()).rstrip(b"=").decode()


def test_a_write_token_names_its_write() -> None:
    write = internal.Write(kind=internal.WRITE_KIND_LOG_METRIC, scope_id="run", writer_id=WRITER, sequence=2**62)
    token = tokens.read_write_token(tokens.write_token(write))
    assert token == internal.WriteToken(scope_id="run", writer_id=WRITER, sequence=2**62)


def test_a_write_token_of_an_experiment_says_so() -> None:
    write = internal.Write(
        kind=internal.WRITE_KIND_UPDATE_EXPERIMENT, scope_id="experiment", writer_id=WRITER, sequence=1
    )
    assert tokens.read_write_token(tokens.write_token(write)).experiment


def test_the_token_of_a_close_names_the_last_sequence() -> None:
    for last in (0, 7):
        request = public.CloseWriterRequest(run_id="run", writer_id=WRITER, last_sequence=last)
        token = tokens.read_write_token(tokens.close_token(request))
        assert token == internal.WriteToken(scope_id="run", writer_id=WRITER, sequence=last, closes=True)


def test_tokens_need_no_escaping_in_a_url() -> None:
    for sequence in range(1, 500):
        token = tokens.write_token(internal.Write(scope_id="~" * 3, writer_id=WRITER, sequence=sequence**7))
        assert re.fullmatch(r"[A-Za-z0-9_-]+", token)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "nonsense!",
        "ünïcode",
        "A",
        "AAAA",
        "x" * 100_000,
        encoded(internal.WriteToken()),
        encoded(internal.WriteToken(scope_id="bad id", writer_id=WRITER, sequence=1)),
        encoded(internal.WriteToken(scope_id="run", writer_id="short", sequence=1)),
        encoded(internal.WriteToken(scope_id="run", writer_id=WRITER)),
        encoded(internal.WriteToken(scope_id="run", writer_id=WRITER, sequence=-1)),
        encoded(internal.WriteToken(scope_id="run", writer_id=WRITER, sequence=-1, closes=True)),
        encoded(internal.WriteToken(scope_id="e", writer_id=WRITER, sequence=1, closes=True, experiment=True)),
        encoded(internal.WriteToken(scope_id="run", writer_id=WRITER, sequence=1)) + "\n",
    ],
)
def test_no_other_text_is_a_write_token(text: str) -> None:
    with pytest.raises(BadToken):
        tokens.read_write_token(text)


def test_a_page_token_says_where_to_go_on() -> None:
    request = public.GetMetricHistoryRequest(run_ids=["a"], metrics=["m"], max_points=10)
    assert tokens.read_page_token(request) is None
    request.page_token = tokens.page_token(request, key="k", series_index=0, step=0, step_offset=5)
    token = tokens.read_page_token(request)
    assert token is not None
    assert (token.key, token.series_index, token.HasField("step"), token.step, token.step_offset) == (
        "k",
        0,
        True,
        0,
        5,
    )
    request.page_token = tokens.page_token(request, time_unix_ms=-5)
    token = tokens.read_page_token(request)
    assert token is not None
    assert (token.time_unix_ms, token.HasField("step")) == (-5, False)


def test_only_what_is_asked_for_is_hashed() -> None:
    request = public.GetMetricHistoryRequest(run_ids=["a"], metrics=["m"])
    before = tokens.request_hash(request)
    request.page_token, request.page_size = "token", 7
    request.write_tokens.append("token")
    assert tokens.request_hash(request) == before
    assert request.page_token == "token", "the request itself stays as it is"
    request.min_step = 0
    assert tokens.request_hash(request) != before


def test_requests_of_two_rpcs_never_share_a_hash() -> None:
    assert tokens.request_hash(public.GetRunRequest(run_id="a")) != tokens.request_hash(
        public.GetSummaryRequest(experiment_id="a")
    )


def test_the_hash_is_the_same_in_every_process() -> None:
    request = public.ListRunsRequest(experiment_id="experiment", statuses=[1, 2])  # type: ignore[list-item]  # numbers are taken
    assert tokens.request_hash(request) == 0x70A1A46B0E20C9E1


@pytest.mark.parametrize(
    "change",
    [
        {"request_hash": 1},
        {"time_unix_ms": 2**62},
        {"key": "nul\0"},
        {"key": "x" * 257},
        {"series_index": -1},
        {"series_index": 10_000},
        {"step_offset": -1},
    ],
)
def test_a_forged_page_token_is_refused(change: dict[str, int | str]) -> None:
    request = public.GetRunRequest(run_id="run")
    token = internal.PageToken(request_hash=tokens.request_hash(request))
    for field, value in change.items():
        setattr(token, field, value)
    request.page_token = encoded(token)
    with pytest.raises(InvalidRequest) as caught:
        tokens.read_page_token(request)
    assert [violation.field for violation in caught.value.violations] == ["page_token"]


def test_partitions_are_stable_and_even() -> None:
    assert partition_of("123456789", 2**32) == 0xCBF43926, "the check value of CRC-32"
    assert [partition_of(scope, 8) for scope in ("run", "run-1", "ünïcode", "")] == [0, 3, 2, 0]
    counts = [0] * 8
    for number in range(8_000):
        counts[partition_of(f"run-{number}", 8)] += 1
    assert min(counts) > 800
