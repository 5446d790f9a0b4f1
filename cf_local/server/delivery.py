"""Responses that take long to compute; cancelled as soon as the client disconnects.

A stream starts with its first event, so that an earlier error gets a proper status code. If the
first event takes long, the stream starts without it, and comments keep the connection alive.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from cf_local.server.api_errors import ApiError
from cf_local.server.serve_options import ServeOptions

Body = dict[str, Any]

_DONE = "data: [DONE]\n\n"
_COMMENT = ": still working\n\n"


class WholeResponse(Response):
    """A response with one JSON body, which ``work`` computes."""

    def __init__(
        self, work: Callable[[], Coroutine[Any, Any, Body]], headers: Mapping[str, str]
    ) -> None:
        super().__init__()
        self._work, self._more_headers = work, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Compute and send the body; raises ClientGone if the client disconnects first."""

        async def deliver() -> None:
            headers = {"cache-control": "no-store", **self._more_headers}
            response = JSONResponse(await self._work(), headers=headers)
            await response(scope, receive, send)

        await _unless_gone(receive, deliver())


class EventStream(Response):
    """Server-sent events, one for each of ``bodies``."""

    def __init__(
        self, bodies: AsyncGenerator[Body], options: ServeOptions, headers: Mapping[str, str]
    ) -> None:
        super().__init__()
        self._bodies, self._options = bodies, options
        self._more_headers = [(k.encode(), v.encode()) for k, v in headers.items()]
        self._is_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events as they come; raises ClientGone if the client disconnects."""
        await _unless_gone(receive, self._deliver(send))

    async def _deliver(self, send: Send) -> None:
        beat = asyncio.create_task(self._beat(send))
        try:
            async with aclosing(self._bodies) as bodies:
                async for body in bodies:
                    await self._send(send, f"data: {json.dumps(body, ensure_ascii=False)}\n\n")
            await self._send(send, _DONE)
        except ApiError as error:
            if not self._is_started:
                raise
            await self._send(send, f"data: {json.dumps(error.body, ensure_ascii=False)}\n\n")
        finally:
            beat.cancel()
            with suppress(asyncio.CancelledError, OSError, TimeoutError):
                await beat
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _beat(self, send: Send) -> None:
        """Start the stream if no event does, and keep it alive with comments."""
        await asyncio.sleep(self._options.first_s)
        while True:
            await self._send(send, _COMMENT)
            await asyncio.sleep(self._options.alive_s)

    async def _send(self, send: Send, text: str) -> None:
        """Send text, after the headers if needed; a client that stops reading counts as gone."""
        if not self._is_started:
            self._is_started = True
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [
                        (b"content-type", b"text/event-stream; charset=utf-8"),
                        (b"cache-control", b"no-store"),
                        (b"x-accel-buffering", b"no"),
                        *self._more_headers,
                    ],
                }
            )
        try:
            async with asyncio.timeout(self._options.send_s):
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
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
