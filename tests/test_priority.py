"""The attestation as it travels: printed by the token's ledger, put into the offer, believed for a day at most."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from typer.testing import CliRunner

from btt_bridge import cli, priority
from btt_bridge.config import Dispatch, Settings
from btt_bridge.dispatch import Dispatcher
from btt_bridge.ledger import Ledger, Move
from btt_bridge.money import BTT, CNY, Amount
from btt_bridge.records import Parcel, Tier, Urgency
from btt_bridge.settle.token import open_token
from btt_bridge.signing import Signer
from btt_bridge.testing import FakeClock

ROOT = Path(__file__).parents[1]


def test_a_stake_in_the_ledger_becomes_the_priority_that_an_offer_carries(tmp_path: Path) -> None:
    """A thousand BTT that stood for their age give class 2; the bridge passes on what was printed, and no file is no
    priority and no failure."""
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", FakeClock())) as ledger:
        token, name = open_token(ROOT / "mappings", ledger), "wallet:hospital:main:btt"
        token.supply.release()
        ledger.open_account(name, BTT)
        ledger.post_all("t", "gift", [Move("wallet:investor:bithive:btt", name, Amount(10**21, BTT), "gift")])
        token.stakes.stake("hospital:main", "s1", 10**21, "none")
        token.dedications.dedicate("hospital:main", "main")
    file, path = tmp_path / "bridge.yaml", tmp_path / "priority.json"
    file.write_text(f"data_dir: {tmp_path}\nmappings_dir: {ROOT / 'mappings'}\n")
    settings = Settings(data_dir=tmp_path, dispatch=Dispatch(attestation_path=path))
    assert _offered(settings) == ""
    done = CliRunner().invoke(cli.app, ["ledger", "attest", "hospital:main", "-s", str(file)])
    path.write_text(done.output)
    key, now = Signer.load(settings.keys_dir / "bridge.key").public, datetime.now(UTC)
    assert priority.read(_offered(settings), [key], "main", now) == 2
    assert priority.read(_offered(settings), [], "main", now) == 0
    assert priority.read(_offered(settings), [key], "main", now + timedelta(hours=12)) == 0


def _offered(settings: Settings) -> str:
    dispatcher = Dispatcher.of(settings)
    parcel = Parcel("parcel", "0" * 64, 1, 1, 1)
    offering = dispatcher.prepare(
        parcel,
        dispatcher.keep(bytes(32)),
        offer_id="o",
        service="ct-lung",
        operations=1,
        urgency=Urgency.ROUTINE,
        tier=Tier.PUBLIC,
        price_max=Amount(1, CNY),
        deadline=datetime.now(UTC),
    )
    return offering.offer.attestation
