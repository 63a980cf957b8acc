"""The file rail: messages a bank takes, each once; notifications as banks write them; and whatever else lies there."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge import plugins
from btt_bridge.errors import MalformedError, RefusedError, UnknownError
from btt_bridge.money import CNY, Amount, Asset
from btt_bridge.records import BankAccount, Confirmation, Outcome, PaymentOrder, Statement
from btt_bridge.settle.payfi.iso20022 import PAIN_001, camt_054, pain_001
from btt_bridge.settle.payfi.rails import FileRail
from btt_bridge.settle.payfi.rates import FileRates
from tests.settle.payfi.house import EUR, JPY

NS: Final = {"p": PAIN_001}
AT: Final = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
OURS: Final = BankAccount("Operator", "1001", "EXMPCNB0")
OURS_EUR: Final = BankAccount("Operator", "DE02120300000000202051")
THEIRS: Final = BankAccount("Clinic <East> & Søn", "3001")
THEIRS_EUR: Final = BankAccount("Praxis", "DE02300209000106531065", "EXMPDEM0")


def order(number: int, units: int, asset: Asset = CNY) -> PaymentOrder:
    ours, theirs = (OURS_EUR, THEIRS_EUR) if asset == EUR else (OURS, THEIRS)
    return PaymentOrder(f"btt-1-{number:016x}", Amount(units, asset), ours, theirs)


def found(content: bytes, path: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(content).findall(path, NS)]


# --- pain.001 -------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 10**15), st.sampled_from([CNY, EUR, JPY, Asset("KWD", 3)])), min_size=1))
def test_a_message_adds_up_however_it_is_read(payments: list[tuple[int, Asset]]) -> None:
    """Numbers and control sums of message and blocks are those of their transfers, and every id stands once."""
    orders = [order(number, units, asset) for number, (units, asset) in enumerate(payments)]
    content = pain_001("btt-1", orders, "Operator", AT)
    root = ET.fromstring(content)
    blocks = root.findall("p:CstmrCdtTrfInitn/p:PmtInf", NS)
    amounts = [Decimal(text) for text in found(content, ".//p:InstdAmt")]
    assert found(content, ".//p:GrpHdr/p:NbOfTxs") == [str(len(orders))]
    assert sorted(found(content, ".//p:EndToEndId")) == [one.id for one in orders]
    total = sum(amounts, Decimal(0))
    assert [Decimal(text) for text in found(content, ".//p:GrpHdr/p:CtrlSum")] == [total]
    for block in blocks:
        inside = block.findall("p:CdtTrfTxInf/p:Amt/p:InstdAmt", NS)
        assert block.findtext("p:NbOfTxs", None, NS) == str(len(inside))
        assert Decimal(block.findtext("p:CtrlSum", "", NS)) == sum(Decimal(one.text or "") for one in inside)
        assert {one.get("Ccy") for one in inside} == {block.findtext("p:DbtrAcct/p:Ccy", None, NS)}
    assert len({block.findtext("p:PmtInfId", None, NS) for block in blocks}) == len({a for _, a in payments})
    exact = {one.id: one.amount.decimal for one in orders}
    for transfer in root.iterfind(".//p:CdtTrfTxInf", NS):
        assert (
            transfer.findtext("p:Amt/p:InstdAmt", None, NS) == exact[transfer.findtext("p:PmtId/p:EndToEndId", "", NS)]
        )


def test_elements_stand_in_the_order_of_the_schema() -> None:
    """pain.001.001.09 is a sequence: a bank's validator refuses what stands elsewhere."""
    content = pain_001("btt-1", [order(1, 1000), order(2, 250, EUR)], "Operator", AT)
    root = ET.fromstring(content)
    assert root.tag == f"{{{PAIN_001}}}Document"

    def children(path: str) -> list[str]:
        element = root.find(path, NS)
        assert element is not None
        return [child.tag.partition("}")[2] for child in element]

    block = "p:CstmrCdtTrfInitn/p:PmtInf"
    assert children("p:CstmrCdtTrfInitn/p:GrpHdr") == ["MsgId", "CreDtTm", "NbOfTxs", "CtrlSum", "InitgPty"]
    head = ["PmtInfId", "PmtMtd", "BtchBookg", "NbOfTxs", "CtrlSum", "ReqdExctnDt", "Dbtr", "DbtrAcct", "DbtrAgt"]
    assert children(block) == [*head, "CdtTrfTxInf"]
    assert children(f"{block}[1]/p:CdtTrfTxInf") == ["PmtId", "Amt", "Cdtr", "CdtrAcct"]
    assert children(f"{block}[2]/p:CdtTrfTxInf") == ["PmtId", "Amt", "CdtrAgt", "Cdtr", "CdtrAcct"]
    assert found(content, ".//p:IBAN") == [OURS_EUR.number, THEIRS_EUR.number]
    assert found(content, ".//p:Cdtr/p:Nm") == [THEIRS.holder, THEIRS_EUR.holder]
    assert found(content, ".//p:CreDtTm") == ["2026-01-05T08:00:00Z"]
    assert found(content, ".//p:DbtrAgt/p:FinInstnId/p:Othr/p:Id") == ["NOTPROVIDED"]


