"""A proxy in front of a broker that ends connections at a chosen byte."""

import asyncio
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Ends its first two connections (one of the publisher, one of the subscriber) after so many bytes of the broker's.

    "Ends" means: closes, or, with freeze, passes on nothing any more and stays open.
    """

    def __init__(self, broker_url: str, after_bytes: int, *, freeze: bool) -> None:
        self._broker = urlsplit(broker_url)
        self._after_bytes = after_bytes
        self._freeze = freeze
        self._connections = 0
        self._server: asyncio.Server
        self._serving: set[asyncio.Task[None]] = set()
        self.ended = 0
        """How many it has ended."""

    @property
    def url(self) -> str:
        """Where to connect instead."""
        port = self._server.sockets[0].getsockname()[1]
        return f"amqp://guest:guest@127.0.0.1:{port}{self._broker.path}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
        # Left alone, they would be found unfinished by some later test.
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self._connections += 1
        left = self._after_bytes if self._connections <= 2 else None
        broker_reader, broker_writer = await asyncio.open_connection(self._broker.hostname, self._broker.port)
        upwards = asyncio.create_task(self._pass_on(reader, broker_writer))
        try:
            while left is None or left > 0:
                data = await broker_reader.read(65536 if left is None else left)
                if not data:
                    break
                left = None if left is None else left - len(data)
                writer.write(data)
                await writer.drain()
            if left == 0:
                self.ended += 1
                if self._freeze:
                    await asyncio.wait({upwards})
        except ConnectionError:
            pass
        finally:
            upwards.cancel()
            for stream in (writer, broker_writer):
                stream.close()
            await asyncio.wait({upwards})

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()
