"""Serves one ASGI application on one port until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

_STOP_SECONDS = 3


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(
    application: ASGIApp,
    address: tuple[str, int],
    stop: threading.Event,
    ready: Callable[[int], None],
    *,
    closing: Callable[[], None] = lambda: None,
    certificate: tuple[Path, Path] | None = None,
) -> None:
    """Serve until `stop` is set; `ready` is told the port once it answers, `closing` is called before connections end.

    With a certificate and its private key, as PEM files, it speaks HTTPS.
    """
    listener = socket.create_server(address, backlog=512)
    # Every connection inherits it. asyncio sets it only on sockets that name their protocol, which this one does not,
    # and an answer in two parts would wait 40 ms for the other side's acknowledgment.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = _Server(
        uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=_STOP_SECONDS,
            server_header=False,
            # Who asks is who connects: a header that a proxy sets is one that a stranger can send.
            proxy_headers=False,
            ssl_certfile=certificate[0] if certificate else None,
            ssl_keyfile=certificate[1] if certificate else None,
        )
    )

    async def run() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        ready(listener.getsockname()[1])
        while not stop.is_set() and not serving.done():
            await asyncio.sleep(0.05)
        closing()
        server.should_exit = True
        await serving

    asyncio.run(run())
