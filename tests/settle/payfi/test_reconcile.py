"""From instruction to paid through the file rail, measured; and what a payee is told in FHIR."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
import structlog
from fhir.resources.R4B.paymentnotice import PaymentNotice
from fhir.resources.R4B.paymentreconciliation import PaymentReconciliation

from btt_bridge import fhir, log
from btt_bridge.config import Settings
from btt_bridge.errors import OverdrawnError, RefusedError
from btt_bridge.ledger import Ledger, Move
from btt_bridge.money import CNY, Amount
from btt_bridge.records import Confirmation, Outcome
from btt_bridge.settle.payfi import Clearing, State, documents, open_clearing, reconcile, run, service_level
from btt_bridge.settle.payfi.iso20022 import PAIN_001
from btt_bridge.settle.payfi.netting import Batch, Payment, net
from btt_bridge.settle.payfi.rails import FileRail
from btt_bridge.store import Store
from btt_bridge.testing import FakeClock, MemoryRail
from tests.settle.payfi.house import EUR, MAPPINGS, assert_sound, opaque, payment, said, units

CAMT: Final = "urn:iso:std:iso:20022:tech:xsd:camt.054.001.08"


def bank(folder: Path, number: int, reason: str = "") -> None:
    """A bank that takes every message, pays each transfer in it, and says so; or sends them all back."""
    entries = []
    for path in sorted((folder / "out").iterdir()):
        for transfer in ET.parse(path).iterfind(f".//{{{PAIN_001}}}CdtTrfTxInf"):
            identifier = transfer.findtext(f"{{{PAIN_001}}}PmtId/{{{PAIN_001}}}EndToEndId")
            amount = transfer.find(f"{{{PAIN_001}}}Amt/{{{PAIN_001}}}InstdAmt")
            assert amount is not None
            told = f"<RtrInf><Rsn><Cd>{reason}</Cd></Rsn></RtrInf>" if reason else ""
            entries.append(
                f"<Ntry><CdtDbtInd>{'CRDT' if reason else 'DBIT'}</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts><NtryDtls><TxDtls>"
                f"<Refs><EndToEndId>{identifier}</EndToEndId></Refs>"
                f'<Amt Ccy="{amount.get("Ccy")}">{amount.text}</Amt>{told}</TxDtls></NtryDtls></Ntry>'
            )
        if not reason:
            path.rename(folder / "taken" / path.name)
    body = f"<BkToCstmrDbtCdtNtfctn><Ntfctn>{''.join(entries)}</Ntfctn></BkToCstmrDbtCdtNtfctn>"
    (folder / "in" / f"{number}.xml").write_text(f'<Document xmlns="{CAMT}">{body}</Document>')


def test_a_day_of_payments_is_paid_within_the_promise(clearing: Clearing, clock: FakeClock, tmp_path: Path) -> None:
    """A claim every ten minutes, a bank that answers in half an hour: all paid within two hours, each measured."""
    rail, started = FileRail(tmp_path / "rail"), clock.now()
    for number in range(24):
        clearing.instruct(payment(f"Claim/{number}", 1000 + number, payee=("party:east", "party:west")[number % 2]))
        clock.advance(600)
        run(clearing, rail)
        if number % 3 == 2:
            bank(tmp_path / "rail", number)
    level = service_level(clearing, started)
    assert (level.paid + level.waiting, level.overdue, level.promised_seconds) == (24, 0, 7200)
    assert level.within == level.paid > 12
    assert 0 < (level.seconds_at(50) or 0) <= (level.seconds_at(100) or 0) <= 7200
    clock.advance(3600)
    run(clearing, rail)
    bank(tmp_path / "rail", 99)
    run(clearing, rail)
    assert service_level(clearing, started).paid == 24
    assert service_level(clearing, clock.now() + timedelta(seconds=1)).paid == 0
    gross = sum(1000 + number for number in range(24))
    fees = units(clearing, "payfi:revenue:cny") + units(clearing, "fund:development:cny")
    assert units(clearing, "payfi:party:insurer:cny") == -gross
    assert units(clearing, "bank:cny") == gross - fees
    assert sorted(path.name for path in (tmp_path / "rail" / "taken").iterdir()) == [
        f"btt-{batch.number}.xml" for batch in list(clearing.batches())[::-1]
    ]
    assert_sound(clearing)


def test_several_who_do_what_is_due_at_once_do_it_once(clearing: Clearing, clock: FakeClock, tmp_path: Path) -> None:
    """Four workers, twice: one batch, one message, one settlement, whoever is quicker."""
    clearing.instruct(payment("Claim/1", 1000))
    clock.advance(3600)
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda _: run(clearing, FileRail(tmp_path / "rail")), range(8)))
        assert [batch.number for batch in clearing.batches()] == [1]
        bank(tmp_path / "rail", 1)
        list(workers.map(lambda _: run(clearing, FileRail(tmp_path / "rail")), range(8)))
    assert [path.name for path in (tmp_path / "rail" / "done").iterdir()] == ["1.xml"]
    assert clearing.standing(opaque("Claim/1")).state is State.SETTLED
    assert units(clearing, "bank:cny") == 993
    assert_sound(clearing)


def test_what_is_late_is_said_to_be(embedded: Clearing, clock: FakeClock) -> None:
    """Waiting past the promise is overdue; paid past it is paid, and not within."""
    started = clock.now()
    assert service_level(embedded, started).seconds_at(50) is None
    embedded.instruct(payment("Claim/1", 1000))
    embedded.instruct(payment("Claim/2", 1000, payee="party:west"))
    clock.advance(7200)
    level = service_level(embedded, started)
    assert (level.paid, level.waiting, level.overdue) == (0, 2, 0)
    clock.advance(1)
    batch = embedded.close()
    assert batch is not None
    assert service_level(embedded, started).overdue == 2
    embedded.confirm(said(batch.legs[0]))
    level = service_level(embedded, started)
    assert (level.paid, level.within, level.waiting, level.overdue) == (1, 0, 1, 1)
    assert level.seconds_at(50) == 7201
    embedded.confirm(said(batch.legs[1], Outcome.RETURNED))
    level = service_level(embedded, started)
    assert (level.paid, level.waiting) == (1, 0)


def test_one_refusal_costs_only_itself(embedded: Clearing) -> None:
    """A wrong amount keeps its statement for a person; a stranger's order does not; the right ones are booked."""
    embedded.instruct(payment("Claim/1", 1000))
    embedded.instruct(payment("Claim/2", 1000, payee="party:west"))
    batch = embedded.close(early=True)
    assert batch is not None
    rail = MemoryRail()
    embedded.submit(rail)
    rail.say(said(batch.legs[0], value=Decimal(1)), said(batch.legs[1]))
    done = reconcile(embedded, rail)
    assert [standing.state for standing in done.standings] == [State.SETTLED]
    assert done.refused == (("statement-1", batch.legs[0].order, "InvalidAmountError"),)
    assert len(rail.waiting) == 1
    assert reconcile(embedded, rail).refused == done.refused
    rail.waiting.clear()
    rail.say(Confirmation("THEIRS-1", Outcome.BOOKED, Decimal(5), "CNY"), said(batch.legs[0]))
    done = reconcile(embedded, rail)
    assert (len(done.standings), done.refused, done.passed_over) == (1, (), 1)
    assert rail.waiting == {}
    assert_sound(embedded)


