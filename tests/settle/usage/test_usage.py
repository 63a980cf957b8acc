"""The monthly usage report: its account is the ledger's, its comparison names its source, and nobody is named in it."""

from __future__ import annotations

import csv
import subprocess
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from btt_bridge.errors import MappingError
from btt_bridge.ledger import Move
from btt_bridge.money import BTT, CNY, Amount, Asset
from btt_bridge.settle import Billing, Cause
from btt_bridge.settle.bills import Account, Activity, Month, activity
from btt_bridge.settle.meters import Reading
from btt_bridge.settle.prices import Rate
from btt_bridge.settle.usage import Report, as_csv, as_html, check, load, summarize
from btt_bridge.settle.usage.printed import as_pdf
from btt_bridge.settle.usage.references import Reference, References
from tests.peers.server import program
from tests.settle import books

FOLDER = books.ROOT / "mappings" / "references"
SHIPPED = load(FOLDER)


@pytest.fixture
def january(one_book: Billing) -> Report:
    return summarize(activity(one_book, Month.parse("2026-01")), SHIPPED)


def rows(report: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(as_csv(report).decode().splitlines()))


class _Texts(HTMLParser):
    """What a reader of a page sees."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tag = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tag = tag

    def handle_data(self, data: str) -> None:
        self.found += [data.strip()] if data.strip() and self.tag != "style" else []


def texts(content: bytes) -> list[str]:
    reader = _Texts()
    reader.feed(content.decode())
    return reader.found


# --- the account ----------------------------------------------------------------------------------------


def test_each_month_reconciles_with_the_ledger_to_the_unit(billing: Billing) -> None:
    """Lines sum to the account's change, months join without a gap, and the last closing is the ledger's balance."""
    reports = [summarize(activity(billing, Month.parse(month)), SHIPPED) for month in ("2026-01", "2026-02")]
    for report in reports:
        lines = rows(report)
        (account,) = [section.account for section in report.sections]
        changes = [int(line["units"]) for line in lines if line["kind"] not in ("opening", "closing")]
        assert sum(changes) == account.closing - account.opening
        assert (int(lines[0]["units"]), int(lines[-1]["units"])) == (account.opening, account.closing)
        for table in (report.sections[0].services, report.sections[0].days):
            assert sum(line.charged.units for line in table) == account.charged
            assert sum(line.refunded.units for line in table) == account.refunded
        assert account.other == 0
    first, second = (report.sections[0].account for report in reports)
    assert first.opening == 0
    assert first.closing == second.opening
    assert second.closing == billing.ledger.balance(billing.payable(CNY)).units


def test_what_is_not_billing_shows_as_another_movement(billing: Billing) -> None:
    """A hand-made transfer on the hospital's account is not hidden: the report still ends at the ledger's balance."""
    step = Move("bank:cny", billing.payable(CNY), Amount(7, CNY), "correction")
    billing.ledger.post_all("clerk", "correction-1", [step])
    report = summarize(activity(billing, Month.parse("2026-02")), SHIPPED)
    account = report.sections[0].account
    assert (account.other, account.closing) == (7, billing.ledger.balance(billing.payable(CNY)).units)
    assert rows(report)[-2]["kind"] == "other"
    assert "Other movements" in texts(as_html(report))


def test_a_month_that_is_over_does_not_change(billing: Billing) -> None:
    """What is refunded later is in the later month's report, and the earlier one stays as it was but for its head."""
    month = Month.parse("2026-01")
    before = summarize(activity(billing, month), SHIPPED)
    billing.refund(books.study(1), books.SERVICE, Cause.DISPUTED)
    after = summarize(activity(billing, month), SHIPPED)
    assert as_csv(after) == as_csv(before)
    assert after.sections == before.sections


