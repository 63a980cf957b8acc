"""The audit finds and names what somebody with every right on the database has changed behind our back."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Context, Decimal
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from btt_bridge import cli
from btt_bridge.errors import BridgeError, SignatureError, UnknownError
from btt_bridge.ledger import Event, Hold, Ledger, Move, Post, audit, batches, export
from btt_bridge.money import BTT, CNY, Amount
from btt_bridge.signing import Signer
from btt_bridge.testing import FakeClock
from tests.peers.server import program


@pytest.fixture
def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    ledger = Ledger(database_url, FakeClock())
    fill(ledger)
    yield ledger
    ledger.close()


def fill(ledger: Ledger) -> None:
    """Twelve transfers: moves with events, two holds, one of them posted."""
    ledger.open_account("a:cny", CNY)
    ledger.open_account("b:cny", CNY)
    ledger.open_account("world:cny", CNY, credit_limit=None)
    for number in range(9):
        event = Event("btt.test.v1", "a:cny", {"n": number})
        ledger.post_all("t", f"m{number}", [Move("world:cny", "a:cny", Amount(100 + number, CNY), "fund")], event)
    expires_at = ledger.clock.now() + timedelta(hours=1)
    ledger.post_all("t", "h1", [Hold("a:cny", "b:cny", Amount(20, CNY), "hold", expires_at)])
    ledger.post_all("t", "h2", [Hold("a:cny", "b:cny", Amount(30, CNY), "hold", expires_at)])
    ledger.post_all("t", "p1", [Post(10, "post", Amount(5, CNY))])


def test_a_sound_book_is_found_sound(ledger: Ledger, signer: Signer) -> None:
    """All of it is read, sealed batches too, and each asset adds up to zero."""
    assert batches.close(ledger, signer) is not None
    found = audit.verify(ledger, signer.public)
    assert found.problem == ""
    assert (found.transfers, found.accounts, found.batches) == (12, 3, 1)
    assert found.trial_balance == {"CNY/2": 0}
    assert found.head == ledger.postings(0, 100)[-1].transfers[-1].hash


@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        ("UPDATE transfer SET amount = replace(amount, '103', '102') WHERE id = 4", "transfer 4: its content"),
        ("UPDATE transfer SET reason = 'gift' WHERE id = 7", "transfer 7: its content"),
        ("UPDATE transfer SET at = '2025-01-05T08:00:00.000000Z' WHERE id = 7", "transfer 7: its content"),
        ("UPDATE transfer SET hash = zeroblob(32) WHERE id = 3", "transfer 3: its content"),
        ("UPDATE transfer SET credit = 2 WHERE id = 5", "transfer 5: its content"),
        ("UPDATE transfer SET hold = 11 WHERE id = 12", "transfer 12: its content"),
        ("UPDATE posting SET key = 'other' WHERE id = 2", "transfer 2: its content"),
        ("UPDATE posting SET digest = zeroblob(32) WHERE id = 2", "transfer 2: its content"),
        ("UPDATE account SET name = 'c:cny' WHERE id = 1", "transfer 1: its content"),
        ("UPDATE asset SET scale = 3", "transfer 1: its content"),
        ("DELETE FROM transfer WHERE id = 6", "transfer 6: it is missing"),
        ("DELETE FROM posting WHERE id = 6", "transfer 6: an account or posting that it names is missing"),
        ("DELETE FROM account WHERE id = 2", "transfer 10: an account or posting that it names is missing"),
        (
            "UPDATE account SET credits_posted = replace(credits_posted, '936', '937') WHERE id = 1",
            "account a:cny: credits_posted",
        ),
        (
            "UPDATE account SET debits_pending = replace(debits_pending, '30', '29') WHERE id = 1",
            "account a:cny: debits_pending",
        ),
        ("DELETE FROM open_hold", "hold 11: the list of open holds"),
        ("DELETE FROM outbox WHERE posting = 5", "posting 5: its event is missing"),
        ("UPDATE outbox SET data = '{\"n\":5}' WHERE posting = 5", "posting 5: its event is not what was hashed"),
        ("UPDATE outbox SET sequence = 99 WHERE posting = 5", "posting 5: the number of its event"),
        ("DELETE FROM transfer WHERE id = 12; DELETE FROM posting WHERE id = 12", "batch 1: transfers that it sealed"),
        ("UPDATE batch SET root = zeroblob(32)", "batch 1: its root"),
        ("UPDATE batch SET first_transfer = 2", "batch 1: its root"),
        (
            "UPDATE batch SET envelope = replace(envelope, 'signature\": \"', 'signature\": \"A')",
            "batch 1: its signature",
        ),
    ],
)
def test_whatever_was_changed_is_named(tmp_path: Path, signer: Signer, tamper: str, problem: str) -> None:
    """With every guard switched off, one change anywhere is found, and the first row it broke is named."""
    path = tmp_path / "book.db"
    ledger = Ledger(f"sqlite:///{path}", FakeClock())
    fill(ledger)
    batches.close(ledger, signer)
    with closing(sqlite3.connect(path)) as raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        changes = raw.total_changes
        raw.executescript(tamper)
        assert raw.total_changes > changes
        raw.commit()
    assert audit.verify(ledger, signer.public).problem.startswith(problem)
    ledger.close()


def test_a_tail_that_was_cut_off_shows(tmp_path: Path) -> None:
    """Even where no batch was sealed yet, a posting without its transfers is found."""
    path = tmp_path / "book.db"
    ledger = Ledger(f"sqlite:///{path}", FakeClock())
    fill(ledger)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DROP TRIGGER transfer_no_delete")
        raw.execute("DELETE FROM transfer WHERE id = 12")
        raw.commit()
    assert audit.verify(ledger).problem == "transfer 12: posting and transfers do not match"
    ledger.close()


def test_a_flipped_bit_anywhere_in_a_hash_is_found(tmp_path: Path) -> None:
    """One bit of one stored hash is enough."""
    path = tmp_path / "book.db"
    ledger = Ledger(f"sqlite:///{path}", FakeClock())
    fill(ledger)
    good = ledger.postings(0, 100)[7].transfers[0].hash
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DROP TRIGGER transfer_no_update")
        raw.execute("UPDATE transfer SET hash = ? WHERE id = 8", (good[:-1] + bytes([good[-1] ^ 1]),))
        raw.commit()
    assert audit.verify(ledger).problem.startswith("transfer 8: ")
    ledger.close()


# --- settlement batches ---------------------------------------------------------------------------------


def test_every_transfer_is_proved_by_its_batch(ledger: Ledger, signer: Signer) -> None:
    """Batches follow each other without a gap; each transfer's short proof convinces with the public key alone."""
    first = batches.close(ledger, signer)
    assert batches.close(ledger, signer) is None
    ledger.post_all("t", "more", [Move("a:cny", "b:cny", Amount(1, CNY), "more")])
    with pytest.raises(UnknownError):
        batches.prove(ledger, 13)
    second = batches.close(ledger, signer)
    assert first is not None
    assert second is not None
    assert (first.first_transfer, first.last_transfer) == (1, 12)
    assert (second.first_transfer, second.last_transfer) == (13, 13)
    for number in range(1, 14):
        batches.check(batches.prove(ledger, number), signer.public)