@pytest.mark.parametrize(
    ("message", "orders"),
    [
        ("btt-1", []),
        ("btt-1", [order(1, 5), order(1, 6)]),
        ("btt 1", [order(1, 5)]),
        ("b" * 36, [order(1, 5)]),
        ("btt-1", [PaymentOrder("x" * 36, Amount(5, CNY), OURS, THEIRS)]),
        ("btt-1", [PaymentOrder("", Amount(5, CNY), OURS, THEIRS)]),
    ],
    ids=range(6),
)
def test_a_message_that_no_bank_would_take_is_not_written(message: str, orders: list[PaymentOrder]) -> None:
    """Empty, with an id twice, or with an id that is too long or has other characters."""
    with pytest.raises(MalformedError):
        pain_001(message, orders, "Operator", AT)


# --- camt.054 -------------------------------------------------------------------------------------------

ID: Final = "btt-1-0123456789abcdef"


def details(reference: str = ID, amount: str = '<Amt Ccy="CNY">9.93</Amt>', more: str = "") -> str:
    return f"<NtryDtls><TxDtls><Refs><EndToEndId>{reference}</EndToEndId></Refs>{amount}{more}</TxDtls></NtryDtls>"


def entry(inside: str = "", side: str = "DBIT", status: str = "<Sts><Cd>BOOK</Cd></Sts>", more: str = "") -> str:
    amount = '<Amt Ccy="CNY">9.93</Amt>'
    return f"<Ntry>{amount}<CdtDbtInd>{side}</CdtDbtInd>{more}{status}{inside or details()}</Ntry>"


def camt(*entries: str, version: str = "08", head: str = "") -> bytes:
    namespace = f"urn:iso:std:iso:20022:tech:xsd:camt.054.001.{version}"
    body = f"<BkToCstmrDbtCdtNtfctn><GrpHdr/><Ntfctn><Id>1</Id>{''.join(entries)}</Ntfctn></BkToCstmrDbtCdtNtfctn>"
    return f'<?xml version="1.0"?>{head}<Document xmlns="{namespace}">{body}</Document>'.encode()


BOOKED: Final = Confirmation(ID, Outcome.BOOKED, Decimal("9.93"), "CNY")
REASON: Final = "<RtrInf><Rsn><Cd>AC04</Cd></Rsn></RtrInf>"


