"""Log lines as dicts through a list of small functions; the last lets through only the fields on the list."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

#: The only fields that may leave. None of them holds a value that came out of a patient's data: a study is
#: named by its journey number, an instance by its index row.
ALLOWED = frozenset({
    "event", "level", "timestamp", "stage", "state", "journey", "revision", "instance", "instances", "count",
    "size_bytes", "seconds", "attempt", "route", "service", "destination", "node", "offer", "lease", "status",
    "error", "reason", "advice", "address", "port", "ae_title", "setting", "file", "line", "pid", "process",
    "version", "asset", "units", "path", "method",
})  # fmt: skip


def allow(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Drop every field that is not on the list, and say how many were dropped."""
    dropped = event_dict.keys() - ALLOWED
    for key in dropped:
        del event_dict[key]
    if dropped:
        event_dict["count"] = event_dict.get("count", len(dropped))
    return event_dict


def exception_name(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Replace an exception by its class: texts and tracebacks of libraries quote the data they choked on."""
    problem = event_dict.pop("exc_info", None)
    if problem is True:
        problem = sys.exc_info()
    if isinstance(problem, tuple):
        problem = problem[1]
    if isinstance(problem, BaseException):
        event_dict["error"] = type(problem).__name__
    return event_dict


def configure(level: str = "INFO") -> None:
    """Write JSON lines to standard error; silence libraries that log what they see."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            exception_name,
            allow,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    for library in ("pynetdicom", "pydicom", "highdicom", "celery", "kombu", "uvicorn", "sqlalchemy"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def logger(stage: str) -> Any:
    """Return a logger that names its stage in each line."""
    return structlog.get_logger(stage=stage)
