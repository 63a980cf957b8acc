"""`btt-bridge payfi`: a claim is taken in, closed, paid by the bank, told of in FHIR, and measured."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from btt_bridge import config
from btt_bridge.errors import (
    ConfigurationError,
    InvalidAmountError,
    KeyConflictError,
    MalformedError,
    OverdrawnError,
    RateUnavailableError,
    UnknownError,
)
from btt_bridge.ledger import Ledger, audit
from btt_bridge.settle.payfi.iso20022 import PAIN_001
from tests.commands.conftest import Run

CAMT: Final = "urn:iso:std:iso:20022:tech:xsd:camt.054.001.08"


def claim(folder: Path, value: str = "1000.00", currency: str = "CNY") -> Path:
    body: dict[str, Any] = {
        "resourceType": "Claim",
        "id": "c1",
        "status": "active",
        "use": "claim",
        "patient": {"reference": "Patient/jane-doe"},
        "insurer": {"reference": "Organization/example-insurer"},
        "provider": {"reference": "Organization/example-clinic"},
        "total": {"value": value, "currency": currency},
    }
    path = folder / "claim.json"
    path.write_text(json.dumps(body))
    return path


def bank_pays(rail: Path, wrong: str = "") -> None:
    """Take every message, pay it, and say so; or say `wrong` instead of its amount, and speak of others' orders."""
    (message,) = (rail / "out").iterdir()
    transfer = ET.parse(message).find(f".//{{{PAIN_001}}}CdtTrfTxInf")
    assert transfer is not None
    order = transfer.findtext(f".//{{{PAIN_001}}}EndToEndId") or ""
    amount = wrong or transfer.findtext(f".//{{{PAIN_001}}}InstdAmt")
    entries = "".join(
        f"<Ntry><CdtDbtInd>DBIT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts><NtryDtls><TxDtls><Refs><EndToEndId>{name}"
        f'</EndToEndId></Refs><Amt Ccy="CNY">{amount}</Amt></TxDtls></NtryDtls></Ntry>'
        for name in ([order, "THEIRS-1"] if wrong else [order])
    )
    body = f"<BkToCstmrDbtCdtNtfctn><Ntfctn>{entries}</Ntfctn></BkToCstmrDbtCdtNtfctn>"
    (rail / "in" / "1.xml").write_text(f'<Document xmlns="{CAMT}">{body}</Document>')


def test_a_claim_goes_all_the_way_by_hand(run: Run, tmp_path: Path, settings_file: Path) -> None:
    """1,000.00 less 0.7 % and 0.25 %: instructed once, netted, at the rail, confirmed, told of, and in time."""
    path, rail = str(claim(tmp_path)), tmp_path / "data" / "rail"
    for _ in range(2):
        said = run("payfi", "instruct", path)
        assert "instructed" in said
        assert "gross 1000.00 CNY, fees 9.50 CNY, net 990.50 CNY" in said
    assert "No batch is due." in run("payfi", "close")
    assert "990.50 CNY of 990.50 CNY, 0.00 CNY set off" in run("payfi", "close", "--early")
    assert "1 payouts are at the rail" in run("payfi", "close", "--early")
    assert "0 of them overdue" in run("payfi", "level")
    bank_pays(rail)
    assert "settled" in run("payfi", "reconcile")
    assert "Documents of 1 payouts" in run("payfi", "documents")
    assert "Documents of 0 payouts" in run("payfi", "documents")
    assert "Documents of 1 payouts" in run("payfi", "documents", "--since", "0")
    told = tmp_path / "data" / "payments"
    assert "settled" in run("payfi", "instruct", path)
    assert "1, 1 of them in time" in run("payfi", "level")
    (reconciliation,) = told.glob("PaymentReconciliation-*.json")
    body = json.loads(reconciliation.read_bytes(), parse_float=Decimal)
    assert sum(one["amount"]["value"] for one in body["detail"]) == body["paymentAmount"]["value"] == Decimal("990.50")
    assert [one["request"] for one in body["detail"]] == [{"reference": "https://ehr.example/fhir/Claim/c1"}]
    assert len(list(told.glob("PaymentNotice-*.json"))) == 1
    ledger = Ledger(config.load(settings_file).ledger_url)
    assert audit.verify(ledger).problem == ""
    assert b"jane-doe" not in b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    ledger.close()