def test_the_account_is_read_as_one_moment_saw_it(billing: Billing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A charge that arrives between two looks at the book is in all of the report or in none of it."""
    ledger, real, arrived = billing.ledger, billing.ledger.balance, []

    def interrupted(name: str) -> Any:
        if not arrived:
            arrived.append(books.deliver(billing, 8))
        return real(name)

    monkeypatch.setattr(ledger, "balance", interrupted)
    account = activity(billing, Month.parse("2026-02")).accounts[0]
    assert account.other == 0
    assert account.closing == real(billing.payable(CNY)).units


# --- the comparison -------------------------------------------------------------------------------------


def test_the_report_says_what_it_compares_with_and_on_whose_word(january: Report) -> None:
    """Rate, source, evidence and day are in it; the figures are the month's standing charges and no others."""
    (section,) = january.sections
    cloud, own = section.comparisons
    # Studies 1 and 2 with 124 MiB each, and 5, of which nothing was measured; 3 was taken back.
    assert (section.compared, section.unmeasured) == (3, 1)
    assert cloud.charged.units == own.charged.units == 536 + 966 + 536
    assert cloud.cost.units == 3 * 1500 + round(2 * 130_000_000 / 1048576 * 0.8)
    assert own.cost.units == 650_000
    assert cloud.saved_basis_points == (cloud.cost.units - 2038) * 10_000 // cloud.cost.units
    assert (cloud.verdict, own.verdict) == ("below the claim", "above the claim")
    page = " ".join(texts(as_html(january)))
    for rate in SHIPPED[0].rates:
        assert f"{rate.name}: {rate.source} ({rate.evidence}, {rate.taken_on})" in page
    assert "The claim is 60.00 % to 80.00 %" in page


def reference(**changes: Any) -> Reference:
    none = Rate(1, 0)
    rate = Reference("r", "R", "nobody", "assumption", date(2026, 1, 1), 0, 0, none, none, none)
    return replace(rate, **changes)


@pytest.mark.parametrize(
    ("monthly", "saved", "verdict"),
    [
        (2038, 0, "below the claim"),
        (1019, -10_000, "below the claim"),
        (5095, 6000, "as claimed"),
        (5094, 5999, "below the claim"),
        (10_190, 8000, "as claimed"),
        (10_200, 8001, "above the claim"),
        (0, None, "nothing to compare with"),
    ],
)
def test_the_claim_is_judged_and_not_assumed(january: Report, monthly: int, saved: int | None, verdict: str) -> None:
    """Both edges of the claim, a reference that is cheaper, and one that costs nothing."""
    rates = References("t", date(2025, 1, 1), CNY, "half-even", 6000, 8000, (reference(monthly_units=monthly),))
    (one,) = summarize(january.activity, [rates]).sections[0].comparisons
    assert (one.saved_basis_points, one.verdict) == (saved, verdict)


def test_a_rate_is_exact_until_it_is_rounded_once() -> None:
    """Three results of a third of a unit are one unit; rounding each would give none or three."""
    rates = References("t", date(2025, 1, 1), CNY, "half-even", 0, 0, (reference(operations=Rate(3, 1_000_000)),))
    assert rates.cost(rates.rates[0], [Reading(1, 0, 0)] * 3).units == 1
    assert rates.cost(rates.rates[0], []).units == 0


def test_what_no_rate_fits_is_compared_with_nothing(january: Report) -> None:
    """Rates of another asset, or from a later day, do not count, and the report says that there was none."""
    for change in ({"asset": BTT}, {"effective_from": date(2026, 2, 1)}):
        report = summarize(january.activity, [replace(SHIPPED[0], **change)])  # type: ignore[arg-type]
        assert report.sections[0].comparisons == ()
        assert "No reference rate is in force for this asset." in texts(as_html(report))
        assert as_pdf(report).startswith(b"%PDF")


@pytest.mark.parametrize(
    ("old", "new", "keyword"),
    [
        ("from_basis_points: 6000", "from_basis_points: 9000", "to_basis_points"),
        ("name: own-hardware", "name: central-cloud", "rates"),
        ("taken_on: 2025-01-01", "taken_on: 2025-02-30", "taken_on"),
        ("evidence: assumption", "evidence: hearsay", "evidence"),
        ("scale: 2", "scale: 3", "scale"),
        ("monthly_units: 650000", "monthly_units: 6500.5", "monthly_units"),
    ],
)
def test_wrong_rates_are_refused_with_their_line(tmp_path: Path, old: str, new: str, keyword: str) -> None:
    """A claim that ends before it begins, a rate twice, no day, no evidence, half a unit, a scale of another asset."""
    text = (FOLDER / "btt-2025.yaml").read_text()
    (tmp_path / "a.yaml").write_text(text.replace(old, new, 1))
    errors = check(tmp_path)
    assert keyword in {error.keyword for error in errors}
    assert all(error.line > 1 for error in errors)
    with pytest.raises(MappingError):
        load(tmp_path)


# --- its forms ------------------------------------------------------------------------------------------


@pytest.mark.peer("pdftotext")
def test_the_print_says_what_the_page_says(january: Report, tmp_path: Path) -> None:
    """An independent reader finds every figure and word of the page in the PDF, which is the same bytes each time."""
    content = as_pdf(january)
    assert content == as_pdf(january)
    path = tmp_path / "report.pdf"
    path.write_bytes(content)
    command = [program("pdftotext"), "-layout", str(path), "-"]
    found = subprocess.run(command, check=True, capture_output=True, timeout=30).stdout.decode()
    printed = "".join(found.split())
    assert "Computeusage,test,2026-01" in printed
    for text in texts(as_html(january)):
        assert "".join(text.split()) in printed, text


def test_other_letters_are_printed_in_a_font_that_has_them(january: Report) -> None:
    """A source in Chinese changes the font; Latin text keeps the one that every reader has."""
    rates = replace(SHIPPED[0], rates=(reference(source="报价单"),))
    assert b"STSong-Light" in as_pdf(summarize(january.activity, [rates]))
    assert b"STSong-Light" not in as_pdf(january)


def test_no_study_is_named_in_any_form(january: Report) -> None:
    """Neither a study's key nor a patient is in it: only CSV has the reference that events have."""
    bills = january.activity.charges
    forms = [as_html(january), as_csv(january), as_pdf(january)]
    assert not [bill for bill in bills for form in forms if bill.study_key.encode() in form]
    assert [line["reference"] for line in rows(january) if line["kind"] == "charge"] == [b.reference for b in bills]
    assert not [bill for bill in bills if bill.reference.encode() in forms[0]]


def test_markup_in_data_stays_text(january: Report) -> None:
    """What a mapping says cannot become a tag on the page, nor markup in the print."""
    rates = replace(SHIPPED[0], rates=(reference(title="<script>alert(1)</script>", source="<b>& more"),))
    report = summarize(january.activity, [rates])
    assert b"<script>" not in as_html(report)
    assert as_pdf(report).startswith(b"%PDF")


def test_a_month_ends_where_its_zone_says(one_book: Billing) -> None:
    """In Shanghai the new year begins eight hours earlier, and days are Shanghai's days."""
    zone = ZoneInfo("Asia/Shanghai")
    seen = activity(one_book, Month.parse("2026-01", zone))
    assert [line.label for line in summarize(seen, SHIPPED).sections[0].days] == ["2026-01-05", "2026-01-06"]
    assert "Asia/Shanghai" in " ".join(texts(as_html(summarize(seen, SHIPPED))))


def test_an_empty_month_is_a_report_too(one_book: Billing) -> None:
    """Nothing happened: the balance is carried, and what one would own all the same is still compared."""
    report = summarize(activity(one_book, Month.parse("2026-03")), SHIPPED)
    (section,) = report.sections
    assert section.account.opening == section.account.closing
    assert [one.charged.units for one in section.comparisons] == [0, 0]
    assert "Nothing." in texts(as_html(report))


def test_large_amounts_keep_their_digits() -> None:
    """BTT has 18 decimals and an account 38 digits: none is lost on the page."""
    units = -12345678901234567890123456789012345678
    account = Account(Asset("BTT", 18), units, 0, 0, 0)
    month = Activity("test", Month(date(2026, 1, 1)), 0, (), (), (account,))
    assert "-12,345,678,901,234,567,890.123456789012345678 BTT" in texts(as_html(summarize(month, ())))
