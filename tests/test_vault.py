"""The vault gives the same patient the same pseudonym, and shows nobody without its keys who that was."""

from __future__ import annotations

import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from btt_bridge.database import reading, writing
from btt_bridge.errors import ConfigurationError, MalformedError, UnknownError, UnmappedIdentityError
from btt_bridge.vault import Identity, Vault, identity_table


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(f"sqlite:///{tmp_path / 'vault.db'}", tmp_path / "keys")


@pytest.fixture
def identity(vault: Vault) -> Identity:
    patient = {"PatientName": "Müller^Änne", "PatientID": "MRN-1"}
    return Identity({"1.2.3": "2.25.99"}, vault.pseudonym("MRN-1", "HOSPITAL", 3650), patient)


def test_an_identity_comes_back(vault: Vault, identity: Identity) -> None:
    """What was remembered for a journey is recalled whole, and a second time replaces the first."""
    vault.remember(7, Identity({}, identity.pseudonym, {}))
    vault.remember(7, identity)
    assert vault.recall(7) == identity


def test_what_is_named_in_the_accounts_has_a_digest_of_its_own(vault: Vault, tmp_path: Path) -> None:
    """The same text is the same digest for ever, another site's is another, and no other key gives it."""
    again = Vault(f"sqlite:///{tmp_path / 'vault.db'}", tmp_path / "keys")
    other = Vault(f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "other")
    assert vault.digest("serial 1") == again.digest("serial 1") != other.digest("serial 1")
    assert len(bytes.fromhex(vault.digest("serial 1"))) == 32
    assert vault.digest("serial 1") != vault.digest("serial 2")
    assert vault.digest("serial 1") != hmac.digest(vault.uid_key, b"serial 1", "sha256").hex()


def test_an_unknown_journey(vault: Vault) -> None:
    """Nothing is recalled for a journey that was never remembered."""
    with pytest.raises(UnknownError):
        vault.recall(8)


def test_the_database_shows_nothing(vault: Vault, identity: Identity, tmp_path: Path) -> None:
    """No file of the database holds a name, an ID, a UID or a pseudonym in the clear."""
    vault.remember(7, identity)
    vault.engine.dispose()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("vault.db*"))
    for secret in ("Müller", "MRN-1", "1.2.3", "2.25.99", identity.pseudonym.patient_id):
        assert secret.encode() not in kept


def test_an_altered_row_is_not_believed(vault: Vault, identity: Identity) -> None:
    """One flipped bit, or another journey's row in its place, is found out."""
    vault.remember(7, identity)
    vault.remember(8, identity)
    with reading(vault.engine) as connection:
        (first, sealed), (second, _) = connection.execute(select(identity_table.c.lookup, identity_table.c.sealed))
    for lookup, planted in ((first, sealed[:-1] + bytes([sealed[-1] ^ 1])), (second, sealed)):
        with writing(vault.engine) as connection:
            connection.execute(update(identity_table).where(identity_table.c.lookup == lookup).values(sealed=planted))
    for journey_id in (7, 8):
        with pytest.raises(UnmappedIdentityError):
            vault.recall(journey_id)


def test_lost_keys_are_noticed_at_once(vault: Vault, tmp_path: Path) -> None:
    """A vault that was begun with other keys does not open: new keys would split every patient in two."""
    for name in ("uid.key", "vault.key"):
        path = tmp_path / "keys" / name
        key = path.read_bytes()
        path.unlink()
        with pytest.raises(ConfigurationError):
            Vault(f"sqlite:///{tmp_path / 'vault.db'}", tmp_path / "keys")
        path.unlink()
        path.write_bytes(key)
    assert Vault(f"sqlite:///{tmp_path / 'vault.db'}", tmp_path / "keys").uid_key == vault.uid_key


def test_two_sites_share_no_pseudonym(vault: Vault, tmp_path: Path) -> None:
    """Without the site's key a pseudonym cannot be recomputed from a Patient ID."""
    other = Vault(f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "other")
    assert other.pseudonym("MRN-1", "", 3650) != vault.pseudonym("MRN-1", "", 3650)


def test_issuers_keep_patients_apart(vault: Vault) -> None:
    """The same Patient ID of two issuers, and any shift of characters between ID and issuer, are two patients."""
    assert vault.pseudonym("12", "3", 3650) != vault.pseudonym("1", "23", 3650)
    assert vault.pseudonym("12 ", " 3", 3650) == vault.pseudonym("12", "3", 3650)


def test_a_study_without_patient_id_is_its_own_patient(vault: Vault) -> None:
    """Two studies without Patient ID share no pseudonym; one without any identity has none."""
    first = vault.pseudonym("", "X", 3650, study_instance_uid="1.2.3")
    assert first != vault.pseudonym("", "X", 3650, study_instance_uid="1.2.4")
    assert first == vault.pseudonym(" ", "X", 3650, study_instance_uid="1.2.3")
    with pytest.raises(MalformedError):
        vault.pseudonym("", "X", 3650)


@given(st.text(min_size=1, max_size=64).filter(str.strip), st.integers(30, 36500))
def test_a_pseudonym_is_a_valid_patient(tmp_path_factory: pytest.TempPathFactory, patient_id: str, days: int) -> None:
    """Any Patient ID gives an ID and a name that fit LO and PN, and a shift into the past within the limit."""
    folder = tmp_path_factory.getbasetemp() / "pseudonyms"
    folder.mkdir(exist_ok=True)
    pseudonym = Vault(f"sqlite:///{folder / 'vault.db'}", folder).pseudonym(patient_id, "", days)
    assert pseudonym.patient_id.startswith("BTT-")
    assert len(pseudonym.patient_id) <= 64
    assert pseudonym.patient_id.isascii()
    assert pseudonym.patient_name == pseudonym.patient_id.replace("-", "^")
    assert 1 <= -pseudonym.shift_days <= days