@pytest.mark.parametrize(
    "content",
    [
        camt(entry()),
        camt(entry(status="<Sts>BOOK</Sts>"), version="02"),
        camt(entry(details(amount=""))),
        camt(entry(details(amount='<AmtDtls><TxAmt><Amt Ccy="CNY">9.93</Amt></TxAmt></AmtDtls>'))),
        camt(entry(details(amount=' <Amt Ccy="CNY"> 9.930 </Amt>'))),
        camt(entry(side="CRDT", inside=details("THEIRS-1")), entry()),
    ],
    ids=range(6),
)
def test_a_booked_debit_confirms_however_the_bank_writes_it(content: bytes) -> None:
    """Both versions of the status, the amount in either place, and somebody else's payment beside it."""
    assert camt_054(content) == (BOOKED,)


def test_a_returned_payment_names_its_reason() -> None:
    """A credit with a reason of return, or marked as a reversal; a code that is none is left out."""
    returned = Confirmation(ID, Outcome.RETURNED, Decimal("9.93"), "CNY", "AC04")
    assert camt_054(camt(entry(details(more=REASON), side="CRDT"))) == (returned,)
    plain = Confirmation(ID, Outcome.RETURNED, Decimal("9.93"), "CNY")
    assert camt_054(camt(entry(side="CRDT", more="<RvslInd>true</RvslInd>"))) == (plain,)
    spoken = "<RtrInf><Rsn><Cd>Jane Doe has moved</Cd></Rsn></RtrInf>"
    assert camt_054(camt(entry(details(more=spoken), side="CRDT"))) == (plain,)
    with pytest.raises(ValueError, match="at most four"):
        Confirmation(ID, Outcome.RETURNED, Decimal(1), "CNY", "Jane Doe")


def test_several_transactions_of_one_entry_are_several_confirmations() -> None:
    """A batch booking lists them; the entry's own amount is then nobody's."""
    one, two = details("btt-1-a"), details("btt-1-b", '<Amt Ccy="CNY">1.00</Amt>')
    both = camt_054(camt(entry(one + two)))
    assert [(c.order, c.value) for c in both] == [("btt-1-a", Decimal("9.93")), ("btt-1-b", Decimal("1.00"))]
    with pytest.raises(MalformedError):
        camt_054(camt(entry(details("btt-1-a", "") + two)))


@pytest.mark.parametrize(
    "content",
    [
        camt(),
        camt(entry(status="<Sts><Cd>PDNG</Cd></Sts>")),
        camt(entry(status="<Sts><Cd>INFO</Cd></Sts>")),
        camt(entry(status="")),
        camt(entry(side="CRDT")),
        camt(entry(details("NOTPROVIDED"))),
        camt(entry(details("Invoice 7 of Jane"))),
        camt(entry("<NtryDtls/>")),
    ],
    ids=range(8),
)
def test_what_is_not_booked_or_not_ours_confirms_nothing(content: bytes) -> None:
    """Pending, for information, somebody's own payment to us, or without a reference."""
    assert camt_054(content) == ()


LAUGHS: Final = '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<Document",
        b"\xff\xfe\x00",
        b"<Document/>",
        camt(entry(), head=LAUGHS),
        camt(entry(), head='<!DOCTYPE Document SYSTEM "file:///etc/passwd">'),
        camt(entry()).replace(b"camt.054", b"camt.053"),
        camt(entry(side="BOTH")),
        camt(entry(details(amount='<Amt Ccy="CNY">NaN</Amt>'))),
        camt(entry(details(amount='<Amt Ccy="CNY">-9.93</Amt>'))),
        camt(entry(details(amount='<Amt Ccy="CNY">1e3</Amt>'))),
        camt(entry(details(amount='<Amt Ccy="CNY">9,93</Amt>'))),
        camt(entry())[:-20],
        b'<?xml version="1.0" encoding="nonsense"?><a/>',
    ],
    ids=range(14),
)
def test_what_is_no_notification_is_one_kind_of_error(content: bytes) -> None:
    """Cut short, with a document type, another message, no amount: refused whole."""
    with pytest.raises(MalformedError):
        camt_054(content)


# --- the folder -----------------------------------------------------------------------------------------


