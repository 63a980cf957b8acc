"""Ed25519 keys and signed envelopes: who said this, and exactly what was said."""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from btt_bridge.durable import sync_folder
from btt_bridge.errors import SignatureError

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical(body: Any) -> bytes:
    """Return the one byte string that stands for a JSON value: sorted keys, no blanks, UTF-8, no NaN."""
    return _encode(body).encode()


def _pre_authentication(kind: str, payload: bytes) -> bytes:
    """Bind the payload to its type (the DSSE v1 encoding), so that a signature cannot be moved to another type."""
    return b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(payload), payload)


@dataclass(frozen=True)
class Signer:
    """A private key that signs."""

    key: Ed25519PrivateKey

    @classmethod
    def load(cls, path: Path) -> Signer:
        """Read the key at `path`, or make one there that only its owner can read."""
        return cls(Ed25519PrivateKey.from_private_bytes(read_or_make_secret(path)))

    @property
    def public(self) -> str:
        """The public key, hex."""
        return self.key.public_key().public_bytes_raw().hex()

    def sign(self, kind: str, body: Mapping[str, Any]) -> dict[str, str]:
        """Return a DSSE-style envelope of `body`."""
        payload = canonical(body)
        return {
            "kind": kind,
            "payload": base64.b64encode(payload).decode(),
            "key": self.public,
            "signature": base64.b64encode(self.key.sign(_pre_authentication(kind, payload))).decode(),
        }

    def sign_detached(self, payload: bytes) -> str:
        """Return a JSON Web Signature of bytes that travel elsewhere (RFC 7515 appendix F, RFC 8037)."""
        header = _base64url(canonical({"alg": "EdDSA", "kid": self.public}))
        return f"{header}..{_base64url(self.key.sign(f'{header}.{_base64url(payload)}'.encode()))}"


def verify_detached(signature: str, payload: bytes, public: str) -> None:
    """Raise SignatureError unless `public` (hex) signed exactly these bytes."""
    try:
        header, empty, signed = signature.split(".")
        # What the header says of the algorithm is checked and never followed.
        if empty or header != _base64url(canonical({"alg": "EdDSA", "kid": public})):
            raise SignatureError
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(
            base64.urlsafe_b64decode(signed + "=" * (-len(signed) % 4)), f"{header}.{_base64url(payload)}".encode()
        )
    except (ValueError, InvalidSignature):
        raise SignatureError from None


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def verify(envelope: Mapping[str, Any], kind: str, public: str) -> dict[str, Any]:
    """Return the body of an envelope signed by `public` (hex) for `kind`; raise SignatureError otherwise."""
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signature"], validate=True)
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        if envelope["kind"] != kind:
            raise SignatureError(f"this is not a signed {kind}")
        key.verify(signature, _pre_authentication(kind, payload))
        body = json.loads(payload)
    except (KeyError, TypeError, ValueError, InvalidSignature):
        raise SignatureError from None
    if not isinstance(body, dict):
        raise SignatureError
    return body


@dataclass(frozen=True)
class SignedRequest:
    """One HTTP request as its sender signed it; `read_request` has proved that `public` said so."""

    #: The sender's public key, hex.
    public: str
    method: str
    #: Path and query, as they stand in the request line.
    target: str
    #: SHA-256 of the body, hex.
    digest: str
    at: datetime
    #: Never used twice by the same key.
    nonce: str


def sign_request(signer: Signer, method: str, target: str, digest: str, at: datetime) -> str:
    """Return the Authorization header for one request; each call makes a new nonce."""
    envelope = signer.sign(
        "request",
        {
            "method": method,
            "target": target,
            "digest": digest,
            "at": at.astimezone(UTC).isoformat(),
            "nonce": uuid.uuid4().hex,
        },
    )
    return f"BTT {base64.urlsafe_b64encode(canonical(envelope)).decode()}"


def read_request(header: str) -> SignedRequest:
    """Return what an Authorization header claims, its signature checked; raise SignatureError otherwise.

    Whether the key is welcome, the time near and the nonce new is for the caller to say.
    """
    scheme, _, encoded = header.partition(" ")
    try:
        if scheme != "BTT":
            raise SignatureError("this request is not signed")
        envelope = json.loads(base64.urlsafe_b64decode(encoded))
        body = verify(envelope, "request", envelope["key"])
        request = SignedRequest(
            public=envelope["key"],
            method=str(body["method"]),
            target=str(body["target"]),
            digest=str(body["digest"]),
            at=datetime.fromisoformat(body["at"]),
            nonce=str(body["nonce"]),
        )
    except (KeyError, TypeError, ValueError):
        raise SignatureError from None
    if request.at.tzinfo is None or not 16 <= len(request.nonce) <= 64:
        raise SignatureError
    return request


def read_or_make_secret(path: Path) -> bytes:
    """Return the 32 secret bytes at `path`; made once, mode 0600, even when several processes start together."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            # A link fails where a rename would overwrite what another process has just made and is using.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        sync_folder(path.parent)
    secret = path.read_bytes()
    if len(secret) != 32:
        raise SignatureError(f"the key file {path.name} does not hold 32 bytes")
    return secret
