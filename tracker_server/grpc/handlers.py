"""Between grpc and the servicer: decoding, encoding, errors and the log, in one wrapper around each method.

Handlers take and give bytes, so that a request that is too large or not decodable gets an error of ours, and an
answer that is encoded already is sent as it is. A wrapper costs less than interceptors do.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

import grpc
import structlog
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from tracker.v1 import tracker_service_pb2 as public
from tracker_server.errors import InvalidRequest, ShuttingDown, TrackerError, Violation
from tracker_server.grpc.api_keys import ApiKeys
from tracker_server.grpc.servicer import Servicer
from tracker_server.grpc.status_map import internal_status, is_known, status_of
from tracker_server.ids import new_id
from tracker_server.validation import check_size

SERVICE: Final = public.DESCRIPTOR.services_by_name["TrackerService"]
"""The service's descriptor."""

SLOW_SECONDS: Final = 1.0
"""Calls that take longer are logged."""
MAX_REFUSING_SECONDS: Final = 1.0
"""How long a stop goes on refusing calls after the last one that ran."""

_UnaryMethod: TypeAlias = Callable[[Any, float | None], Awaitable[Message | bytes]]
_StreamMethod: TypeAlias = Callable[[Any, Callable[[Message], Awaitable[None]]], Coroutine[Any, Any, None]]
_Method = TypeVar("_Method", bound=Callable[..., Any])
_Answer = TypeVar("_Answer")
_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
_log = structlog.get_logger()


class Gate:
    """Counts the calls that run, and refuses new ones once it is shut.

    Needed because grpc's own stop cancels every call that is on its way: callers would see a bare CANCELLED.
    """

    def __init__(self) -> None:
        self.calls = 0
        """Calls that run."""
        self.closing = asyncio.Event()
        """Set once it is shut: streams, which have no end of their own, end then."""
        self._refused = 0

    def enter(self) -> None:
        """A call begins. Raises ShuttingDown."""
        if self.closing.is_set():
            self._refused += 1
            raise ShuttingDown(outcome="not_written")
        self.calls += 1

    def leave(self) -> None:
        """A call that was let in ends."""
        self.calls -= 1

    async def shut(self, timeout: float) -> None:
        """Refuses new calls. Returns once those that run have ended and no new ones come, after timeout seconds at most.

        Callers who hear that this server shuts down come back later, elsewhere; for those who do not listen it
        waits MAX_REFUSING_SECONDS.
        """
        self.closing.set()
        loop = asyncio.get_running_loop()
        give_up = loop.time() + timeout
        while loop.time() < give_up:
            if not self.calls:
                give_up = min(give_up, loop.time() + MAX_REFUSING_SECONDS)
            refused = self._refused
            await asyncio.sleep(_QUIET_SECONDS)
            if not self.calls and self._refused == refused:
                return


def tracker_handler(servicer: Servicer, gate: Gate, keys: ApiKeys) -> grpc.GenericRpcHandler:
    """All methods of the service, for callers who have a key."""
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
    for descriptor in SERVICE.methods:
        method = getattr(servicer, _snake_case(descriptor.name), None)
        if method is None:
            continue
        if descriptor.server_streaming:
            stream: Any = _Stream(descriptor, method, gate, keys).answer
            methods[descriptor.name] = grpc.unary_stream_rpc_method_handler(stream)
        else:
            methods[descriptor.name] = grpc.unary_unary_rpc_method_handler(_Call(descriptor, method, gate, keys).answer)
    return grpc.method_handlers_generic_handler(SERVICE.full_name, methods)