def test_a_message_is_handed_over_once_wherever_the_bank_has_put_it(tmp_path: Path) -> None:
    """Again, with another process, after it was taken away: one file, as it was first."""
    rail = FileRail(tmp_path)
    rail.submit("btt-1", [order(1, 1000)], AT)
    path = tmp_path / "out" / "btt-1.xml"
    first = path.read_bytes()
    FileRail(tmp_path).submit("btt-1", [order(1, 9999)], AT)
    assert path.read_bytes() == first
    path.rename(tmp_path / "taken" / "btt-1.xml")
    rail.submit("btt-1", [order(1, 1000)], AT)
    assert not path.exists()
    with pytest.raises(RefusedError):
        rail.submit("../btt-1", [order(1, 1000)], AT)


def test_many_who_hand_over_the_same_message_write_it_once(tmp_path: Path) -> None:
    """While the bank's transport takes it away at once, each time."""
    taken: list[bytes] = []

    def one(number: int) -> None:
        FileRail(tmp_path).submit("btt-1", [order(1, 1000 + number)], AT)
        path = tmp_path / "out" / "btt-1.xml"
        try:
            path.rename(tmp_path / "taken" / "btt-1.xml")
        except FileNotFoundError:
            return
        taken.append((tmp_path / "taken" / "btt-1.xml").read_bytes())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(24)))
    assert len(taken) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_crash_left_half_written_is_not_a_message(tmp_path: Path) -> None:
    """A draft has another name, and the next attempt writes the whole of it."""
    rail = FileRail(tmp_path)
    (tmp_path / ".btt-1.xml").write_bytes(b"<Docu")
    assert list((tmp_path / "out").iterdir()) == []
    rail.submit("btt-1", [order(1, 1000)], AT)
    assert found((tmp_path / "out" / "btt-1.xml").read_bytes(), ".//p:MsgId") == ["btt-1"]


def test_notifications_are_read_until_they_are_acknowledged(tmp_path: Path) -> None:
    """A broken one goes aside and keeps nobody waiting; nothing is deleted."""
    rail = FileRail(tmp_path)
    (tmp_path / "in" / "b.xml").write_bytes(camt(entry()))
    (tmp_path / "in" / "a.xml").write_bytes(b"<broken")
    (tmp_path / "in" / "half.part").write_bytes(b"<")
    expected = [Statement("b.xml", (BOOKED,))]
    assert rail.statements() == expected
    assert rail.statements() == expected
    rail.acknowledge("b.xml")
    rail.acknowledge("b.xml")
    assert rail.statements() == []
    assert (tmp_path / "done" / "b.xml").read_bytes() == camt(entry())
    assert (tmp_path / "refused" / "a.xml").exists()
    assert (tmp_path / "in" / "half.part").exists()


def test_two_processes_that_read_the_same_folder_trip_over_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notification that the other one has put away between looking and reading, or before we could, is done."""
    rail, other = FileRail(tmp_path), FileRail(tmp_path)
    (tmp_path / "in" / "1.xml").write_bytes(camt())
    other.acknowledge("1.xml")
    rail.acknowledge("1.xml")
    assert [path.name for path in (tmp_path / "done").iterdir()] == ["1.xml"]
    (tmp_path / "in" / "2.xml").write_bytes(camt())
    read = Path.read_bytes

    def read_late(path: Path) -> bytes:
        other.acknowledge(path.name)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_late)
    assert rail.statements() == []
    assert {path.name for path in (tmp_path / "done").iterdir()} == {"1.xml", "2.xml"}


def test_rails_and_rates_are_plugins(tmp_path: Path) -> None:
    """Our own come in by the same door as anybody's."""
    made: list[Any] = [plugins.rail("file", str(tmp_path)), plugins.rate_source("file", str(tmp_path / "a.csv"))]
    assert [type(one) for one in made] == [FileRail, FileRates]
    for find in (plugins.rail, plugins.rate_source):
        with pytest.raises(UnknownError):
            find("carrier-pigeon", str(tmp_path))