def test_a_proof_of_something_else_is_refused(ledger: Ledger, signer: Signer) -> None:
    """Another signer, another transfer's place, or another leaf: the proof convinces nobody."""
    batches.close(ledger, signer)
    proof = batches.prove(ledger, 5)
    forged = [
        (proof, Signer(Ed25519PrivateKey.generate()).public),
        (batches.Proof(proof.batch, 6, proof.leaf, proof.siblings), signer.public),
        (batches.Proof(proof.batch, 5, bytes(32), proof.siblings), signer.public),
        (batches.Proof(proof.batch, 5, proof.leaf, proof.siblings[1:]), signer.public),
    ]
    for wrong, public in forged:
        with pytest.raises(SignatureError):
            batches.check(wrong, public)


def test_another_signers_batch_does_not_pass_the_audit(ledger: Ledger, signer: Signer) -> None:
    """The audit is told whose signature counts."""
    batches.close(ledger, signer)
    assert audit.verify(ledger, "ab" * 32).problem == "batch 1: its signature does not verify"


# --- exports --------------------------------------------------------------------------------------------


def test_the_journal_adds_up_for_an_accountants_tool(ledger: Ledger) -> None:
    """Read back by hledger's rules: every entry balances, and accounts end as the ledger says, to the last digit."""
    ledger.open_account("a:btt", BTT)
    ledger.open_account("world:btt", BTT, credit_limit=None)
    ledger.post_all("t", "btt", [Move("world:btt", "a:btt", Amount(10**37 + 1, BTT), "mint")])
    file = io.StringIO()
    export.hledger(ledger, file)
    sums: dict[str, int] = {}
    entries = 0
    for entry in file.getvalue().split("\n\n")[1:]:
        total: dict[str, int] = {}
        header, *lines = entry.splitlines()
        assert header.startswith("2026-01-05 * (")
        for line in lines:
            posting = line.split(";")[0].split()
            if not posting:
                continue
            account, amount, asset = posting
            exact = int(amount.replace(".", ""))
            total[asset] = total.get(asset, 0) + exact
            sums[account] = sums.get(account, 0) - exact
        assert set(total.values()) <= {0}
        entries += 1
    assert entries == len(ledger.postings(0, 100))
    assert sums == {balance.account: balance.units for balance in ledger.balances() if balance.units}


