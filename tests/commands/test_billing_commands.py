"""`btt-bridge billing` as people type it: on a bridge's own files, with its own settings."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from fhir.resources.R4B.chargeitem import ChargeItem
from fhir.resources.R4B.invoice import Invoice
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from typer.testing import CliRunner

from btt_bridge import config
from btt_bridge.cli import app
from btt_bridge.config import Settings
from btt_bridge.errors import (
    BridgeError,
    ConfigurationError,
    InvalidAmountError,
    MalformedError,
    OverdrawnError,
    RefusedError,
    UnknownError,
)
from btt_bridge.journal import Journal
from btt_bridge.ledger import Ledger
from btt_bridge.records import Arrival, Header
from btt_bridge.settle import Uses, device_key, open_billing
from btt_bridge.settle.assets import deed_id
from btt_bridge.settle.dividends import Attestation, sign
from btt_bridge.testing import FakeClock
from btt_bridge.vault import Vault
from tests.peers.server import program
from tests.settle import books
from tests.settle.dividends.house import NODES, signer

UID = "1.2.826.0.1.3680043.8.498.7"
KEYWORDS = {
    "PatientID": "MRN-17",
    "PatientName": "Doe^Jane^^Dr=山田^花子",
    "IssuerOfPatientID": "HOSPITAL",
    "AccessionNumber": "A-17",
}
SCANNER = {"Manufacturer": "Acme", "DeviceSerialNumber": "42"}


class House:
    """A bridge's folder with a month of bills in it, and a study that one of them is for."""

    def __init__(self, folder: Path) -> None:
        self.file, self.mappings = folder / "bridge.yaml", folder / "mappings"
        shutil.copytree(books.ROOT / "mappings", self.mappings)
        body = {"data_dir": str(folder / "data"), "mappings_dir": str(self.mappings), "settle": {"hospital": "test"}}
        self.file.write_text(yaml.safe_dump(body))
        (folder / "data").mkdir()

    @property
    def settings(self) -> Settings:
        return config.load(self.file)

    def work(self) -> None:
        clock = FakeClock(books.JANUARY)
        with closing(Ledger(self.settings.ledger_url, clock)) as ledger:
            books.two_months(open_billing(self.settings, ledger), clock)

    def receive(self, number: int) -> None:
        """Take in the study of a bill."""
        journal = Journal(self.settings.journal_url)
        arrival = Arrival(
            *(f"{UID}.1.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "PACS", "BTT_BRIDGE", "127.0.0.1"),
            path="one.dcm",
            size_bytes=1,
            received_at=books.JANUARY,
        )
        assert journal.record_arrivals([arrival]) == [None]
        (instance,) = journal.unread(1)
        keywords = KEYWORDS | SCANNER | {"SeriesInstanceUID": f"{UID}.1"}
        header = Header(instance.id, UID, f"{UID}.1", f"{UID}.1.1", keywords)
        assigned = {"service": books.SERVICE, "series_instance_uid": f"{UID}.1"}
        (journey,) = journal.record_headers([header], books.JANUARY)
        journal.note(journey, {"bill": books.study(number), "assign": assigned})

    def use(self, number: int) -> str:
        """Divide the scanner of the study, and count the study of a bill as a use; return its deed."""
        digest = Vault(self.settings.journal_url, self.settings.keys_dir).digest
        name = device_key(digest, SCANNER)
        self.assets("fund", "hospital:test", "2000.00", "bank-1")
        mint = ("mint", "equipment", name, "hospital:test", "10", "100000.00", "standard", "--use-fee", "5.00")
        self.assets(*mint)
        with closing(Ledger(self.settings.ledger_url)) as ledger:
            assert Uses(ledger).attest(name, books.study(number))
        return deed_id(name)

    def assets(self, *words: str) -> str:
        result = CliRunner().invoke(app, ["assets", *words, "--settings", str(self.file)])
        if isinstance(result.exception, BridgeError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(app, ["billing", *words, "--settings", str(self.file)])

    def told(self, *words: str) -> str:
        result = self.run(*words)
        assert result.exit_code == 0, result.exception
        return result.stdout

    def refused(self, kind: type[BridgeError], words: Sequence[str], match: str) -> None:
        result = self.run(*words)
        assert isinstance(result.exception, kind)
        assert match in str(result.exception)


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path)
    house.work()
    return house


@pytest.mark.peer("pdftotext")
def test_the_report_in_each_form(house: House, tmp_path: Path) -> None:
    """To standard output or into a file; the print is a PDF that others read."""
    assert "Compute usage, test, 2026-01" in house.told("report", "2026-01")
    assert house.told("report", "2026-01", "--format", "csv").startswith("kind,at,reference")
    path = tmp_path / "report.pdf"
    assert house.told("report", "2026-01", "--format", "pdf", "--output", str(path)) == ""
    command = [program("pdftotext"), str(path), "-"]
    text = subprocess.run(command, check=True, capture_output=True, timeout=30).stdout.decode()
    assert "Compute usage, test, 2026-01" in text
    house.refused(BridgeError, ["report", "january"], "2026-01")


def test_months_are_those_of_the_zone_in_the_settings(house: House) -> None:
    """The accountant's month, and a zone that there is not is refused at once."""
    house.file.write_text(
        house.file.read_text().replace("hospital: test", "hospital: test\n  time_zone: Asia/Shanghai")
    )
    assert "(Asia/Shanghai)" in house.told("report", "2026-01")
    house.file.write_text(house.file.read_text().replace("Asia/Shanghai", "Asia/Atlantis"))
    house.refused(ConfigurationError, ["report", "2026-01"], "time_zone")


def test_the_invoice_is_one_and_its_decimals_are_exact(house: House) -> None:
    """FHIR R4 as an independent reader has it."""
    text = house.told("invoice", "2026-01")
    Invoice.model_validate_json(text)
    assert json.loads(text, parse_float=Decimal)["totalNet"]["value"] == Decimal("20.38")
    house.refused(UnknownError, ["invoice", "2026-01", "--asset", "EUR"], "no price list")
    house.refused(RefusedError, ["invoice", "2999-12"], "not over")


def test_a_study_s_charge_goes_to_the_ehr_and_to_the_billing_system(house: House) -> None:
    """ChargeItem without the patient, DFT^P03 with the patient as the images name them."""
    house.receive(1)
    item = ChargeItem.model_validate_json(house.told("charge-item", "A-17"))
    assert item.status == "billable"
    content = house.told("dft", "A-17", "--procedure", "71250^CT chest^C4")
    message = parse_message(content, validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)
    assert message.validate()
    pid = next(line for line in content.split("\r") if line.startswith("PID"))
    assert pid.split("|")[3:6] == ["MRN-17^^^HOSPITAL^MR", "", "Doe^Jane"]
    assert message.dft_p03_financial.ft1.ft1_23.to_er7() == "A-17"
    assert message.dft_p03_financial.ft1.ft1_25.to_er7() == "71250^CT chest^C4"
    house.refused(MalformedError, ["dft", "A-17", "--procedure", "71250"], "code^text^system")
    house.refused(UnknownError, ["dft", "A-17", "--reversal"], "not taken back")
    house.refused(UnknownError, ["dft", "A-18"], "no bill")


def test_a_charge_is_refunded_once_and_its_credit_sent(house: House) -> None:
    """Named by the accession number; a repeat changes nothing; the credit is a DFT^P03 of its own."""
    house.receive(1)
    first = house.told("refund", "A-17", "--cause", "withdrawn")
    assert "5.36 CNY refunded\nno use of its scanner was counted\n" in first
    assert house.told("refund", UID) == first
    credit = house.told("dft", "A-17", "--reversal")
    (transaction,) = [line.split("|") for line in credit.split("\r") if line.startswith("FT1")]
    assert transaction[6] == "CR"


def test_a_refund_takes_the_use_of_the_scanner_back(house: House) -> None:
    """The holders earn nothing by a study that was refunded; again, it changes nothing, and there is no more to pay."""
    house.receive(1)
    deed = house.use(1)
    assert f"{deed}  equipment, 100000.00 CNY, 1 uses" in house.assets("list")
    first = house.told("refund", "A-17")
    assert first.endswith("the use of its scanner is taken back\n")
    assert house.told("refund", "A-17") == first
    assert f"{deed}  equipment, 100000.00 CNY, 0 uses" in house.assets("list")
    with pytest.raises(RefusedError, match="nothing to pay"):
        house.assets("distribute", deed, "2026-01", "hospital:test")


def test_a_use_that_is_paid_is_said_and_can_be_taken_back_behind_its_payout(house: House) -> None:
    """The refund stands; the period is reversed, then the use is retracted, and nobody earns by it again."""
    house.receive(1)
    deed = house.use(1)
    house.assets("fund", "hospital:test", "10.00", "bank-2")
    house.assets("distribute", deed, "2026-01", "hospital:test")
    assert "refunded\nthe use of its scanner is paid" in house.told("refund", "A-17")
    with pytest.raises(OverdrawnError):
        house.assets("retract", "A-17")
    assert "1 uses to be paid" in house.assets("reverse", deed, "2026-01", "--cause", "withdrawn")
    for _ in range(2):
        assert house.assets("retract", "A-17") == f"deed {deed}: 0 uses to be paid\n"


def test_a_study_whose_device_nobody_knows_is_refunded_all_the_same(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a serial number no use was counted, and there is none to take back."""
    monkeypatch.setitem(SCANNER, "DeviceSerialNumber", "")
    house.receive(1)
    assert "refunded\nno use of its scanner was counted" in house.told("refund", "A-17")
    with pytest.raises(UnknownError, match="serial number"):
        house.assets("retract", "A-17")


def test_a_payment_counts_once(house: House) -> None:
    """The same reference again is the same payment; what is no amount is refused."""
    first = house.told("pay", "bank-17", "10.00")
    assert house.told("pay", "bank-17", "10.00") == first
    house.refused(BridgeError, ["pay", "bank-17", "11.00"], "")
    for text in ("ten", "1.005", "NaN"):
        house.refused(InvalidAmountError, ["pay", "bank-18", text], "")


def test_a_pool_is_shared_out_with_the_papers_in_the_folder(tmp_path: Path) -> None:
    """By the mappings as they are on disk: pooled shares, contributors, an auditor, and a paper that does not count."""
    house, auditor = House(tmp_path), signer()
    _replace(house.mappings / "splits" / "btt-2025.yaml", "contributors: direct", "contributors: pool")
    formula = house.mappings / "dividends" / "btt-2025.yaml"
    _replace(formula, "auditors: []", f'auditors: [{{name: tuv, public_key: "{auditor.public}"}}]')
    _replace(formula, "basis_points_max: 4000", "basis_points_max: 10000")
    contributors = [{"name": name, "owner": name, "nodes": [NODES[name]]} for name in ("ann", "bob")]
    body = yaml.safe_dump({"contributors": contributors})
    (house.mappings / "dividends" / "contributors" / "ours.yaml").write_text(body)
    papers = house.mappings / "dividends" / "attestations"
    papers.mkdir()
    span = (datetime(2025, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    for name, key in (("bob", auditor), ("ann", signer())):
        paper = sign(Attestation(name, "region", "underserved", *span), key)
        (papers / f"{name}.json").write_text(json.dumps(paper))
    clock = FakeClock(books.JANUARY)
    with closing(Ledger(house.settings.ledger_url, clock)) as ledger:
        billing = open_billing(house.settings, ledger)
        books.deliver(billing, 1, node=NODES["ann"])
        books.deliver(billing, 2, node=NODES["bob"])
        clock.advance(40 * 86400)
        books.deliver(billing, 3, node=NODES["bob"])

    told = house.told("share", "2026-01").splitlines()
    assert told[0].startswith("an attestation of nobody known does not count: this is no auditor's signature")
    assert told[1:] == [
        "2026-01 by btt-2025: 7.50 CNY in the pool",
        f"  {'ann':<40} {'3.49 CNY':>20}",
        f"  {'bob':<40} {'4.01 CNY':>20}  geography 23/20",
        "  carried to the next month: 0.00 CNY",
    ]
    assert house.told("share", "2026-01").splitlines() == told
    (papers / "torn.json").write_text('{"kind"')
    house.refused(MalformedError, ["share", "2026-01"], "torn.json is not JSON")


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
