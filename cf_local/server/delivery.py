"""Responses that take long to compute; cancelled as soon as the client disconnects.

A stream starts with its first event, so that an earlier error gets a proper status code. If the
first event takes long, the stream starts without it, and comments keep the connection alive.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from cf_local.server.api_errors import ApiError
from cf_local.server.choice import Delta
from cf_local.server.dialects.dialect import Formatter
from cf_local.server.serve_options import ServeOptions


class WholeResponse(Response):
    """A response with one JSON body, once that is computed."""

    def __init__(self, body: Coroutine[Any, Any, Any], headers: Mapping[str, str]) -> None:
        super().__init__()
        self._body = body
        self._more_headers = {"cache-control": "no-store", **headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Compute and send the body; raises ClientGone if the client disconnects first."""

        async def deliver() -> None:
            body = await self._body
            # Vectors are millions of numbers.
            response = await asyncio.to_thread(JSONResponse, body, headers=self._more_headers)
            await response(scope, receive, send)

        await _unless_gone(receive, deliver())


async def whole_answers(formatter: Formatter, deltas: AsyncGenerator[Delta]) -> Mapping[str, Any]:
    """The body for the answers, once they are complete."""
    async with aclosing(deltas):
        choices = {delta.choice.index: delta.choice async for delta in deltas}
    return formatter.whole([choices[index] for index in sorted(choices)])


class EventStream(Response):
    """The events of a formatter, as they come."""

    def __init__(
        self,
        formatter: Formatter,
        deltas: AsyncGenerator[Delta],
        options: ServeOptions,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__()
        self._formatter, self._deltas, self._options = formatter, deltas, options
        self._more_headers = [(k.encode(), v.encode()) for k, v in headers.items()]
        self._is_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events as they come; raises ClientGone if the client disconnects."""
        await _unless_gone(receive, self._deliver(send))

    async def _deliver(self, send: Send) -> None:
        beat = asyncio.create_task(self._beat(send))
        try:
            async with (
                aclosing(self._deltas) as deltas,
                aclosing(self._formatter.events(deltas)) as events,
            ):
                async for event in events:
                    await self._send(send, event)
        except ApiError as error:
            if not self._is_started:
                raise
            await self._send(send, self._formatter.failed(error))
        finally:
            beat.cancel()
            with suppress(asyncio.CancelledError, OSError, TimeoutError):
                await beat
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _beat(self, send: Send) -> None:
        """Start the stream if no event does, and keep it alive."""
        await asyncio.sleep(self._options.first_s)
        while True:
            await self._send(send, self._formatter.heartbeat)
            await asyncio.sleep(self._options.alive_s)

    async def _send(self, send: Send, event: bytes) -> None:
        """Send an event, after the headers if needed. Clients that stop reading count as gone."""
        if not self._is_started:
            self._is_started = True
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [
                        (b"content-type", f"{self._formatter.stream_type}; charset=utf-8".encode()),
                        (b"cache-control", b"no-store"),
                        (b"x-accel-buffering", b"no"),
                        *self._more_headers,
                    ],
                }
            )
        try:
            async with asyncio.timeout(self._options.send_s):
                await send({"type": "http.response.body", "body": event, "more_body": True})
        except TimeoutError:
            raise ClientGone from None


class ClientGone(Exception):
    """The client does not read the response."""


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work``; if the client disconnects, cancel it and raise ClientGone."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        await task
    finally:
        await _ended(gone)
        await _ended(task)


async def _ended(task: "asyncio.Future[None]") -> None:
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _gone(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
