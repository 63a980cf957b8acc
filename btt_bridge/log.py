"""Log lines as dicts through a list of small functions; the last lets through only the fields on the list."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

#: The only fields that may leave. None of them holds a value that came out of a patient's data: a study is
#: named by its journey number, an instance by its index row.
ALLOWED = frozenset({
    "event", "level", "timestamp", "stage", "state", "journey", "revision", "instance", "instances", "count",
    "size_bytes", "seconds", "attempt", "route", "service", "destination", "node", "offer", "lease", "status",
    "error", "reason", "advice", "address", "port", "ae_title", "setting", "file", "line", "pid", "process",
    "version", "asset", "units", "path", "method", "sink",
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
    """Write JSON lines to standard error."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            exception_name,
            allow,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        # Asked for anew at each line: whoever replaces standard error gets what is written after that.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def mute_others() -> None:
    """Let this process write nothing but our lines: texts of libraries, warnings and tracebacks quote what they saw."""
    logging.captureWarnings(capture=True)
    logging.getLogger().handlers[:] = [_Wordless(logging.ERROR)]
    sys.excepthook = lambda _class, problem, _traceback: _uncaught(problem)
    threading.excepthook = lambda caught: _uncaught(caught.exc_value)


class _Wordless(logging.Handler):
    """Says which library logged an error, in none of its words."""

    def emit(self, record: logging.LogRecord) -> None:
        problem = record.exc_info[1] if record.exc_info else None
        logger(record.name.partition(".")[0]).warning("a library logged an error", exc_info=problem)


def _uncaught(problem: BaseException | None) -> None:
    frame = traceback.extract_tb(problem.__traceback__)[-1:] if problem is not None else []
    where = {"file": frame[0].filename, "line": frame[0].lineno} if frame else {}
    logger("log").error("uncaught", exc_info=problem, **where)


def logger(stage: str) -> Any:
    """Return a logger that names its stage in each line."""
    return structlog.get_logger(stage=stage)
