"""Keys and envelopes."""

import base64
import json
import re
import threading
from pathlib import Path

import pytest

from btt_bridge.errors import SignatureError
from btt_bridge.signing import Signer, canonical, keyed_digest, read_or_make_secret, verify


def test_a_signed_body_comes_back_as_it_was(tmp_path: Path) -> None:
    """What was signed is what is read, whatever the order of its keys."""
    signer = Signer.load(tmp_path / "key")
    body = {"b": 1, "a": ["ü", None]}
    assert verify(signer.sign("offer", body), "offer", signer.public) == body
    assert canonical({"b": 1, "a": 2}) == canonical({"a": 2, "b": 1})


@pytest.mark.parametrize("part", ["kind", "payload", "signature"])
def test_an_altered_envelope_does_not_verify(tmp_path: Path, part: str) -> None:
    """A change anywhere, a signature moved to another type of message included, is seen."""
    signer = Signer.load(tmp_path / "key")
    envelope = signer.sign("offer", {"price": 1})
    altered = {
        "kind": "receipt",
        "payload": base64.b64encode(json.dumps({"price": 2}).encode()).decode(),
        "signature": base64.b64encode(bytes(64)).decode(),
    }
    kind = "receipt" if part == "kind" else "offer"
    with pytest.raises(SignatureError):
        verify({**envelope, part: altered[part]}, kind, signer.public)


def test_another_key_does_not_verify(tmp_path: Path) -> None:
    """The key that counts is the one we know, not the one the envelope names."""
    signer, other = Signer.load(tmp_path / "a"), Signer.load(tmp_path / "b")
    with pytest.raises(SignatureError):
        verify(signer.sign("offer", {}), "offer", other.public)


def test_processes_that_start_together_share_one_key(tmp_path: Path) -> None:
    """Whoever is first makes the key; everybody uses it, and only its owner may read it."""
    path = tmp_path / "keys" / "key"
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(read_or_make_secret(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_keyed_digest_is_the_same_for_ever_and_another_under_another_key(tmp_path: Path) -> None:
    """The file is the key: whoever has it names the same text the same way, and nobody else can."""
    first, again, other = (keyed_digest(tmp_path / name) for name in ("a.key", "a.key", "b.key"))
    assert first("Patient/17") == again("Patient/17") != other("Patient/17")
    assert first("Patient/17") != first("Patient/18")
    assert re.fullmatch("[0-9a-f]{64}", first("Patient/17"))
