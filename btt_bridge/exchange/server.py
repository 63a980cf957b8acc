"""The exchange as one process: market, door and doorbell put together and served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette

from btt_bridge.clock import Clock, SystemClock
from btt_bridge.config import Settings
from btt_bridge.doorbell import Doorbell, node_queue
from btt_bridge.exchange.admission import Admission
from btt_bridge.exchange.door import Door
from btt_bridge.exchange.market import Market
from btt_bridge.parcel import Shelf
from btt_bridge.signing import Signer

_STOP_SECONDS = 3


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def app(settings: Settings, *, clock: Clock | None = None) -> Starlette:
    """Return the exchange of these settings as an ASGI application, with its door and its bell in `state`."""
    clock = clock or SystemClock()
    limits = settings.exchange
    signer = Signer.load(settings.keys_dir / "exchange.key")
    bell = Doorbell(settings.pool_broker_url, "exchange", signer, (), clock=clock)
    market = Market(
        settings.exchange_database_url,
        Shelf(settings.parcels_url),
        limits,
        ring=lambda node_id, offer_id: bell.ring("offer", offer_id, queue=node_queue(node_id)),
        clock=clock,
    )
    admission = Admission(
        settings.exchange_database_url,
        limits.bridges,
        limits.nodes,
        clock_skew_seconds=limits.clock_skew_seconds,
        clock=clock,
    )
    door = Door(market, admission, signer.public, node_queue)
    application = door.application()
    application.state.door, application.state.bell = door, bell
    return application


def serve(settings: Settings, stop: threading.Event, ready: Callable[[int], None]) -> None:
    """Serve the exchange until `stop` is set; `ready` is told the port once it answers."""
    application = app(settings)
    listener = socket.create_server((settings.exchange.host, settings.exchange.port), backlog=512)
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
        )
    )

    async def run() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        ready(listener.getsockname()[1])
        while not stop.is_set() and not serving.done():
            await asyncio.sleep(0.05)
        application.state.door.close()
        server.should_exit = True
        await serving

    asyncio.run(run())
    application.state.bell.close()
