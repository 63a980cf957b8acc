"""What every answer says to the browser, and which host names we answer to."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: No script, no frame, nothing from anywhere else, nothing kept on a shared workstation, no study in a Referer.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Middleware: refuses a strange Host, and adds the headers to whatever answers.

    A page somewhere on the internet can point a name of its own at our address and have a browser inside the
    hospital read what is here (DNS rebinding); it cannot do so by an address or by a name that we know.
    """

    def __init__(self, app: ASGIApp, hostnames: Collection[str]) -> None:
        self.app = app
        self.hostnames = {name.lower() for name in hostnames} | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif self._known(Headers(scope=scope).get("host", "")):
            await self.app(scope, receive, send_guarded)
        else:
            refusal = PlainTextResponse("This bridge does not go by that name (web.hostnames).", status_code=400)
            await refusal(scope, receive, send_guarded)

    def _known(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.strip("[]").lower()
        if name in self.hostnames:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
