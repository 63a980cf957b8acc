"""The pages as one ASGI application: which address shows what, and what every page is given."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from btt_bridge.clock import Clock
from btt_bridge.config import Settings
from btt_bridge.journal import Journal
from btt_bridge.ledger import Ledger
from btt_bridge.store import Store
from btt_bridge.web.pages import Pages
from btt_bridge.web.security import Guard


def app(settings: Settings, journal: Journal, ledger: Ledger, store: Store, clock: Clock) -> Starlette:
    """Return the read-only pages, `/health` and `/metrics`; the handlers are synchronous and run in threads."""
    pages = Pages(settings, journal, ledger, store, clock)
    return Starlette(
        routes=[
            Route("/", pages.studies),
            Route("/studies/{name}", pages.study),
            Route("/studies/{journey_id:int}/pictures/{delivery_id:int}.png", pages.picture),
            Route("/queue", pages.queue),
            Route("/ledger", pages.accounts),
            Route("/prices", pages.prices),
            Route("/settlement", pages.settlement),
            Route("/health", pages.health),
            Route("/metrics", pages.metrics),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[Middleware(Guard, hostnames=settings.web.hostnames)],
        exception_handlers={404: pages.missing, 405: pages.missing, 500: pages.broken},
    )