def without(clearing: Clearing, name: str) -> Clearing:
    """The same book, after a participant was taken out of the mappings."""
    left = {one: who for one, who in clearing.directory.participants.items() if one != name}
    return replace(clearing, directory=replace(clearing.directory, participants=left))


def test_a_payee_who_left_keeps_nobody_else_waiting(clearing: Clearing) -> None:
    """West is removed while its leg is unconfirmed: East's confirmation is booked, and a later batch goes out."""
    clearing.instruct(payment("Claim/1", 1000))
    clearing.instruct(payment("Claim/2", 1000, payee="party:west"))
    batch = clearing.close(early=True)
    assert batch is not None
    rail = MemoryRail()
    assert run(clearing, rail).failed == ()
    left = without(clearing, "west")
    left.instruct(payment("Claim/3", 3000))
    left.close(early=True)
    rail.say(said(batch.legs[0]))
    done = run(left, rail)
    assert done.failed == (("btt-1", "UnknownError"),)
    assert [standing.state for standing in done.standings] == [State.SETTLED]
    assert set(rail.messages) == {"btt-1", "btt-2"}
    rail.say(said(batch.legs[1]))
    assert [standing.state for standing in run(left, rail).standings] == [State.SETTLED]
    assert run(left, rail).failed == ()
    assert_sound(clearing)


