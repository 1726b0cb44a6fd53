"""Errors of grpc, made up."""

from __future__ import annotations

from typing import Any

import grpc

from tracker_client.status_details import METADATA_KEY


class FakeRpcError(grpc.RpcError):
    """As grpc raises it, synchronous: with code, details and trailing metadata."""

    def __init__(self, code: str, text: str | None = None, status: bytes | None = None) -> None:
        """status: an encoded google.rpc.Status that the server sent along."""
        super().__init__(text)
        self._code = grpc.StatusCode[code]
        self._text = text
        self._status = status

    def code(self) -> grpc.StatusCode:
        """The code."""
        return self._code

    def details(self) -> str | None:
        """The message."""
        return self._text

    def trailing_metadata(self) -> Any:
        """Pairs; None when the server did not speak at all."""
        return None if self._status is None else (("x-other", "text"), (METADATA_KEY, self._status))
