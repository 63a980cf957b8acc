"""Events to an HTTP receiver: the CloudEvents HTTP binding 1.0, structured mode, one request each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests

from btt_bridge.config import Sink
from btt_bridge.errors import DeliveryRefusedError, DeliveryUnreachableError
from btt_bridge.settle.sinks.address import check_private
from btt_bridge.signing import canonical

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"

#: Request Timeout, Too Early and Too Many Requests: the only refusals by which a receiver asks to be tried again.
_LATER = frozenset({408, 425, 429})
_PAUSE_SECONDS_MAX = 86400.0
_ADVICE = {
    401: "check the token",
    403: "check the token and what it allows",
    404: "check the URL",
    410: "the receiver is gone for good; take the sink out of the settings or give it another URL",
    413: "let the receiver take larger bodies",
}


class WebhookSink:
    """POSTs each event and counts it as durable on a 2xx; a redirect is an answer like any other, and not followed."""

    def __init__(self, row: Sink) -> None:
        check_private(row, secure="https", plain="http")
        self._row = row
        self._session = requests.Session()
        # A function of our own, so that requests does not look for credentials in ~/.netrc.
        self._session.auth = self._authorize

    def emit(self, event: Mapping[str, Any]) -> None:
        row = self._row
        try:
            # Only the status counts; the body stays unread, however long it is.
            with self._session.post(
                row.place,
                data=canonical(dict(event)),
                headers={"Content-Type": CONTENT_TYPE},
                timeout=row.timeout_seconds,
                allow_redirects=False,
                stream=True,
            ) as response:
                _judge(response)
        except requests.RequestException as problem:
            raise DeliveryUnreachableError(f"the receiver does not answer ({type(problem).__name__})") from None

    def close(self) -> None:
        self._session.close()

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._row.token_file:
            request.headers["Authorization"] = f"Bearer {Path(self._row.token_file).read_text().strip()}"
        return request


def _judge(response: requests.Response) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    if status in _LATER or status >= 500:
        after = _seconds(response.headers.get("Retry-After", ""))
        raise DeliveryUnreachableError(f"the receiver answered {status}", after_seconds=after)
    advice = _ADVICE.get(status, "ask the receiver why")
    raise DeliveryRefusedError(f"the receiver answered {status}", advice=advice)


def _seconds(retry_after: str) -> float:
    """Return how long to wait by a Retry-After header (RFC 9110 section 10.2.3), in either of its forms."""
    if retry_after.isdecimal():
        return min(float(retry_after), _PAUSE_SECONDS_MAX)
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max((at - datetime.now(UTC)).total_seconds(), 0), _PAUSE_SECONDS_MAX)