def test_a_rail_that_takes_nothing_still_says_what_the_bank_said(embedded: Clearing) -> None:
    """Handing over fails and is said to have failed; what is confirmed is booked, and the rest goes out later."""
    embedded.instruct(payment("Claim/1", 1000))
    batch = embedded.close(early=True)
    assert batch is not None
    rail = MemoryRail()
    run(embedded, rail)
    embedded.instruct(payment("Claim/2", 1000))
    embedded.close(early=True)
    rail.say(said(batch.legs[0]))
    rail.failures_left = 2
    with structlog.testing.capture_logs() as told:
        done = run(embedded, rail)
    assert done.failed == (("btt-1", "OSError"), ("btt-2", "OSError"))
    assert [line["error"] for line in told] == ["OSError", "OSError"]
    assert all(line.keys() <= log.ALLOWED | {"log_level"} for line in told)
    assert embedded.standing(opaque("Claim/1")).state is State.SETTLED
    assert run(embedded, rail).failed == ()
    assert set(rail.messages) == {"btt-1", "btt-2"}


def test_a_statement_of_many_nets_its_batch_once(embedded: Clearing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two confirmations, one netting; and an old leg that waits has none of the batches since netted again."""
    embedded.instruct(payment("Claim/0", 1000, payee="party:west"))
    embedded.close(early=True)
    for number in range(1, 6):
        embedded.instruct(payment(f"Claim/{number}", 1000))
        embedded.instruct(payment(f"Invoice/{number}", 1000, payee="party:west"))
        batch = embedded.close(early=True)
        assert batch is not None
        for leg in batch.legs:
            embedded.confirm(said(leg))
    netted: list[int] = []

    def counted(number: int, payments: Sequence[Payment]) -> Batch:
        netted.append(number)
        return net(number, payments)

    monkeypatch.setattr("btt_bridge.settle.payfi.clearing.net", counted)
    fresh, rail = replace(embedded), MemoryRail()
    rail.say(*(said(leg) for leg in batch.legs))
    assert len(reconcile(fresh, rail).standings) == 2
    assert netted == [6]
    assert [one.number for one in fresh.unpaid()] == [1]
    assert netted == [6, 1]


def test_a_return_that_waits_for_cover_is_read_again_until_it_passes(embedded: Clearing) -> None:
    """Nothing is lost and nobody need say it again."""
    embedded.instruct(payment("Claim/1", 10_000))
    batch = embedded.close(early=True)
    assert batch is not None
    embedded.confirm(said(batch.legs[0]))
    away = [Move("payfi:revenue:cny", "bank:cny", Amount(60, CNY), "spend")]
    embedded.ledger.post_all("test", "away", away)
    rail = MemoryRail()
    rail.say(said(batch.legs[0], Outcome.RETURNED, "AC04"))
    assert [error for _, _, error in reconcile(embedded, rail).refused] == [OverdrawnError.__name__]
    embedded.ledger.post_all("test", "good", [Move("bank:cny", "payfi:revenue:cny", Amount(60, CNY), "good")])
    assert [standing.state for standing in reconcile(embedded, rail).standings] == [State.RETURNED]
    assert rail.waiting == {}


def test_a_bridge_opens_its_clearing_house_from_its_mappings(tmp_path: Path) -> None:
    """The shipped rules and participants, with a payment through them."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", FakeClock())
    clearing = open_clearing(Settings(mappings_dir=MAPPINGS.parent), ledger)
    clearing.instruct(payment("Claim/1", 1000, "party:example-insurer", "party:example-clinic"))
    # 0.7 % and 0.25 % for analytics, each rounded up.
    assert units(clearing, "payfi:due:cny") == 1000 - 7 - 3
    ledger.close()


