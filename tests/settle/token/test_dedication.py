"""A stake counts for one bridge at a time, and is attested afresh without anybody's hand."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btt_bridge import priority
from btt_bridge.errors import RefusedError
from btt_bridge.settle.token import Token
from btt_bridge.signing import Signer, verify
from btt_bridge.testing import FakeClock

E18: Final = 10**18
DAY: Final = 86400
HOLDER: Final = "investor:bithive"
BOOK: Final = Signer(Ed25519PrivateKey.generate())


@pytest.fixture
def token(token: Token, clock: FakeClock) -> Token:
    """With a stake of a thousand that has stood long enough for class two."""
    token.supply.release()
    token.stakes.stake(HOLDER, "s1", 1000 * E18, "none")
    clock.advance(8 * DAY)
    return token


def believed(text: str, bridge_id: str, clock: FakeClock) -> int:
    """Return the class that an exchange believes this bridge to have now."""
    return priority.read(text, [BOOK.public], bridge_id, clock.now())


def test_a_stake_counts_for_one_bridge_at_a_time(token: Token, clock: FakeClock) -> None:
    """Whoever moves it has it nowhere for a day, for the bridge before may show what was attested to it until then;
    and at no moment do two bridges have it, however often it is moved, even of the longest attestations."""
    shown, bridges = list[str](), {"bridge-0", "bridge-1"}
    for hours in range(0, 24 * 7, 6):
        if hours % 42 == 0:
            token.dedications.dedicate(HOLDER, f"bridge-{hours // 42 % 2}")
        with suppress(RefusedError):
            shown.append(token.dedications.attest(HOLDER, BOOK, timedelta(days=3)))
        having = {name for text in shown for name in bridges if believed(text, name, clock)}
        assert len(having) <= 1
        clock.advance(6 * 3600)
    assert {verify(json.loads(text), priority.KIND, BOOK.public)["bridge_id"] for text in shown} == bridges


def test_the_first_bridge_has_it_at_once_and_asking_again_changes_nothing(token: Token, clock: FakeClock) -> None:
    """Dedicated twice to the same bridge it is one posting, and costs no day."""
    made = token.dedications.dedicate(HOLDER, "main")
    assert made.since == clock.now()
    clock.advance(5)
    assert token.dedications.dedicate(HOLDER, "main") == made == token.dedications.of(HOLDER)
    assert believed(token.dedications.attest(HOLDER, BOOK), "main", clock) == 2
    assert believed(token.dedications.attest(HOLDER, BOOK), "other", clock) == 0


def test_many_at_once_dedicate_one_after_another(token: Token, clock: FakeClock) -> None:
    """Of eight who name four bridges at the same moment one is first; the others' day begins, and none is lost."""
    with ThreadPoolExecutor(8) as callers:
        made = list(callers.map(lambda n: token.dedications.dedicate(HOLDER, f"b{n % 4}"), range(8)))
    assert sum(one.since == clock.now() for one in set(made)) == 1
    last = token.dedications.of(HOLDER)
    assert last is not None
    assert last.since == clock.now() + timedelta(days=1)


def test_what_cannot_be_dedicated(token: Token) -> None:
    """No stake, no bridge's name; and nothing is attested to nobody's bridge."""
    for holder, bridge_id in (("hospital:none", "main"), (HOLDER, "Main Bridge"), (HOLDER, ""), ("nobody", "main")):
        with pytest.raises(RefusedError):
            token.dedications.dedicate(holder, bridge_id)
    assert token.dedications.of(HOLDER) is None
    with pytest.raises(RefusedError, match="for no bridge"):
        token.dedications.attest(HOLDER, BOOK)


def test_the_keeper_of_the_book_leaves_a_file_for_each_bridge(token: Token, clock: FakeClock, tmp_path: Path) -> None:
    """Of two holders the better one counts; a stake that is taken back is attested as nothing the next time."""
    token.stakes.stake("investor:m-dao", "s1", 100 * E18, "none")
    clock.advance(8 * DAY)
    token.dedications.dedicate(HOLDER, "main")
    token.dedications.dedicate("investor:m-dao", "main")
    token.dedications.renew(BOOK, tmp_path / "attestations")
    (file,) = (tmp_path / "attestations").iterdir()
    assert believed(file.read_text(), "main", clock) == 2
    token.stakes.end(HOLDER, 1)
    clock.advance(600)
    token.dedications.renew(BOOK, tmp_path / "attestations")
    assert believed(file.read_text(), "main", clock) == 1