def test_a_claim_in_another_currency_is_converted_at_a_quoted_rate(run: Run, tmp_path: Path) -> None:
    """100.00 EUR less 0.7, 0.75 and 0.25 % at the middle of 8.00 and 8.02; once paid it needs no rate any more."""
    now = datetime.now(UTC).isoformat()
    for name, rate in (("bank", "8.00"), ("broker", "8.02")):
        (tmp_path / f"{name}.csv").write_text(f"at,base,quote,rate\n{now},EUR,CNY,{rate}\n")
    path = str(claim(tmp_path, "100.00", "EUR"))
    assert "gross 100.00 EUR, fees 1.70 EUR, net 787.38 CNY" in run("payfi", "instruct", path)
    (tmp_path / "bank.csv").unlink()
    assert "net 787.38 CNY" in run("payfi", "instruct", path)


def test_what_a_bank_says_wrongly_ends_with_status_one(run: Run, tmp_path: Path) -> None:
    """Another amount is refused and named, and read again."""
    run("payfi", "instruct", str(claim(tmp_path)))
    run("payfi", "close", "--early")
    rail = tmp_path / "data" / "rail"
    bank_pays(rail, "990.51")
    answer = run("payfi", "reconcile", status=1)
    assert "was refused with InvalidAmountError" in answer
    assert "1 confirmations are of orders that are not ours" in answer
    assert (rail / "in" / "1.xml").exists()


def test_a_batch_that_cannot_be_handed_over_ends_with_status_one(run: Run, tmp_path: Path) -> None:
    """It is named; once the rail takes messages again, it goes out."""
    run("payfi", "instruct", str(claim(tmp_path)))
    out = tmp_path / "data" / "rail" / ".btt-1.xml"
    out.mkdir(parents=True)
    answer = run("payfi", "close", "--early", status=1)
    assert "btt-1 could not be handed over (IsADirectoryError)" in answer
    out.rmdir()
    assert "1 payouts are at the rail" in run("payfi", "close")


def test_what_is_refused_says_why(run: Run, tmp_path: Path) -> None:
    """Another total for the same claim, no rate, beyond the credit line, no file, a stranger."""
    with pytest.raises(RateUnavailableError):
        run("payfi", "instruct", str(claim(tmp_path, "10.00", "EUR")))
    run("payfi", "instruct", str(claim(tmp_path)))
    with pytest.raises(KeyConflictError):
        run("payfi", "instruct", str(claim(tmp_path, "1000.01")))
    with pytest.raises(MalformedError):
        run("payfi", "instruct", str(tmp_path / "nothing.json"))
    body = json.loads(claim(tmp_path, "1000000.01").read_text()) | {"id": "c2"}
    (tmp_path / "claim.json").write_text(json.dumps(body))
    with pytest.raises(OverdrawnError):
        run("payfi", "instruct", str(tmp_path / "claim.json"))
    body["provider"] = {"reference": "Organization/stranger"}
    (tmp_path / "claim.json").write_text(json.dumps(body))
    with pytest.raises(UnknownError):
        run("payfi", "instruct", str(tmp_path / "claim.json"))


def test_a_party_pays_in_once_for_each_reference(run: Run) -> None:
    """The same reference again changes nothing; what is no amount is refused."""
    for _ in range(2):
        assert "1,000.00 CNY" in run("payfi", "fund", "Organization/example-insurer", "1000.00", "CNY", "bank-1")
        assert "5.00 CNY" in run("payfi", "fund", "Patient/jane-doe", "5.00", "CNY", "bank-1-jane")
    for wrong in ("x", "NaN", "1.001", "0"):
        with pytest.raises(InvalidAmountError):
            run("payfi", "fund", "Organization/example-insurer", wrong, "CNY", "bank-2")


def test_an_ehr_has_a_name(run: Run, settings_file: Path, tmp_path: Path) -> None:
    """Without it the ids of two systems could be taken for one another."""
    settings_file.write_text(settings_file.read_text().replace("source: https://ehr.example/fhir", "source: ''"))
    with pytest.raises(ConfigurationError, match="which EHR"):
        run("payfi", "instruct", str(claim(tmp_path)))