# --- FHIR -----------------------------------------------------------------------------------------------


def nothing(_payment: str) -> str:
    """Nobody noted which document asked for a payment."""
    return ""


def settled(clearing: Clearing) -> Any:
    """A leg of two payments, partly set off, settled."""
    clearing.instruct(payment("Claim/1", 1010))
    clearing.instruct(payment("Claim/2", 2050))
    clearing.instruct(payment("Invoice/1", 300, "party:east", "party:west"))
    batch = clearing.close(early=True)
    assert batch is not None
    return clearing.confirm(said(batch.legs[0]))


def test_the_details_of_a_reconciliation_sum_to_its_amount(embedded: Clearing) -> None:
    """Each payment net of fees, less what was set off: what arrives at the bank; and what R4 requires is there."""
    standing = settled(embedded)
    east = embedded.directory.participant("party:east")
    paid = {payment.reference: f"Claim/{n}" for n, payment in enumerate(standing.leg.payments, 1)}
    resource = documents.reconciliation(standing, east, "Operator", lambda reference: paid.get(reference, ""))
    amounts = [detail["amount"]["value"] for detail in resource["detail"]]
    assert amounts == [Decimal("10.02"), Decimal("20.35"), Decimal("-3.00")]
    assert sum(amounts) == resource["paymentAmount"]["value"] == Decimal("27.37")
    assert [detail["type"]["coding"][0]["code"] for detail in resource["detail"]] == [
        "payment",
        "payment",
        "adjustment",
    ]
    assert [detail.get("request", {}).get("reference") for detail in resource["detail"]] == ["Claim/1", "Claim/2", None]
    for name in ("status", "created", "paymentDate", "paymentAmount"):
        assert resource[name], name
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", resource["paymentDate"])
    assert {detail["payee"]["reference"] for detail in resource["detail"]} == {"Organization/east"}
    assert "request" not in documents.reconciliation(standing, east, "Operator", nothing)["detail"][0]


def test_a_notice_points_to_its_reconciliation(embedded: Clearing) -> None:
    """Same amount, paid, and every element that R4 requires."""
    standing = settled(embedded)
    east = embedded.directory.participant("party:east")
    resource = documents.notice(standing, east)
    reconciliation = documents.reconciliation(standing, east, "Operator", nothing)
    assert resource["payment"] == {"reference": f"PaymentReconciliation/{reconciliation['id']}"}
    assert resource["amount"] == reconciliation["paymentAmount"]
    assert resource["paymentStatus"]["coding"][0]["code"] == "paid"
    assert {"status", "created", "payment", "recipient", "amount"} <= resource.keys()


def test_documents_are_written_from_the_book_whoever_booked_it(clearing: Clearing, tmp_path: Path) -> None:
    """A worker acknowledged the statement: the payee is told all the same, once, and of what was set off in full."""
    clearing.instruct(payment("Claim/1", 1010))
    clearing.instruct(payment("Invoice/1", 1010, "party:east", "party:west"))
    batch = clearing.close(early=True)
    assert batch is not None
    east, west = batch.legs
    assert (east.payout.units, west.payout.units > 0) == (0, True)
    rail, folder = MemoryRail(), Store(str(tmp_path / "told"))
    run(clearing, rail)
    rail.say(said(west))
    run(clearing, rail)
    assert rail.waiting == {}
    assert documents.write(clearing, folder, nothing) == 2
    assert documents.write(clearing, folder, nothing) == 0
    names = {f"{kind}-{leg.order}.json" for kind in ("PaymentReconciliation", "PaymentNotice") for leg in batch.legs}
    written = {path.name: path.read_bytes() for path in (tmp_path / "told").iterdir()}
    assert written.keys() == names
    body = json.loads(written[f"PaymentReconciliation-{east.order}.json"], parse_float=Decimal)
    assert body["paymentAmount"]["value"] == sum(one["amount"]["value"] for one in body["detail"]) == 0
    (tmp_path / "told" / f"PaymentNotice-{west.order}.json").unlink()
    assert documents.write(clearing, folder, nothing, since=0) == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "told").iterdir()} == written


