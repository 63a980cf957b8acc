"""The chain: each transfer's hash stands for its own content and for everything before it."""

from __future__ import annotations

import hashlib

#: What the first transfer follows.
GENESIS = bytes(32)


def link(
    previous: bytes,
    transfer: int,
    posting: int,
    kind: str,
    debit: str,
    credit: str,
    asset: str,
    amount: int,
    hold: int | None,
    expires_at: str | None,
    reason: str,
    at: str,
    origin: str,
) -> bytes:
    """Return the hash of one transfer.

    Every part is of a plain alphabet without line breaks and has its fixed place, so that no two rows read alike.
    """
    content = (
        f"{transfer}\n{posting}\n{kind}\n{debit}\n{credit}\n{asset}\n{amount}\n"
        f"{hold or ''}\n{expires_at or ''}\n{reason}\n{at}\n{origin}"
    )
    return hashlib.sha256(previous + content.encode()).digest()


def origin(issuer: str, key: str, digest: bytes, event: bytes) -> str:
    """Write who asked for a posting, under which key, and the digests of what was asked and of what was told."""
    return f"{issuer}\n{key}\n{digest.hex()}\n{event.hex()}"
