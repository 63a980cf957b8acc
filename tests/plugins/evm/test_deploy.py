"""The contracts on a chain: the whole supply handed on by the table, and a deployment that was broken off goes on."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from btt_bridge.errors import ConfigurationError, MalformedError, MappingError, UnknownError
from btt_bridge.money import BTT, CNY
from btt_bridge.settle.token.allocation import Allocation, Governed, Linear, Milestones, Mining, Ongoing, Table
from btt_evm import deploy
from btt_evm import place as places
from btt_evm.node import Node
from btt_evm.place import Chain, Settlement
from tests.plugins.evm.chains import CHAIN_ID, SUPPLY, WINDOW, Place, payee


def test_the_supply_is_where_the_table_says(place: Place, table: Table) -> None:
    """Scheduled parts are promised, what votes release is with governance, and who deployed keeps nothing."""
    scheduled = {one.name: one for one in table.allocations if deploy.stretches(one.release)}
    promises = place.node.contract("Vesting", place.chain.vesting)
    found = [place.node.read(promises.functions.promise(number)) for number in range(len(scheduled))]
    for number, (one, grant) in enumerate(zip(scheduled.values(), found, strict=True)):
        assert grant[:3] == (payee(number), one.units, 0)
        assert grant[3:5] == (2025 * 12, 1)
        assert tuple(grant[6]) == deploy.stretches(one.release)
    promised = sum(one.units for one in scheduled.values())
    assert place.node.read(promises.functions.promised()) == promised == place.balance(place.chain.vesting)
    governed = sum(one.units for one in table.allocations if isinstance(one.release, Governed | Milestones))
    assert place.balance(place.governance.address) == governed + table.unallocated
    assert place.balance(place.node.address) == 0
    assert promised + governed + table.unallocated == SUPPLY


def test_offices_are_given_to_whom_they_belong(place: Place) -> None:
    """Governance, poster, guardian and the window, as the settlement contract has them."""
    functions = place.node.contract("Settlement", place.chain.settlement()).functions
    offices = [place.node.read(call) for call in (functions.governance(), functions.poster(), functions.guardian())]
    assert offices == [place.governance.address, place.node.address, place.guardian.address]
    assert place.node.read(functions.window_seconds()) == WINDOW
    assert place.node.read(functions.token()) == place.chain.token


def test_a_second_deployment_finds_the_first(place: Place, table: Table) -> None:
    """The same addresses, and not one transaction more."""
    count = place.node.web3.eth.get_transaction_count
    before = count(place.node.address)
    again = deploy.deploy(Node(place.chain, place.folder), table, place.holders(), WINDOW, place.folder)
    assert (again, count(place.node.address)) == (place.chain, before)
    assert places.load(place.folder) == place.chain


class BrokenOffError(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", [1, 3, 6, 9])
def test_a_deployment_that_was_broken_off_goes_on(
    tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Killed after some transactions: the next run makes the rest, and nothing twice."""
    real, left = Node._broadcast, [after]

    def broadcast(node: Node, raw: str) -> None:
        real(node, raw)
        left[0] -= 1
        if left[0] == 0:
            raise BrokenOffError

    monkeypatch.setattr(Node, "_broadcast", broadcast)
    folder, url = tmp_path / "chain", f"tester:broken-{after}"
    with pytest.raises(BrokenOffError):
        Place(folder, table, url)
    place = Place(folder, table, url)
    assert place.balance(place.node.address) == 0
    assert place.balance(place.chain.vesting) + place.balance(place.governance.address) == SUPPLY
    assert place.node.web3.eth.get_transaction_count(place.node.address) == 3 + 1 + 8 + 2


def allocated(*allocations: Allocation, supply: int = SUPPLY) -> Table:
    return Table("any", date(2025, 1, 1), supply, allocations, "")


def test_a_table_that_the_chain_cannot_keep_is_refused() -> None:
    """Another supply, too many stretches, a part without a holder, a holder without a part."""
    holders = deploy.Holders(payee(1), payee(2), {"a": payee(3)})
    linear = Allocation("a", 5, Linear(12, 0))
    assert len(deploy.grants(allocated(linear, Allocation("g", 1, Governed())), holders)) == 1
    for wrong in (
        allocated(linear, supply=1),
        allocated(Allocation("a", 5, Mining((100,) * 33, 1))),
        allocated(linear, Allocation("b", 5, Ongoing(100))),
        allocated(),
    ):
        with pytest.raises(ConfigurationError):
            deploy.grants(wrong, holders)


