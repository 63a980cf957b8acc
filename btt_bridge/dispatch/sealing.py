"""A parcel that is sealed while its study still arrives."""

from __future__ import annotations

from typing import NamedTuple, Self

from btt_bridge.parcel import ParcelWriter, Shelf, new_key


class Sealed(NamedTuple):
    """A sealed parcel that lies on the shelf under its digest."""

    #: SHA-256 of the ciphertext, hex.
    digest: str
    size_bytes: int
    key: bytes

    def __repr__(self) -> str:
        return f"Sealed({self.digest}, {self.size_bytes})"


class Sealing:
    """One parcel, object by object; leaving its `with` before `close` leaves nothing on the shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._key = new_key()
        self._draft = shelf.create()
        self._writer = ParcelWriter(self._draft, self._key)

    def add(self, name: str, content: bytes | bytearray | memoryview) -> None:
        """Append one stripped object."""
        self._writer.add(name, content)

    def close(self) -> Sealed:
        """Seal the end and put the parcel on the shelf; it is durable then."""
        digest = self._writer.close()
        self._draft.commit(digest)
        return Sealed(digest, self._writer.size_bytes, self._key)

    def discard(self) -> None:
        """Give the parcel up, unless it is closed; nothing of it stays."""
        self._draft.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_problem: object) -> None:
        self.discard()
