"""From the EHR to the book: points for acts, payments for claims, each once, whatever order they come in."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from btt_bridge import fhir
from btt_bridge.inbox import State, Told
from btt_bridge.settle import Clinical, kinds
from btt_bridge.testing import FakeClock

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "mappings" / "rewards" / "samples"


def told(body: dict[str, Any], source: str = "ehr") -> Told:
    return Told(source, fhir.identity(body), fhir.patient(body), fhir.write(body), fhir.digest(body))


def sample(name: str, **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text())
    return {key: value for key, value in {**body, **changes}.items() if value is not None}


def claim(units: str = "120.50", **changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Claim", "id": "c1", "status": "active", "use": "claim",
        "patient": {"reference": "Patient/example"}, "insurer": {"reference": "Organization/example-insurer"},
        "provider": {"reference": "Organization/example-clinic"},
        "total": {"value": units, "currency": "CNY"}, **changes,
    }  # fmt: skip


def tell(clinical: Clinical, *bodies: dict[str, Any]) -> list[tuple[State, str]]:
    """Let the EHR tell these, one after the other, and count them; return what each came to."""
    kept = [clinical.inbox.put([told(body)])[0] for body in bodies]
    clinical.take_in()
    outcomes = {one.id: (one.state, one.outcome) for one in clinical.inbox.newest(100)}
    return [outcomes[one.id] for one in kept]


def wallet(clinical: Clinical) -> int:
    assert clinical.incentives is not None
    wallets = clinical.incentives.wallets
    return sum(grant.points for grant, _ in wallets.read(wallets.opaque("Patient/example")).grants.values())


def test_the_types_that_count_are_those_that_the_mappings_ask_for(tmp_path: Path) -> None:
    """What no rule and no payment uses need not be told, and is not kept."""
    assert {"Appointment", "Immunization", "Consent", "Claim", "PaymentNotice"} <= kinds(ROOT / "mappings")
    assert kinds(tmp_path) == frozenset()


def test_an_act_earns_points_once_however_often_it_is_told(clinical: Clinical) -> None:
    """With consent first: granted; told again by the same version it is the same row; by a newer one, it stands."""
    (_, first) = tell(clinical, sample("consent"), sample("checkup"))
    assert first[0] is State.COUNTED
    assert "granted" in first[1]
    earned = wallet(clinical)
    assert earned > 0
    again = sample("checkup", meta={"versionId": "2", "lastUpdated": "2026-01-05T08:01:00Z"})
    assert tell(clinical, sample("checkup"), again) == [first, (State.COUNTED, tell(clinical, again)[0][1])]
    assert wallet(clinical) == earned


def test_consent_may_come_after_the_act(clinical: Clinical) -> None:
    """The act waits without points, and counts as soon as the consent is there."""
    assert tell(clinical, sample("checkup"))[0][0] is State.UNCONSENTED
    assert wallet(clinical) == 0
    assert tell(clinical, sample("consent"))[0] == (State.COUNTED, "consent noted; 1 earlier acts are looked at again")
    assert wallet(clinical) > 0


def test_what_is_deleted_or_cancelled_is_taken_back(clinical: Clinical) -> None:
    """By a newer version or by DELETE; after that, the act of before does not come back."""
    tell(clinical, sample("consent"), sample("checkup"))
    gone = Told("ehr", fhir.Identity("Appointment", "example"), "", b"", deleted=True)
    clinical.inbox.put([gone])
    clinical.take_in()
    assert wallet(clinical) == 0
    assert "reversed" in clinical.inbox.newest(1)[0].outcome


def test_a_claim_becomes_a_payment_once(clinical: Clinical) -> None:
    """Claim, the same claim again, and the notice of it are one payment; the payer is debited once."""
    notice = {
        "resourceType": "PaymentNotice", "id": "n1", "status": "active",
        "request": {"reference": "Claim/c1"}, "recipient": {"reference": "Organization/example-insurer"},
        "payee": {"reference": "Organization/example-clinic"}, "amount": {"value": "120.50", "currency": "CNY"},
    }  # fmt: skip
    outcomes = [tell(clinical, body)[0] for body in (claim(), claim(created="2026-01-05"), notice)]
    assert {state for state, _ in outcomes} == {State.COUNTED}
    assert len({outcome for _, outcome in outcomes}) == 1
    assert outcomes[0][1].startswith("payment ")
    assert clinical.clearing is not None
    (payment,) = clinical.clearing.on_their_way()
    assert payment.gross.units == 12050
    assert clinical.inbox.request(payment.reference) == "Claim/c1"


def test_what_a_payment_was_made_for_can_be_followed(clinical: Clinical) -> None:
    """Told first by its notice, from a system whose address is known: the payment refers to the Claim there."""
    notice = {
        "resourceType": "PaymentNotice", "id": "n1", "status": "active",
        "request": {"reference": "https://ehr.example/fhir/Claim/c1"},
        "recipient": {"reference": "Organization/example-insurer"},
        "payee": {"reference": "Organization/example-clinic"}, "amount": {"value": "120.50", "currency": "CNY"},
    }  # fmt: skip
    at_home = replace(clinical, bases={"ehr": "https://ehr.example/fhir/"})
    assert tell(at_home, notice)[0] == tell(at_home, claim())[0]
    assert clinical.clearing is not None
    (payment,) = clinical.clearing.on_their_way()
    assert clinical.inbox.request(payment.reference) == "https://ehr.example/fhir/Claim/c1"
    assert clinical.inbox.request("another") == ""


@pytest.mark.parametrize(
    "body",
    [
        claim("0"), claim("-1"), claim("1.001"), claim("NaN"), claim(total=None),
        claim(total={"value": Decimal("1.5")}),
        claim(provider={"reference": "Organization/nobody"}), claim(status="draft"),
        sample("checkup", participant=[]), sample("checkup", id="x", appointmentType="checkup"),
    ],
)  # fmt: skip
def test_what_cannot_count_says_why_and_costs_nobody_else(clinical: Clinical, body: dict[str, Any]) -> None:
    """Wrong money, unknown parties, no patient: refused or unmet with a reason, and the next one counts."""
    first, _, last = tell(clinical, body, sample("consent"), claim("7.00", id="c2"))
    assert first[0] in (State.REFUSED, State.COUNTED)
    assert first[1]
    assert "nobody" not in first[1] or "nobody by this reference" in first[1]
    assert (last[0], wallet(clinical)) == (State.COUNTED, 0)


def test_a_changed_claim_does_not_pay_twice(clinical: Clinical) -> None:
    """The same document with another amount is a conflict for a person, not a second payment."""
    tell(clinical, claim())
    ((state, reason),) = tell(clinical, claim("999.00"))
    assert (state, reason) == (State.REFUSED, "this document asked for another payment before")


def test_a_claim_that_was_cancelled_or_deleted_is_not_paid(clinical: Clinical) -> None:
    """Whatever order its versions come in, and also where it waited for a rate meanwhile."""
    newer = {"versionId": "2", "lastUpdated": "2026-01-05T08:10:00Z"}
    older = {"versionId": "1", "lastUpdated": "2026-01-05T08:00:00Z"}
    outcomes = tell(clinical, claim(status="cancelled", meta=newer), claim(meta=older))
    assert outcomes[1] == (State.COUNTED, "superseded by a newer version")
    kept = clinical.inbox.put([told(claim(id="c3")), Told("ehr", fhir.Identity("Claim", "c3"), "", b"", deleted=True)])
    clinical.take_in()
    assert clinical.clearing is not None
    assert clinical.clearing.on_their_way() == []
    assert {one.outcome for one in clinical.inbox.newest(2)} == {
        "superseded by a newer version", "deleted; what was instructed stands until the payee returns it",
    }  # fmt: skip
    assert len(kept) == 2


def test_a_consent_that_cannot_be_read_permits_nothing_until_it_is_corrected(clinical: Clinical) -> None:
    """It may be a denial: the act waits, though another consent stands beside it, and counts after the correction."""
    unreadable = sample("consent", id="second", extension=[{"url": "x"}] * 11_000)
    (_, refused, act) = tell(clinical, sample("consent"), unreadable, sample("checkup"))
    assert refused[0] is State.REFUSED
    assert act == (State.UNCONSENTED, "A consent of this patient cannot be read.")
    mended = sample("consent", id="second", meta={"versionId": "2", "lastUpdated": "2026-01-05T08:30:00Z"})
    assert tell(clinical, mended)[0] == (State.COUNTED, "consent noted; 1 earlier acts are looked at again")
    assert wallet(clinical) > 0


def test_what_fails_for_a_while_is_tried_again(clinical: Clinical, clock: FakeClock) -> None:
    """A payee paid in another currency needs a rate: it is put off, later and later, and refused in the end."""
    foreign = claim(total={"value": "10.00", "currency": "EUR"})
    assert tell(clinical, foreign)[0][0] is State.WAITING
    for _ in range(25):
        clock.advance(3600)
        clinical.take_in()
    (kept,) = clinical.inbox.newest(10)
    assert (kept.state, kept.attempts) == (State.REFUSED, 20)
