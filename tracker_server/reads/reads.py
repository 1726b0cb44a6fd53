"""Answers to reads. Blocking work goes to a pool of as many threads as there are connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableSequence, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tracker.internal.v1 import envelope_pb2 as internal
from tracker.v1 import tracker_service_pb2 as public
from tracker_server import limits
from tracker_server.errors import StoreUnavailable
from tracker_server.filters.conditions import condition_of, order_of
from tracker_server.model.records import Position
from tracker_server.read_through import ReadThrough
from tracker_server.reads import answers
from tracker_server.reads.places import run_place
from tracker_server.reads.visibility import until_visible
from tracker_server.scopes import EXPERIMENT_LIST, STATS, experiment_scope
from tracker_server.store.history_reader import HistoryQuery
from tracker_server.store.ledger import WriterSets
from tracker_server.store.point_reader import StepRange
from tracker_server.store.run_list import RunQuery
from tracker_server.store.store import Store
from tracker_server.tokens import page_token, read_page_token

_T = TypeVar("_T")


class StoreReads:
    """grpc.reads_port.Reads from a store, with a read-through cache before it."""

    def __init__(self, store: Store, read_through: ReadThrough, threads: int) -> None:
        self._store = store
        self._cached = read_through
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="read")
        self.answered = True
        """Whether the database answered when it was last asked."""

    async def get_summary(
        self, request: public.GetSummaryRequest, deadline: float | None
    ) -> public.GetSummaryResponse | bytes:
        """See Reads."""
        scope = experiment_scope(request.experiment_id)
        cacheable = not request.page_token and request.page_size == 0
        return await self._through(
            request.write_tokens,
            deadline,
            scope,
            "summary" if cacheable else None,
            limits.SUMMARY_TTL_SECONDS,
            lambda: self._load_summary(request),
        )

    async def get_run(self, request: public.GetRunRequest, deadline: float | None) -> public.GetRunResponse:
        """See Reads."""
        token = read_page_token(request)
        await self._until_visible(request.write_tokens, deadline)
        size = _page_size(request.page_size, limits.DEFAULT_METRIC_PAGE_SIZE, limits.MAX_METRIC_PAGE_SIZE)
        details = await self._call(self._store.read_run, request.run_id, token.key if token else "", size)
        answer = answers.run_answer(details)
        if _cut(answer.metrics) or details.more_metrics:
            answer.next_page_token = page_token(request, key=answer.metrics[-1].name)
        return answer

    async def list_experiments(
        self, request: public.ListExperimentsRequest, deadline: float | None
    ) -> public.ListExperimentsResponse | bytes:
        """See Reads."""
        cacheable = not request.page_token and request.page_size == 0
        return await self._through(
            request.write_tokens,
            deadline,
            EXPERIMENT_LIST,
            "first page" if cacheable else None,
            limits.SUMMARY_TTL_SECONDS,
            lambda: self._load_experiments(request),
        )

    async def list_runs(self, request: public.ListRunsRequest, deadline: float | None) -> public.ListRunsResponse:
        """See Reads."""
        token = read_page_token(request)
        await self._until_visible(request.write_tokens, deadline)
        return await self._call(self._load_runs, request, token)

    async def list_metrics(
        self, request: public.ListMetricsRequest, deadline: float | None
    ) -> public.ListMetricsResponse:
        """See Reads."""
        token = read_page_token(request)
        await self._until_visible(request.write_tokens, deadline)
        size = _page_size(request.page_size, limits.DEFAULT_PAGE_SIZE, limits.MAX_PAGE_SIZE)
        after = token.key if token else ""
        found, definitions = await self._call(
            self._store.list_metrics, request.experiment_id, request.prefix, after, size + 1
        )
        answer = public.ListMetricsResponse(
            metrics=[answers.listed_metric(record, definitions) for record in found[:size]]
        )
        if _cut(answer.metrics) or len(found) > size:
            answer.next_page_token = page_token(request, key=answer.metrics[-1].name)
        return answer

    async def get_metric_history(self, request: public.GetMetricHistoryRequest, deadline: float | None) -> bytes:
        """See Reads. Encoded straight from the arrays."""
        token = read_page_token(request)
        await self._until_visible(request.write_tokens, deadline)
        return await self._call(self._load_history, request, token)

    async def get_dashboard_stats(
        self, request: public.GetDashboardStatsRequest, deadline: float | None
    ) -> public.GetDashboardStatsResponse | bytes:
        """See Reads."""
        return await self._through(
            request.write_tokens, deadline, STATS, "stats", limits.STATS_TTL_SECONDS, self._load_stats
        )

    async def watch(self, interval_seconds: float) -> None:
        """Keeps `answered` true to the facts while nobody reads. Runs until cancelled."""
        while True:
            await asyncio.sleep(interval_seconds)
            if not self.answered:
                try:
                    await self._call(self._store.check)
                except Exception:  # noqa: BLE001, S112  # whatever it is: not answered, and asked again
                    continue

    async def call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Runs something that reads the store, off the event loop."""
        return await self._call(function, *arguments)

    def close(self) -> None:
        """Waits for the reads under way."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def _through(
        self,
        tokens: Sequence[str],
        deadline: float | None,
        scope: str,
        key: str | None,
        ttl_seconds: int,
        load: Callable[[], bytes],
    ) -> bytes:
        """From the cache, unless the read carries tokens or is not of the kind that is cached."""

        async def loaded() -> bytes:
            return await self._call(load)

        if tokens:
            await self._until_visible(tokens, deadline)
        if tokens or key is None:
            return await loaded()
        return await self._cached.get(scope, key, ttl_seconds, loaded)

    async def _until_visible(self, tokens: Sequence[str], deadline: float | None) -> None:
        if tokens:
            await until_visible(tokens, deadline, self._applied)

    async def _applied(
        self, keys: Collection[tuple[str, str]], experiments: bool
    ) -> Mapping[tuple[str, str], WriterSets]:
        return await self._call(lambda: self._store.applied(keys, experiments=experiments))

    def _call(self, function: Callable[..., _T], *arguments: Any) -> Awaitable[_T]:
        return self._observed(asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments))

    async def _observed(self, work: Awaitable[_T]) -> _T:
        try:
            result = await work
        except StoreUnavailable:
            self.answered = False
            raise
        self.answered = True
        return result

    # ------------------------------------------------------------ on a thread of the pool

    def _load_summary(self, request: public.GetSummaryRequest) -> bytes:
        token = read_page_token(request)
        size = _page_size(request.page_size, limits.DEFAULT_METRIC_PAGE_SIZE, limits.MAX_METRIC_PAGE_SIZE)
        summary = self._store.summarize(request.experiment_id, token.key if token else "", size)
        answer = answers.summary_answer(summary)
        if _cut(answer.metrics) or summary.more_metrics:
            answer.next_page_token = page_token(request, key=answer.metrics[-1].name)
        return answer.SerializeToString()

    def _load_experiments(self, request: public.ListExperimentsRequest) -> bytes:
        token = read_page_token(request)
        size = _page_size(request.page_size, limits.DEFAULT_PAGE_SIZE, limits.MAX_PAGE_SIZE)
        records = self._store.list_experiments((token.time_unix_ms, token.key) if token else None, size + 1)
        answer = public.ListExperimentsResponse(
            experiments=[answers.experiment_message(record) for record in records[:size]]
        )
        if _cut(answer.experiments) or len(records) > size:
            last = records[len(answer.experiments) - 1]
            answer.next_page_token = page_token(request, time_unix_ms=last.created_ms, key=last.experiment_id)
        return answer.SerializeToString()

    def _load_runs(self, request: public.ListRunsRequest, token: internal.PageToken | None) -> public.ListRunsResponse:
        size = _page_size(request.page_size, limits.DEFAULT_PAGE_SIZE, limits.MAX_PAGE_SIZE)
        query = RunQuery(
            experiment_id=request.experiment_id,
            statuses=[int(status) for status in request.statuses],
            condition=condition_of(request.filter),
            order=order_of(request.order_by),
            show_deleted=request.show_deleted,
        )
        after = run_place(token) if token else None
        found, metrics = self._store.find_runs(query, after, size + 1, list(request.metrics))
        answer = public.ListRunsResponse(runs=[answers.run_message(one.record) for one in found[:size]])
        if request.metrics:
            answer.run_metrics.extend(answers.run_metrics(metrics[run.run_id]) for run in answer.runs)
        cut = _cut(answer.runs, answer.run_metrics)
        if cut or len(found) > size:
            last = found[len(answer.runs) - 1].place
            answer.next_page_token = page_token(
                request, time_unix_ms=last.created_ms, key=last.run_id, order_values=json.dumps(last.keys)
            )
        return answer

    def _load_history(self, request: public.GetMetricHistoryRequest, token: internal.PageToken | None) -> bytes:
        page_points = _page_size(request.page_size, limits.MAX_HISTORY_PAGE_POINTS, limits.MAX_HISTORY_PAGE_POINTS)
        query = HistoryQuery(
            run_ids=list(request.run_ids),
            metrics=list(request.metrics),
            steps=StepRange(
                request.min_step if request.HasField("min_step") else None,
                request.max_step if request.HasField("max_step") else None,
            ),
            max_points=request.max_points,
            page_points=page_points,
            attempt=request.attempt if request.HasField("attempt") else None,
        )
        begin = Position()
        if token is not None:
            step = token.step if token.HasField("step") else None
            begin = Position(token.series_index, step, token.step_offset)
        page = self._store.read_history(query, begin)
        answer = internal.PackedHistory(series=[answers.packed_series(part) for part in page.parts])
        if page.following is not None:
            answer.next_page_token = page_token(
                request,
                series_index=page.following.series_index,
                step=page.following.step,
                step_offset=page.following.step_offset,
            )
        return answer.SerializeToString()

    def _load_stats(self) -> bytes:
        return answers.stats_answer(self._store.dashboard_stats()).SerializeToString()


def _cut(items: MutableSequence[Any], beside: MutableSequence[Any] | None = None) -> bool:
    """Takes items off the end of a page that has too many bytes; True when it took any. One always stays.

    beside: as many, which belong to them, or none.
    """
    total = 0
    for index, item in enumerate(items):
        total += item.ByteSize() + (beside[index].ByteSize() if beside else 0)
        if total > limits.MAX_PAGE_BYTES and index > 0:
            del items[index:]
            if beside:
                del beside[index:]
            return True
    return False


def _page_size(asked: int, default: int, largest: int) -> int:
    return min(asked or default, largest)
