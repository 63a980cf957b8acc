"""The pipeline between an exchange that ranks an offer as less urgent than it asks and the accounts that bill it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from btt_bridge import cli
from btt_bridge.config import Settings
from btt_bridge.dispatch import Offering, Placed
from btt_bridge.errors import UnknownError
from btt_bridge.journal import Journal, Journey
from btt_bridge.journey import Event, State
from btt_bridge.ledger import Ledger
from btt_bridge.pipeline import Pipeline, Tools
from btt_bridge.records import Arrival, Header, Parcel, Urgency, to_body
from btt_bridge.settle import Facts, open_billing
from btt_bridge.testing import FakeClock
from btt_bridge.vault import Vault
from btt_bridge.web.metrics import Metrics
from tests.exchange.pool_parts import offer_for

MAPPINGS: Final = Path(__file__).parents[1] / "mappings"
PAYABLE: Final = "hospital:hospital:payable:cny"
PARCEL: Final = Parcel("parcel", "ab" * 32, 130_000_000, 65_011_712, 248)
ROUTE: Final = {
    "name": "emergency",
    "mapping_version": "1",
    "service": "ct-lung",
    "series_instance_uid": "2.25.2",
    "urgency": "stat",
    "tier": "public",
    "destinations": ["pacs"],
    "deadline_seconds": 1800,
    "price_max": {"units": 5000, "asset": {"code": "CNY", "scale": 2}},
}


class Exchange:
    """A dispatcher whose exchange places offers as the test says, and may forget them."""

    def __init__(self, placed: Urgency) -> None:
        self.placed = placed
        self.known: set[str] = set()

    def prepare(self, _parcel: Parcel, _key: str, **told: Any) -> Offering:
        asked = {name: told[name] for name in ("offer_id", "urgency", "tier", "deadline")}
        return Offering(offer_for(PARCEL.digest, PARCEL.size_bytes, **asked), {}, "", "")

    def offer(self, offering: Offering) -> Placed:
        self.known.add(offering.offer.offer_id)
        return Placed("open", self.placed, {"kind": "placement"})

    def standing(self, offer_id: str) -> dict[str, Any]:
        if offer_id not in self.known:
            raise UnknownError("there is no such offer of yours")
        return {"state": "leased"}

    def clear(self, *_digests: str) -> None:
        """Have no shelf."""


@dataclass
class House:
    """A study that is about to be offered, with what a pipeline needs for it."""

    settings: Settings
    journal: Journal
    ledger: Ledger
    exchange: Exchange
    pipeline: Pipeline
    journey_id: int

    @property
    def journey(self) -> Journey:
        return self.journal.journey(self.journey_id)

    def held(self) -> int:
        return self.ledger.balance(PAYABLE).debits_pending

    def events(self) -> list[str]:
        return [step.event for step in self.journal.steps(self.journey_id)][3:]

    def deliver(self) -> None:
        """Take it from the exchange to its destinations, past what is proved elsewhere, and let it be settled."""
        receipt = {"receipt": {"node_id": "n1", "output_digest": "cd" * 32}}
        for event in (Event.COMPUTED, Event.ACCEPTED, Event.RESTORED, Event.REPORTED, Event.DELIVERED):
            self.journal.advance(self.journey, event, facts=receipt if event is Event.ACCEPTED else None)
        self.pipeline.advance(self.journey_id)
        assert self.journey.state is State.SETTLED

    def price(self, urgency: Urgency) -> int:
        operations = self.journey.facts["charge"]["operations"]
        facts = Facts(operations, PARCEL.voxels, PARCEL.size_bytes, urgency, "cpu")
        return self.pipeline.tools.billing.quote(facts).amount.units


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A study on a route that asks for stat, at an exchange that has room for urgent."""
    clock = FakeClock()
    settings = Settings(data_dir=tmp_path, mappings_dir=MAPPINGS)
    journal, ledger = Journal(settings.journal_url, clock), Ledger(settings.ledger_url, clock)
    arrival = Arrival("2.25.3", "1.2", "1.2", "PACS", "BTT_BRIDGE", "127.0.0.1", "one.dcm", 1, clock.now())
    journal.record_arrivals([arrival])
    (journey_id,) = journal.record_headers([Header(1, "2.25.1", "2.25.2", "2.25.3", {})], clock.now())
    for event, facts in (
        (Event.COMPLETED, None),
        (Event.MATCHED, {"assign": ROUTE}),
        (Event.STRIPPED, {"parcel": to_body(PARCEL), "locked_key": ""}),
    ):
        journal.advance(journal.journey(journey_id), event, facts=facts)
    exchange, nothing = Exchange(Urgency.URGENT), SimpleNamespace(discard=lambda _: None)
    tools: dict[str, Any] = {"store": None, "isolation": None, "uses": None, "routes": None, "preparations": nothing}
    billing, vault = open_billing(settings, ledger), Vault(settings.journal_url, settings.keys_dir)
    tools |= {"settings": settings, "clock": clock, "journal": journal, "vault": vault, "billing": billing}
    pipeline = Pipeline(Tools(dispatcher=exchange, **tools))  # type: ignore[arg-type]
    yield House(settings, journal, ledger, exchange, pipeline, journey_id)
    pipeline.close()
    vault.engine.dispose()
    journal.engine.dispose()
    ledger.close()


