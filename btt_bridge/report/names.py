"""The UIDs of what we write: the same study, service and revision always give the same ones."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass


def uid(*parts: object) -> str:
    """Return a UID that depends on these parts alone: 2.25 and a UUID made from their SHA-256 (PS3.5 B.2)."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


@dataclass(frozen=True, slots=True)
class Names:
    """What one service's report on one revision of a study is called; it can be known before it is written.

    Writing again after a crash therefore replaces an object and never adds one.
    """

    study_instance_uid: str
    service: str
    revision: int

    def series(self, kind: str) -> str:
        """Return the Series Instance UID of our SR, SEG or SC of this revision."""
        return uid("series", self.study_instance_uid, self.service, self.revision, kind)

    def instance(self, kind: str, number: int = 1) -> str:
        """Return the SOP Instance UID of our SR, SEG or n-th SC of this revision."""
        return uid("instance", self.study_instance_uid, self.service, self.revision, kind, number)

    def tracking(self, *what: object) -> str:
        """Return a Tracking Unique Identifier (112040, DCM). It outlives the revision: the next one looks again."""
        return uid("tracking", self.study_instance_uid, self.service, *what)
