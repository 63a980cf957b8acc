"""Where a sink's URL leads, and whether events may go there as they are."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from btt_bridge.config import Sink
from btt_bridge.errors import ConfigurationError


def check_private(row: Sink, *, secure: str, plain: str) -> SplitResult:
    """Return the parts of a sink's URL; raise ConfigurationError unless it uses TLS, stays here, or may do without."""
    parts = urlsplit(row.place)
    if parts.scheme not in (secure, plain) or not parts.hostname:
        raise ConfigurationError(f"the place of sink {row.name} is no {secure} URL")
    if parts.scheme == plain and not (row.plain or _is_here(parts.hostname)):
        raise ConfigurationError(
            f"sink {row.name} would send in clear over the network",
            advice=f"use {secure}, or set `plain` where the network itself is protected",
        )
    return parts


def _is_here(hostname: str) -> bool:
    if hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return False
