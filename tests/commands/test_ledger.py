"""`btt-bridge ledger verify`: whether the book holds, and how it is anchored."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from btt_bridge import config
from btt_bridge.ledger import Ledger, Move, anchors, batches
from btt_bridge.money import CNY, Amount
from btt_bridge.records import Anchored, RootStanding
from btt_bridge.signing import Signer
from tests.commands.conftest import Run


def test_the_book_is_verified_with_its_anchors(run: Run, settings_file: Path) -> None:
    """How many batches stand how; another root on a chain is said, and ends with exit status 1 like a changed row."""
    settings = config.load(settings_file)
    with closing(Ledger(settings.ledger_url)) as ledger:
        for name in ("world:cny", "clinic:cny"):
            ledger.open_account(name, CNY, credit_limit=None)
        for number in (1, 2):
            ledger.post_all("test", str(number), [Move("world:cny", "clinic:cny", Amount(number, CNY), "test")])
            assert batches.close(ledger, Signer.load(settings.keys_dir / "bridge.key"))
        assert run("ledger", "verify").endswith("trial balance CNY/2: 0\nThe book holds.\n")
        for number in (1, 2):
            anchors.note(ledger, "eip155:1:0xabc", number, Anchored(RootStanding.STANDS, "0x7"))
        assert "anchored at eip155:1:0xabc: 2 batches, stands\nThe book holds." in run("ledger", "verify")
        anchors.note(ledger, "eip155:1:0xabc", 2, Anchored(RootStanding.REFUSED))
        said = run("ledger", "verify", status=1)
    assert "batch 2: another root is anchored at eip155:1:0xabc" in said
    assert "The book holds." not in said