def test_an_offer_beyond_the_quota_goes_on_and_costs_what_it_gets(house: House) -> None:
    """Stat was asked and urgent was given: it stays on offer, the urgent price is held, and that is what it costs."""
    house.pipeline.advance(house.journey_id)
    assert (house.journey.state, house.events()) == (State.OFFERED, ["offered", "demoted"])
    assert house.held() == house.price(Urgency.URGENT) < house.price(Urgency.STAT)
    house.pipeline.advance(house.journey_id)
    house.deliver()
    assert house.events().count("demoted") == 1
    assert (house.ledger.balance(PAYABLE).units, house.held()) == (-house.price(Urgency.URGENT), 0)
    told = [(one.type.split(".")[2], one.data["urgency"]) for one in house.ledger.notices(0, 10)]
    assert told == [("held", "stat"), ("held", "urgent"), ("charged", "urgent")]


def test_the_hospital_sees_that_it_did_not_get_what_it_asked_for(house: House) -> None:
    """In the log, in the trace of the study with the price and the exchange's word, and as a number to alert on."""
    with capture_logs() as lines:
        house.pipeline.advance(house.journey_id)
    assert [line["journey"] for line in lines if line["log_level"] == "warning"] == [house.journey_id]
    (house.settings.data_dir / "bridge.yaml").write_text(f"data_dir: {house.settings.data_dir}\n")
    trace = CliRunner().invoke(cli.app, ["trace", "2.25.1", "-s", str(house.settings.data_dir / "bridge.yaml")]).output
    assert "demoted" in trace
    assert "beyond the exchange's quota: placed as urgent, at most" in trace
    assert 'placement: {"urgency": "urgent", "envelope": {"kind": "placement"}}' in trace
    metrics = Metrics(house.settings, house.journal, house.ledger, house.journal.clock).text().decode()
    assert "\nbtt_offers_demoted_total 1.0\n" in metrics


def test_an_offer_that_is_placed_as_it_asks_is_left_as_it_is(house: House) -> None:
    """No step, no second hold; and the price of stat is charged for stat."""
    house.exchange.placed = Urgency.STAT
    house.pipeline.advance(house.journey_id)
    assert house.events() == ["offered"]
    house.deliver()
    assert house.ledger.balance(PAYABLE).units == -house.price(Urgency.STAT)


def test_a_worker_that_dies_before_it_heard_the_answer_asks_again(house: House) -> None:
    """The offer is made again, and placed as before: one hold stands in the end, and one price is charged."""
    house.exchange.offer, first = _dies, house.exchange.offer  # type: ignore[method-assign]
    house.pipeline.advance(house.journey_id)
    assert house.journey.state is State.STRIPPED
    asked = house.held()
    house.exchange.offer = first  # type: ignore[method-assign]
    house.pipeline.advance(house.journey_id)
    assert (asked, house.held()) == (house.price(Urgency.STAT), house.price(Urgency.URGENT))


def test_another_exchange_may_rank_it_lower_and_never_makes_it_dearer(house: House) -> None:
    """One that lost its memory is made the offer again: what it then gives lowers the price, and nothing raises it."""
    house.pipeline.advance(house.journey_id)
    for placed, price in ((Urgency.STAT, Urgency.URGENT), (Urgency.ROUTINE, Urgency.ROUTINE)):
        house.exchange.known.clear()
        house.exchange.placed = placed
        for _ in range(2):
            house.pipeline.advance(house.journey_id)
        assert house.held() == house.price(price)
    house.deliver()
    assert house.ledger.balance(PAYABLE).units == -house.price(Urgency.ROUTINE)


def _dies(_offering: Offering) -> Placed:
    raise OSError("the plug was pulled")
