"""The token: a supply that never grows, moved by who holds it and burned by who holds it."""

from __future__ import annotations

import pytest
from web3.exceptions import ContractLogicError, MismatchedABI, Web3ValidationError

from btt_evm import artifacts
from tests.plugins.evm.chains import NOBODY, SUPPLY, House


def test_the_whole_supply_is_made_with_the_contract(house: House) -> None:
    """21,000,000 whole tokens of 18 decimal places, all with the allocator, told as a transfer from nobody."""
    functions = house.token.functions
    assert functions.totalSupply().call() == SUPPLY == house.balance(house.owner)
    assert [functions.name().call(), functions.symbol().call(), functions.decimals().call()] == ["BTT", "BTT", 18]
    born = house.token.events.Transfer().get_logs(from_block=0)
    assert [(log["args"]["sender"], log["args"]["receiver"], log["args"]["value"]) for log in born] == [
        (NOBODY, house.owner, SUPPLY)
    ]


def test_nothing_in_the_contract_makes_more() -> None:
    """ERC-20, a burn, and no other door: nobody mints, pauses, freezes, upgrades or owns."""
    functions = {one["name"] for one in artifacts.load("Token").abi if one["type"] == "function"}
    erc_20 = {"totalSupply", "balanceOf", "allowance", "transfer", "transferFrom", "approve"}
    assert functions == erc_20 | {"name", "symbol", "decimals", "burn"}


def test_every_refusal_of_the_token_says_why(house: House) -> None:
    """Each assertion of the contract, reached."""
    functions, one, two = house.token.functions, house.others[0], house.others[1]
    house.fund(one, 5)
    house.send(functions.approve(two, 3), one)
    lost, more = "tokens sent there are lost", "more than there is"
    assert house.refused(functions.transfer(NOBODY, 1), one) == lost
    assert house.refused(functions.transfer(house.token.address, 1), one) == lost
    assert house.refused(functions.transfer(two, 6), one) == more
    assert house.refused(functions.transfer(two, 2**256 - 1), one) == more
    assert house.refused(functions.burn(6), one) == more
    assert house.refused(functions.approve(NOBODY, 1), one) == "nobody cannot spend"
    assert house.refused(functions.transferFrom(one, two, 4), two) == "more than is allowed"
    assert house.refused(functions.transferFrom(one, house.token.address, 1), two) == lost
    assert house.refused(functions.transferFrom(one, NOBODY, 1), two) == lost
    with pytest.raises(ContractLogicError, match="the supply needs a holder"):
        house.create("Token", NOBODY, by=house.owner)


def test_an_allowance_is_used_up_and_does_not_outlive_its_owner_s_tokens(house: House) -> None:
    """transferFrom takes from allowance and balance alike; neither can be exceeded."""
    functions, one, two = house.token.functions, house.others[0], house.others[1]
    house.fund(one, 5)
    house.send(functions.approve(two, 10), one)
    house.send(functions.transferFrom(one, two, 5), two)
    assert functions.allowance(one, two).call() == 5
    assert house.refused(functions.transferFrom(one, two, 1), two) == "more than there is"
    assert (house.balance(one), house.balance(two)) == (0, 5)


@pytest.mark.parametrize("amount", [-1, 2**256, 1.5, "1", None])
def test_what_is_no_amount_never_becomes_a_call(house: House, amount: object) -> None:
    """Negative, too large, fractional or textual amounts do not fit the contract's interface."""
    with pytest.raises((MismatchedABI, Web3ValidationError)):
        house.token.functions.transfer(house.others[0], amount).call({"from": house.owner})


def test_zero_is_moved_and_burned_as_nothing(house: House) -> None:
    """ERC-20 asks that a transfer of nothing is a transfer; it changes nothing."""
    for call in (house.token.functions.transfer(house.others[0], 0), house.token.functions.burn(0)):
        house.send(call, house.others[1])
    assert house.token.functions.totalSupply().call() == house.balance(house.owner) == SUPPLY


def test_who_is_paid_is_told(house: House) -> None:
    """Transfer and Approval are logged with whom, to whom and how much; a burn is a transfer to nobody."""
    functions, one = house.token.functions, house.others[0]
    logs = [*house.send(functions.transfer(one, 7), house.owner), *house.send(functions.burn(2), one)]
    told = [house.token.events.Transfer().process_log(log)["args"] for log in logs]
    assert [(of["sender"], of["receiver"], of["value"]) for of in told] == [(house.owner, one, 7), (one, NOBODY, 2)]
    (approved,) = house.send(functions.approve(house.owner, 3), one)
    args = house.token.events.Approval().process_log(approved)["args"]
    assert (args["owner"], args["spender"], args["value"]) == (one, house.owner, 3)
    assert functions.totalSupply().call() == SUPPLY - 2