def test_the_table_holds_every_transfer(ledger: Ledger) -> None:
    """One line each, in minor units, with the hold that it resolved."""
    file = io.StringIO()
    export.table(ledger, file)
    header, *lines = file.getvalue().splitlines()
    assert header.split(",")[:6] == ["transfer", "posting", "issuer", "key", "at", "kind"]
    assert len(lines) == 12
    assert lines[-1] == "12,12,t,p1,2026-01-05T08:00:00+00:00,post,a:cny,b:cny,CNY/2,5,10,post"


@pytest.mark.peer("hledger")
def test_hledger_itself_accepts_the_journal_and_comes_to_the_same_balances(ledger: Ledger, tmp_path: Path) -> None:
    """The real program, to the last of 38 digits."""
    ledger.open_account("a:btt", BTT)
    ledger.open_account("world:btt", BTT, credit_limit=None)
    ledger.post_all("t", "btt", [Move("world:btt", "a:btt", Amount(10**37 + 1, BTT), "mint")])
    path = tmp_path / "book.journal"
    with path.open("w", encoding="utf-8") as file:
        export.hledger(ledger, file)
    hledger = [program("hledger"), "-f", path]
    subprocess.run([*hledger, "check", "accounts", "ordereddates"], check=True, capture_output=True, timeout=60)
    done = subprocess.run(
        [*hledger, "balance", "--flat", "--no-total", "-O", "csv"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    said: dict[str, tuple[Decimal, str]] = {}
    for account, balance in list(csv.reader(io.StringIO(done.stdout)))[1:]:
        amount, code = balance.split()
        said[account] = (Decimal(amount).copy_negate(), code.strip('"'))
    assert said == {
        balance.account: (Decimal(balance.units).scaleb(-balance.asset.scale, Context(prec=60)), balance.asset.code)
        for balance in ledger.balances()
        if balance.units
    }


def test_a_proof_travels_as_a_file_and_is_checked_by_command(ledger: Ledger, signer: Signer, tmp_path: Path) -> None:
    """Sealed once the last batch is old enough, proved as JSON, checked with the key alone; a bent one is refused."""
    sealed = batches.close_due(ledger, signer, timedelta(hours=1))
    assert sealed is not None
    assert batches.close_due(ledger, signer, timedelta(hours=1)) is None
    body = batches.written(batches.prove(ledger, 5))
    path = tmp_path / "proof.json"

    def check(content: object, key: str) -> int:
        path.write_text(json.dumps(content), encoding="utf-8")
        result = CliRunner().invoke(cli.app, ["ledger", "check-proof", str(path), "--key", key])
        if result.exit_code:
            assert isinstance(result.exception, BridgeError)
        return result.exit_code

    assert check(body, signer.public) == 0
    later = batches.written(batches.prove(ledger, 6))
    changes = ({"transfer": 6}, {"leaf": "00" * 32}, {"batch": {}}, {"siblings": later["siblings"]}, {"siblings": 7})
    for wrong in (*({**body, **change} for change in changes), {}, []):
        assert check(wrong, signer.public) == 1
    assert check(body, Signer(Ed25519PrivateKey.generate()).public) == 1
    assert check(body, "no key") == 1
