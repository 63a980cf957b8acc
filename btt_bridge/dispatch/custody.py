"""Keys of parcels at rest: encrypted under a key file of the bridge, so that they may lie in the journal."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from btt_bridge.errors import SealBrokenError
from btt_bridge.signing import read_or_make_secret

_NONCE_BYTES = 12
_PURPOSE = b"parcel key at rest"


class Custody:
    """Locks keys away and brings them back."""

    def __init__(self, keys_dir: Path) -> None:
        self._cipher = AESGCM(read_or_make_secret(keys_dir / "parcel.key"))

    def lock(self, key: bytes) -> str:
        """Return a key encrypted, as text."""
        nonce = os.urandom(_NONCE_BYTES)
        return (nonce + self._cipher.encrypt(nonce, key, _PURPOSE)).hex()

    def unlock(self, locked: str) -> bytes:
        """Return the key; raise SealBrokenError where it was locked elsewhere, or altered."""
        try:
            content = bytes.fromhex(locked)
            return self._cipher.decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], _PURPOSE)
        except (InvalidTag, ValueError):
            raise SealBrokenError("this key was not locked away here") from None