def test_who_left_and_what_came_back_is_not_told_of(embedded: Clearing, tmp_path: Path) -> None:
    """Neither stops what comes after, and a folder that cannot be written to keeps its place."""
    embedded.instruct(payment("Claim/1", 1000, payee="party:west"))
    embedded.instruct(payment("Claim/2", 1000, payee="party:berlin", asset=EUR))
    embedded.instruct(payment("Claim/3", 1000))
    batch = embedded.close(early=True)
    assert batch is not None
    for leg in batch.legs:
        embedded.confirm(said(leg))
    _, east, west = batch.legs
    embedded.confirm(said(west, Outcome.RETURNED, "AC04"))
    (tmp_path / "full").write_text("no folder")
    with pytest.raises(OSError):  # noqa: PT011 - which one is the system's affair
        documents.write(embedded, Store(str(tmp_path / "full")), nothing)
    assert documents.write(without(embedded, "berlin"), Store(str(tmp_path / "told")), nothing) == 1
    assert {path.name.partition("-")[2] for path in (tmp_path / "told").iterdir()} == {f"{east.order}.json"}


def test_what_is_written_is_what_fhir_asks_for(embedded: Clearing, tmp_path: Path) -> None:
    """Both documents of each leg are valid R4B, with a request for what is known and without; nothing else is new."""
    settled(embedded)
    batch = embedded.batch(1)
    embedded.confirm(said(batch.legs[1]))
    known = f"https://ehr.example/fhir/Claim/{'c' * 64}"
    first = batch.legs[0].payments[0].reference
    told = documents.write(embedded, Store(str(tmp_path)), lambda payment: known if payment == first else "")
    assert told == len(batch.legs) == 2
    requests = []
    for path in tmp_path.glob("PaymentReconciliation-*.json"):
        requests += [one.request for one in PaymentReconciliation.model_validate_json(path.read_bytes()).detail]
    for path in tmp_path.glob("PaymentNotice-*.json"):
        assert PaymentNotice.model_validate_json(path.read_bytes()).paymentStatus.coding[0].code == "paid"
    assert [one.reference for one in requests if one is not None] == [known]
    assert len(requests) == 4, "two payments and what was set off to East, one payment to West"


def test_amounts_keep_their_digits_in_json(embedded: Clearing) -> None:
    """27.37 and -3.00 as numbers, with both decimals; everything else as it was."""
    standing = settled(embedded)
    east = embedded.directory.participant("party:east")
    resource = documents.reconciliation(standing, east, 'Operator "1"', nothing)
    written = fhir.write(resource).decode()
    assert '"value": -3.00,' in written
    assert json.loads(written, parse_float=Decimal) == resource


def test_nothing_is_told_of_money_that_has_not_arrived(embedded: Clearing) -> None:
    """Netted, or returned, is not paid."""
    embedded.instruct(payment("Claim/1", 1000))
    embedded.close(early=True)
    east = embedded.directory.participant("party:east")
    standing = embedded.standing(opaque("Claim/1"))
    assert standing.leg is not None
    returned = embedded.confirm(said(standing.leg, Outcome.RETURNED))
    for one in (standing, returned):
        with pytest.raises(RefusedError):
            documents.reconciliation(one, east, "Operator", nothing)
        with pytest.raises(RefusedError):
            documents.notice(one, east)
