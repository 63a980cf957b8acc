"""The formula and what may enter it, measured or signed by an auditor: a claim, a fake and a lapsed paper do not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import pytest

from btt_bridge.errors import MappingError, SignatureError
from btt_bridge.records import Performance
from btt_bridge.settle.dividends import Attestation, Audited, Formula, audited, check, open_dividends, sign
from btt_bridge.signing import Signer, canonical
from tests.settle import books
from tests.settle.dividends.house import JANUARY, REGISTRY, SHARE, SHIPPED, House, signer

FOLDER: Final = books.ROOT / "mappings" / "dividends"
AUDITOR: Final = signer()
SECOND: Final = signer()
IMPOSTOR: Final = signer()
FORMULA: Final = replace(SHIPPED, auditors={AUDITOR.public: "auditor", SECOND.public: "second"})
WHOLE: Final = (datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC))


def attestation(measure: str = "region", value: Any = "underserved", contributor: str = "bob") -> Attestation:
    return Attestation(contributor, measure, value, *WHOLE)


def counted(*envelopes: Mapping[str, Any], formula: Formula = FORMULA) -> dict[str, Audited]:
    return audited(envelopes, formula, REGISTRY, JANUARY)[0]


# --- each factor ----------------------------------------------------------------------------------------


def test_what_nobody_measured_is_one() -> None:
    """No exchange, no auditor, too few leases or results: every factor is exactly one."""
    for worked in (None, Performance("", 19, 0, 10**18, 1)):
        assert set(FORMULA.factors(worked, Audited()).values()) == {1}


@pytest.mark.parametrize(
    ("accepted", "lost", "factor"),
    [(19, 1, Fraction(1)), (20, 0, Fraction(20, 19)), (50, 50, Fraction(10, 19)), (2, 98, Fraction(1, 2))],
)
def test_reliability_is_leases_kept(accepted: int, lost: int, factor: Fraction) -> None:
    """95 % kept is one; more earns a little more, less costs as much as it is less, down to a half."""
    held = min(factor, Fraction(105, 100))
    assert FORMULA.factors(Performance("", accepted, lost, 0, 0), Audited())["reliability"] == held


@pytest.mark.parametrize(
    ("milliseconds", "factor"),
    [(100_000, Fraction(1)), (1, Fraction(12, 10)), (90_000, Fraction(10, 9)), (10**9, Fraction(8, 10))],
)
def test_quality_is_the_throughput_of_real_jobs(milliseconds: int, factor: Fraction) -> None:
    """10^12 operations in 100 seconds are the reference; the bounds hold at both ends."""
    assert FORMULA.factors(Performance("", 25, 0, 10**12, milliseconds), Audited())["quality"] == factor


def test_geography_and_energy_are_an_auditor_s() -> None:
    """Signed, they count within their bounds."""
    found = FORMULA.factors(None, Audited(region="underserved", operations_per_joule=105_000_000))
    assert (found["geography"], found["energy"]) == (Fraction(115, 100), Fraction(105, 100))
    assert FORMULA.factors(None, Audited(operations_per_joule=10**15))["energy"] == Fraction(11, 10)
    assert FORMULA.factors(None, Audited(operations_per_joule=0))["energy"] == Fraction(9, 10)


@pytest.mark.parametrize(
    ("gpus", "name"),
    [(1, "home"), (5, "home"), (6, "medium"), (50, "medium"), (51, "institutional"), (9999, "institutional")],
)
def test_classes_of_operators_are_data(gpus: int, name: str) -> None:
    """Home has 1 to 5 GPUs, medium 6 to 50, institutional more; the shipped formula favors none."""
    one = FORMULA.class_of(Audited(gpus=gpus))
    assert one is not None
    assert (one.name, one.basis_points) == (name, 10_000)
    assert FORMULA.class_of(Audited(gpus=0)) is None
    assert FORMULA.class_of(Audited()) is None


def test_a_class_can_be_favored_by_data_alone(one_book: House) -> None:
    """Where the mapping says so, an audited home operator's work counts for more, and the class is told."""
    classes = tuple(replace(one, basis_points=15_000) if one.name == "home" else one for one in FORMULA.classes)
    one_book.formula(classes=classes, auditors=FORMULA.auditors)
    one_book.work("ann", 1)
    one_book.work("bob", 1)
    one_book.over()
    found = one_book.distribute(JANUARY, attestations=[sign(attestation("gpus", 3), AUDITOR)])
    assert {share.contributor: (share.kind, share.units) for share in found.shares} == {
        "ann": ("", 2 * SHARE * 2 // 5),
        "bob": ("home", 2 * SHARE * 3 // 5),
    }


# --- what does not count --------------------------------------------------------------------------------


def altered(envelope: Mapping[str, str]) -> dict[str, str]:
    body = json.loads(base64.b64decode(envelope["payload"]))
    return {**envelope, "payload": base64.b64encode(canonical(body | {"contributor": "ann"})).decode()}


def of_time(start: datetime, end: datetime) -> dict[str, str]:
    return sign(replace(attestation(), start=start, end=end), AUDITOR)


_ATTACKS: dict[str, tuple[Callable[[], Mapping[str, Any]], str]] = {
    "its own signature": (lambda: sign(attestation(), IMPOSTOR), "no auditor"),
    "no signature": (lambda: {"payload": "e30=", "kind": "attestation"}, "no auditor"),
    "an auditor's name on another's signature": (
        lambda: {**sign(attestation(), IMPOSTOR), "key": AUDITOR.public},
        "",
    ),
    "altered after it was signed": (lambda: altered(sign(attestation(), AUDITOR)), ""),
    "signed as something else": (lambda: AUDITOR.sign("offer", {"contributor": "bob"}), "attestation"),
    "signed, and no attestation": (lambda: AUDITOR.sign("attestation", {"contributor": "bob"}), "no attestation"),
    "lapsed before the month": (lambda: of_time(WHOLE[0], JANUARY.start), "whole month"),
    "lapsed within the month": (lambda: of_time(WHOLE[0], JANUARY.end - timedelta(seconds=1)), "whole month"),
    "from within the month": (lambda: of_time(JANUARY.start + timedelta(seconds=1), WHOLE[1]), "whole month"),
    "energy by its own signature": (
        lambda: sign(attestation("operations_per_joule", 10**12), IMPOSTOR),
        "no auditor",
    ),
    "GPUs by its own signature": (lambda: sign(attestation("gpus", 500), IMPOSTOR), "no auditor"),
    "of somebody unknown": (lambda: sign(attestation(contributor="eve"), AUDITOR), "no such contributor"),
    "of an unknown region": (lambda: sign(attestation(value="atlantis"), AUDITOR), "no such region"),
}


@pytest.mark.parametrize("attack", _ATTACKS)
def test_a_spoofed_paper_does_not_count(one_book: House, attack: str) -> None:
    """Whatever is wrong with the paper, the share is what it would be without one, and the reason is said."""
    make, reason = _ATTACKS[attack]
    found, refusals = audited([make()], FORMULA, REGISTRY, JANUARY)
    assert (found, len(refusals)) == ({}, 1)
    assert reason in refusals[0].reason
    one_book.formula(auditors=FORMULA.auditors)
    one_book.work("ann")
    one_book.work("bob")
    one_book.over()
    one_book.distribute(JANUARY, attestations=[make()])
    assert one_book.has("ann") == one_book.has("bob") == SHARE


def test_an_honest_paper_counts(one_book: House) -> None:
    """The same with a good signature for the whole month: the attack table is not empty by mistake."""
    one_book.formula(auditors=FORMULA.auditors)
    one_book.work("ann")
    one_book.work("bob")
    one_book.over()
    one_book.distribute(JANUARY, attestations=[sign(attestation(), AUDITOR)])
    # 100 to 115 parts of 750.
    assert (one_book.has("ann"), one_book.has("bob")) == (349, 401)


def test_nobody_audits_itself() -> None:
    """An auditor who is the contributor, or owns it, is not independent of it."""
    for name in ("bob", "bob-ltd"):
        formula = replace(FORMULA, auditors={AUDITOR.public: name})
        assert counted(sign(attestation(), AUDITOR), formula=formula) == {}


def test_where_auditors_differ_the_smaller_factor_counts() -> None:
    """One auditor who was talked into it is not enough, whichever paper comes first."""
    papers = [sign(attestation(value="metropolitan"), SECOND), sign(attestation(), AUDITOR)]
    for order in (papers, papers[::-1]):
        assert counted(*order)["bob"] == Audited(region="metropolitan")


def test_several_things_are_attested_one_by_one() -> None:
    """Each paper says one thing, and they come together."""
    papers = [attestation(), attestation("gpus", 7), attestation("operations_per_joule", 10)]
    assert counted(*(sign(paper, AUDITOR) for paper in papers))["bob"] == Audited(7, "underserved", 10)


@pytest.mark.parametrize(
    ("measure", "value"), [("gpus", -1), ("gpus", True), ("gpus", "7"), ("region", 7), ("benchmark", 10**15)]
)
def test_what_cannot_be_attested_is_no_attestation(measure: str, value: Any) -> None:
    """No negative number, no truth value, no text for a number; and nobody can attest a benchmark."""
    with pytest.raises(SignatureError):
        attestation(measure, value)
    assert counted(AUDITOR.sign("attestation", _body(measure, value))) == {}


def _body(measure: str, value: Any) -> dict[str, Any]:
    instants = {"from": WHOLE[0].isoformat(), "until": WHOLE[1].isoformat()}
    return {"contributor": "bob", "measure": measure, "value": value} | instants


# --- the data -------------------------------------------------------------------------------------------


def test_the_shipped_mappings_hold() -> None:
    """Formula and contributors load, and no auditor is trusted before somebody names one."""
    assert check(FOLDER) == []
    assert SHIPPED.auditors == {}
    assert isinstance(AUDITOR, Signer)


@pytest.mark.parametrize(
    ("file", "old", "new", "keyword"),
    [
        ("btt-2025.yaml", "from: 5000, to: 10500", "from: 5000, to: 4000", "to"),
        ("btt-2025.yaml", "underserved: 11500", "underserved: 12000", "underserved"),
        ("btt-2025.yaml", "gpus_from: 51", "gpus_from: 6", "classes"),
        ("btt-2025.yaml", "basis_points: 10000}", "basis_points: -1}", "basis_points"),
        ("btt-2025.yaml", "contributor_basis_points_max: 4000", "contributor_basis_points_max: 10001", ""),
        ("btt-2025.yaml", "auditors: []", "auditors: [{name: a, public_key: abc}]", "public_key"),
        ("contributors/example.yaml", "0002", "0001", "nodes"),
        ("contributors/example.yaml", "name: example-university", "name: example-home", "name"),
        ("contributors/example.yaml", "owner: example-person", "", "owner"),
    ],
)
def test_wrong_mappings_are_refused_with_their_line(
    tmp_path: Path, file: str, old: str, new: str, keyword: str
) -> None:
    """Bounds that end early, a region outside them, classes out of order, a node of two contributors, a lost owner."""
    for path in FOLDER.rglob("*.yaml"):
        target = tmp_path / path.relative_to(FOLDER)
        target.parent.mkdir(exist_ok=True)
        text = path.read_text()
        assert path.name != Path(file).name or old in text
        target.write_text(text.replace(old, new, 1) if path.name == Path(file).name else text)
    errors = check(tmp_path)
    assert [error for error in errors if not keyword or error.keyword == keyword]
    assert all(error.line > 1 and error.file.endswith(file) for error in errors)
    with pytest.raises(MappingError):
        open_dividends(tmp_path, None)  # type: ignore[arg-type]
