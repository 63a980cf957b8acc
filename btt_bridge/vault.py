"""Who is who: the keys behind every pseudonym, and for each journey the sealed map from what left to what was."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Column, LargeBinary, MetaData, String, Table, select

from btt_bridge.database import open_database, reading, upserting, writing
from btt_bridge.errors import ConfigurationError, MalformedError, UnknownError, UnmappedIdentityError
from btt_bridge.records import Pseudonym
from btt_bridge.signing import read_or_make_secret

metadata = MetaData(info={"history": "vault"})

identity_table = Table(
    "identity",
    metadata,
    # An HMAC of the journey: the table alone does not say whose rows these are.
    Column("lookup", String(64), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)
key_table = Table(
    "identity_key",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
)

_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Identity:
    """What one journey's study is called inside and outside."""

    #: Original UID to outgoing UID.
    uids: Mapping[str, str]
    pseudonym: Pseudonym
    #: Keyword to original value of the Patient and Study modules, as `records.Keywords` spells values.
    patient: Mapping[str, Any]


class Vault:
    """Two keys of this site and a table of sealed identities.

    The UID key makes pseudonyms and outgoing UIDs, so that the same patient and the same study get the same
    ones again. The storage key seals what is remembered.
    """

    def __init__(self, url: str, keys_dir: Path) -> None:
        self.engine = open_database(url, metadata)
        #: 32 bytes; whoever has it can tell which outgoing UID belongs to which original.
        self.uid_key = read_or_make_secret(keys_dir / "uid.key")
        storage_key = read_or_make_secret(keys_dir / "vault.key")
        self._pseudonym_key = _derived(self.uid_key, b"pseudonym")
        self._account_key = _derived(self.uid_key, b"account")
        self._lookup_key = _derived(storage_key, b"lookup")
        self._cipher = AESGCM(_derived(storage_key, b"seal"))
        self._check_keys({"uid": self.uid_key, "storage": storage_key})

    def pseudonym(
        self, patient_id: str, issuer: str, shift_days_max: int, *, study_instance_uid: str = ""
    ) -> Pseudonym:
        """Return what this patient is called outside, always the same for the same Patient ID and issuer.

        A study without a Patient ID is a patient of its own, by its Study Instance UID; nothing else tells
        two such patients apart.
        """
        subject = [patient_id.strip(), issuer.strip()] if patient_id.strip() else ["", study_instance_uid.strip()]
        if not any(subject):
            raise MalformedError("neither Patient ID nor Study Instance UID has a value")
        digest = hmac.digest(self._pseudonym_key, json.dumps(subject).encode(), "sha256")
        code = base64.b32encode(digest[:15]).decode()
        shift_days = 1 + int.from_bytes(digest[16:32], "big") % shift_days_max
        return Pseudonym(patient_id=f"BTT-{code}", patient_name=f"BTT^{code}", shift_days=-shift_days)

    def digest(self, text: str) -> str:
        """Return what names a device, a document or a person in the accounts: always the same, and telling nothing."""
        return hmac.digest(self._account_key, text.encode(), "sha256").hex()

    def remember(self, journey_id: int, identity: Identity) -> None:
        """Seal a journey's identity in one durable write; a second time replaces the first."""
        lookup = self._lookup(journey_id)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, json.dumps(asdict(identity)).encode(), lookup.encode())
        row = upserting(self.engine, identity_table).values(lookup=lookup, sealed=sealed)
        with writing(self.engine) as connection:
            connection.execute(row.on_conflict_do_update(index_elements=["lookup"], set_={"sealed": sealed}))

    def recall(self, journey_id: int) -> Identity:
        """Open a journey's identity; raise UnknownError where none was remembered."""
        lookup = self._lookup(journey_id)
        with reading(self.engine) as connection:
            sealed = connection.execute(
                select(identity_table.c.sealed).where(identity_table.c.lookup == lookup)
            ).scalar_one_or_none()
        if sealed is None:
            raise UnknownError("the vault holds no identity for this journey")
        try:
            body = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], lookup.encode())
        except InvalidTag:
            raise UnmappedIdentityError("the vault's entry for this journey was altered") from None
        kept = json.loads(body)
        patient = {key: tuple(value) if isinstance(value, list) else value for key, value in kept["patient"].items()}
        return Identity(kept["uids"], Pseudonym(**kept["pseudonym"]), patient)

    def _lookup(self, journey_id: int) -> str:
        return hmac.digest(self._lookup_key, str(journey_id).encode(), "sha256").hex()

    def _check_keys(self, keys: Mapping[str, bytes]) -> None:
        """Refuse keys other than those this vault began with: a new key would silently lose every identity."""
        with writing(self.engine) as connection:
            for name, key in keys.items():
                fingerprint = _derived(key, b"fingerprint").hex()
                connection.execute(
                    upserting(self.engine, key_table)
                    .values(name=name, fingerprint=fingerprint)
                    .on_conflict_do_nothing()
                )
                known = connection.execute(select(key_table.c.fingerprint).where(key_table.c.name == name)).scalar_one()
                if not hmac.compare_digest(known, fingerprint):
                    raise ConfigurationError(
                        f"the vault was begun with another {name} key",
                        advice="Put the key files of this site back into the keys folder.",
                    )


def _derived(key: bytes, purpose: bytes) -> bytes:
    """Return a key of its own for each purpose."""
    return hmac.digest(key, b"btt-bridge/" + purpose, hashlib.sha256)