def test_schedules_as_stretches() -> None:
    """Delays weigh nothing, a rest of an ongoing release has a month of its own, years of mining weigh their points."""
    assert deploy.stretches(Linear(36, 6)) == ((6, 0), (36, 1))
    assert deploy.stretches(Linear(36, 0)) == ((36, 1),)
    assert deploy.stretches(Ongoing(100)) == ((100, 100),)
    assert deploy.stretches(Ongoing(3000)) == ((3, 3000), (1, 1000))
    assert deploy.stretches(Mining((6000, 4000), 1)) == ((12, 6000), (12, 4000))
    assert deploy.stretches(Milestones(("m",), (10_000,), (6,))) == deploy.stretches(Governed()) == ()


# --- what files say -------------------------------------------------------------------------------------


def test_holders_are_read_with_file_and_line(tmp_path: Path) -> None:
    """Names and addresses; each slip is named by its line."""
    path = tmp_path / "holders.yaml"
    good = {"governance": payee(1), "guardian": payee(2), "m-dao": payee(3).lower()}
    path.write_text(yaml.safe_dump(good))
    assert deploy.load_holders(path) == deploy.Holders(payee(1), payee(2), {"m-dao": payee(3)})
    wrong: list[tuple[Any, str]] = [
        ({**good, "m-dao": "0x12"}, "holders.yaml:3: m-dao: this is no address"),
        ({**good, "m-dao": "0x" + payee(1)[2:].swapcase()}, "holders.yaml:3: .*ERC-55"),
        ({**good, "m-dao": "0x" + "00" * 20}, "holders.yaml:3: .*nobody"),
        ({"governance": payee(1)}, "guardian: is missing"),
        ([1], "lines"),
    ]
    for body, said in wrong:
        path.write_text(yaml.safe_dump(body))
        with pytest.raises(MappingError, match=said):
            deploy.load_holders(path)


def test_the_folder_of_a_chain_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Everything that a chain is known by survives the file; a key elsewhere keeps its path."""
    chain = Chain(
        "http://127.0.0.1:8545",
        CHAIN_ID,
        12,
        tmp_path / "poster.key",
        payee(1),
        payee(2),
        {BTT: Settlement(payee(3), 18), CNY: Settlement(payee(4), 6)},
        {"3001": payee(5)},
        {"treasury:main": payee(6)},
        17,
    )
    for one in (chain, replace(chain, key=Path("/elsewhere/poster.key"), token="", vesting="", settlements={})):
        places.save(tmp_path, one)
        assert places.load(tmp_path) == one
    assert chain.token_units(deploy_amount := _cny(25)) == 250_000
    assert deploy_amount.units == 25
    with pytest.raises(UnknownError):
        replace(chain, settlements={}).settlement()


def _cny(units: int) -> Any:
    from btt_bridge.money import Amount

    return Amount(units, CNY)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "ftp://127.0.0.1"}, "url"),
        ({"chain_id": 0}, "chain_id"),
        ({"confirmations": -1}, "confirmations"),
        ({"token": "0x12"}, "token"),
        ({"token": "0x" + payee(1)[2:].swapcase()}, "ERC-55"),
        ({"settlements": [{"asset": "CNY", "scale": 2, "address": payee(1), "decimals": 1}]}, "fewer decimal places"),
        ({"settlements": [{"asset": "CNY", "scale": n, "address": payee(n), "decimals": 6} for n in (1, 2)]}, "twice"),
        ({"confirmation": 3}, "confirmation"),
        ({"wallets": {"treasury": payee(1)}}, "wallets"),
        ({"wallets": {"treasury:main": payee(1), "node:n1": payee(1).lower()}}, "two holders have one wallet"),
    ],
    ids=range(10),
)
def test_a_folder_that_says_something_wrong_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """Each slip is an error of the file, before anything is asked of a node."""
    body = {"url": "http://127.0.0.1:8545", "chain_id": 1, "confirmations": 12, "key": "poster.key"}
    (tmp_path / places.FILE).write_text(yaml.safe_dump({**body, **changes}))
    with pytest.raises(MappingError, match=said):
        places.load(tmp_path)


def test_a_folder_without_a_chain_says_what_to_do(tmp_path: Path) -> None:
    """No file: the advice is the command that writes one."""
    with pytest.raises(ConfigurationError) as caught:
        places.load(tmp_path)
    assert "btt-evm deploy" in caught.value.advice
    with pytest.raises(MalformedError):
        places.address("nonsense")
