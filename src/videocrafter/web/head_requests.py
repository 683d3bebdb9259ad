"""HEAD requests: the headers of the answer to GET, for every route."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from videocrafter.web.security import Receive, Scope, Send


class HeadRequests:
    """ASGI middleware that answers HEAD as GET without the body. Streams end after their headers."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_headers(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                started = True

        async def receive_end() -> MutableMapping[str, Any]:
            # A stream would never end by itself; without a client it does.
            return {"type": "http.disconnect"} if started else await receive()

        # By a later version of the protocol, streams would wait for an error of `send` instead.
        asgi = {**scope.get("asgi", {}), "spec_version": "2.3"}
        await self.app({**scope, "method": "GET", "asgi": asgi}, receive_end, send_headers)