class _Rpc(Generic[_Method, _Answer]):
    """One method of the service, as grpc calls it."""

    def __init__(self, descriptor: MethodDescriptor, method: _Method, gate: Gate, keys: ApiKeys) -> None:
        self._name = descriptor.name
        self._method = method
        self._gate = gate
        self._keys = keys
        self._input = message_factory.GetMessageClass(descriptor.input_type)

    async def answer(self, body: bytes, context: _Context) -> _Answer:
        """What is answered; an error is sent as a status with details."""
        try:
            if self._keys.wanted:
                self._keys.check(context.invocation_metadata())
            return await self._let_in(body, context)
        except TrackerError as error:
            status = status_of(error) if is_known(error) else self._unexpected(error)
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller gets a typed answer, and the log the cause
            status = self._unexpected(error)
        # Outside of the try: it ends the call by raising.
        await context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError  # pragma: no cover

    async def _let_in(self, body: bytes, context: _Context) -> _Answer:
        raise NotImplementedError

    def _decode(self, body: bytes) -> Message:
        check_size(len(body))
        try:
            return self._input.FromString(body)
        except DecodeError:
            description = (
                f"the request is no valid {self._input.DESCRIPTOR.full_name}: cut short, text that is not UTF-8, "
                "arrays of odd length, or nested too deeply"
            )
            raise InvalidRequest([Violation("", description)]) from None

    def _unexpected(self, error: Exception) -> Status:
        error_id = new_id()[:12]
        _log.error("internal error", method=self._name, error_id=error_id, exc_info=error)
        return internal_status(error_id)


class _Stream(_Rpc[_StreamMethod, None]):
    """A method that answers with a stream."""

    async def _let_in(self, body: bytes, context: _Context) -> None:
        self._gate.enter()
        try:
            request = self._decode(body)
            await self._until_closing(self._method(request, lambda answer: _write(context, answer)))
        finally:
            self._gate.leave()

    async def _until_closing(self, stream: Coroutine[Any, Any, None]) -> None:
        """Runs a stream until it ends, or this server does. Raises ShuttingDown: the caller goes on with another one."""
        working = asyncio.ensure_future(stream)
        closing = asyncio.ensure_future(self._gate.closing.wait())
        try:
            await asyncio.wait({working, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ShuttingDown
            working.result()
        finally:
            working.cancel()
            closing.cancel()
            await asyncio.gather(working, closing, return_exceptions=True)


class _Call(_Rpc[_UnaryMethod, bytes]):
    """A method with one answer."""

    def __init__(self, descriptor: MethodDescriptor, method: _UnaryMethod, gate: Gate, keys: ApiKeys) -> None:
        super().__init__(descriptor, method, gate, keys)
        self._slow = 0
        self._slow_logged = float("-inf")

    async def _let_in(self, body: bytes, context: _Context) -> bytes:
        self._gate.enter()
        started = time.monotonic()
        try:
            answer = await self._method(self._decode(body), _time_to_answer(context))
            return answer if isinstance(answer, bytes) else answer.SerializeToString()
        finally:
            self._gate.leave()
            elapsed = time.monotonic() - started
            if elapsed > SLOW_SECONDS:
                self._note_slow(started + elapsed, elapsed)

    def _note_slow(self, now: float, elapsed: float) -> None:
        """Logs at most one slow call a second: when the broker hangs, all are."""
        self._slow += 1
        if now - self._slow_logged >= 1:
            _log.warning("slow call", method=self._name, seconds=round(elapsed, 3), slow_calls=self._slow)
            self._slow_logged = now
            self._slow = 0


async def _write(context: _Context, answer: Message) -> None:
    """Sends a message of a stream; returns when the transport has taken it, however slow the caller is."""
    await context.write(answer.SerializeToString())


def _time_to_answer(context: _Context) -> float | None:
    """Seconds in which an answer still reaches the caller: the deadline less what the way back may take."""
    remaining = cast("float | None", context.time_remaining())
    if remaining is None:
        return None
    return remaining * (1 - _ROUNDED_UP) - min(_WAY_BACK_SECONDS, remaining * _WAY_BACK_SHARE)


_WAY_BACK_SECONDS: Final = 0.25
_WAY_BACK_SHARE: Final = 0.1
_ROUNDED_UP: Final = 0.01
"""grpc sends a deadline with two to three digits, rounded up by at most so much."""
_QUIET_SECONDS: Final = 0.05


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
