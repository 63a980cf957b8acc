"""Whether the bridge can do its work: a few questions asked of the things themselves, never of their settings."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import text

from btt_bridge.config import Settings
from btt_bridge.database import reading
from btt_bridge.journal import Journal
from btt_bridge.web.words import size

_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer; `detail` names no patient and quotes no exception."""

    name: str
    well: bool
    #: Whether the bridge must not be called well without it. Without pool or EHR it still takes studies.
    vital: bool
    detail: str


def checks(settings: Settings, journal: Journal) -> list[Check]:
    """Ask everything; a question that raises is answered with no."""
    asked = [
        _asked("database", True, lambda: _database(journal)),
        _asked("spool", True, lambda: _spool(settings)),
        _asked("listener", True, lambda: _answers(settings.accept.host, settings.accept.port)),
        _asked("exchange", False, lambda: _exchange(settings.dispatch.exchange_url)),
    ]
    if settings.fhir_door:
        asked.append(_asked("FHIR door", False, lambda: _answers(settings.fhir.host, settings.fhir.port)))
    return asked


def _asked(name: str, vital: bool, question: Callable[[], tuple[bool, str]]) -> Check:
    try:
        well, detail = question()
    except OSError:
        well, detail = False, "does not answer"
    except Exception as problem:
        well, detail = False, type(problem).__name__
    return Check(name, well, vital, detail)


def _database(journal: Journal) -> tuple[bool, str]:
    with reading(journal.engine) as connection:
        connection.execute(text("SELECT 1"))
    return True, journal.engine.dialect.name


def free_bytes(settings: Settings) -> int:
    """Return the free disk space where objects are received, or will be once the first has come."""
    folder = next(path for path in (settings.spool_dir, *settings.spool_dir.parents) if path.exists())
    return shutil.disk_usage(folder).free


def _spool(settings: Settings) -> tuple[bool, str]:
    free = free_bytes(settings)
    return free >= settings.accept.free_bytes_min, f"{size(free)} free, {size(settings.accept.free_bytes_min)} needed"


def _exchange(url: str) -> tuple[bool, str]:
    parts = urlsplit(url)
    return _answers(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


def _answers(host: str, port: int) -> tuple[bool, str]:
    with socket.create_connection((host, port), timeout=_TIMEOUT_SECONDS):
        return True, f"port {port} answers"
