"""The exchange as one process: market, door and doorbell put together and served."""

from __future__ import annotations

import threading
from collections.abc import Callable

from starlette.applications import Starlette

from btt_bridge import asgi
from btt_bridge.clock import Clock, SystemClock
from btt_bridge.config import Settings
from btt_bridge.doorbell import Doorbell, node_queue
from btt_bridge.exchange.admission import Admission
from btt_bridge.exchange.door import Door
from btt_bridge.exchange.market import Market
from btt_bridge.parcel import Shelf
from btt_bridge.signing import Signer


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
    door = Door(market, admission, signer, node_queue)
    application = door.application()
    application.state.door, application.state.bell = door, bell
    return application


def serve(settings: Settings, stop: threading.Event, ready: Callable[[int], None]) -> None:
    """Serve the exchange until `stop` is set; `ready` is told the port once it answers."""
    application = app(settings)
    address = (settings.exchange.host, settings.exchange.port)
    asgi.serve(application, address, stop, ready, closing=application.state.door.close)
    application.state.bell.close()
