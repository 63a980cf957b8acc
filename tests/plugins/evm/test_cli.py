"""btt-evm from deployment to payment, as a person types it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner
from web3 import Web3

from btt_bridge import config
from btt_bridge.ledger import Ledger, batches
from btt_bridge.money import BTT, Amount
from btt_bridge.settle.token import open_token
from btt_bridge.settle.token.allocation import Table
from btt_bridge.signing import Signer
from btt_evm import __main__ as commands
from btt_evm.node import Node
from btt_evm.place import Chain, save
from btt_evm.tester import named
from tests.plugins.evm.chains import CHAIN_ID, MAPPINGS, Place, pass_time, payee


def typed(*words: Any, status: int = 0) -> str:
    """Run a command and return what it printed."""
    done = CliRunner().invoke(commands.app, [str(word) for word in words])
    assert done.exit_code == status, (done.output, done.exception)
    return done.output if isinstance(done.exception, SystemExit) else str(done.exception or done.output)


def test_deploy_writes_down_where_everything_is(tmp_path: Path, table: Table) -> None:
    """From nothing to three contracts; typed again it says the same."""
    folder, url = tmp_path / "chain", "tester:cli"
    node = Node(Chain(url, CHAIN_ID, 0, folder / "poster.key"), folder)
    web3 = Web3(named(url))
    web3.eth.send_transaction({"from": web3.eth.accounts[0], "to": node.address, "value": 10**20})  # type: ignore[typeddict-item]
    names = [one.name for one in table.allocations if one.release.__class__.__name__ in ("Linear", "Ongoing", "Mining")]
    holders = tmp_path / "holders.yaml"
    known = {name: payee(number) for number, name in enumerate(names)}
    holders.write_text(yaml.safe_dump({"governance": payee(50), "guardian": payee(51), **known}))
    words = ["deploy", "--holders", holders, "--url", url, "--chain-id", CHAIN_ID, "--mappings", MAPPINGS, "-f", folder]
    said = typed(*words)
    assert len(re.findall(r"^(poster|token|vesting|settlement) +0x[0-9a-fA-F]{40}$", said, re.M)) == 4
    assert typed(*words) == said
    assert "we hold 0.000000000000000000 BTT" in typed("status", "-f", folder)


def test_orders_are_posted_claimed_and_voided(place: Place, tmp_path: Path) -> None:
    """A CSV file becomes a batch; its state is printed at each step; a proof can be handed to a payee."""
    place.fund(10**19)
    orders = tmp_path / "orders.csv"
    orders.write_text(f"order,account,amount\nhonorarium-1,{payee(1)},1.5\nhonorarium-2,{payee(2)},0.25\n")
    said = typed("post", "july", orders, "-f", place.folder)
    assert "july: 1.750000000000000000 BTT in 2 payouts, 0 paid; can be disputed until" in said
    assert typed("post", "july", orders, "-f", place.folder) == said
    proof = typed("proof", "july", "honorarium-2", "-f", place.folder)
    assert re.search(r"^index +1$", proof, re.M)
    assert re.search(r"^units +250000000000000000$", proof, re.M)
    place.wait()
    assert "2 payouts, 2 paid" in typed("claim", "july", "-f", place.folder)
    assert place.balance(payee(1)) == 15 * 10**17
    typed("post", "august", orders, "-f", place.folder)
    key = place.folder / "guardian.key"
    assert "august: void" in typed("void", "august", "--key", key, "-f", place.folder)
    assert "the dispute window is over" in typed("void", "july", "--key", key, "-f", place.folder, status=1)


def test_what_is_not_there_is_said(place: Place, tmp_path: Path) -> None:
    """Unknown messages, orders, keys, files and assets."""
    orders = tmp_path / "orders.csv"
    orders.write_text("order,account\n1,2\n")
    cases = [
        (["claim", "june", "-f", place.folder], "no such message"),
        (["void", "june", "--key", tmp_path / "no.key", "-f", place.folder], "no such key"),
        (["post", "june", orders, "-f", place.folder], "columns order, account and amount"),
        (["post", "june", orders, "--asset", "BTT", "-f", place.folder], "a code and a scale"),
        (["status", "-f", tmp_path], "no chain.yaml"),
    ]
    for words, said in cases:
        assert said in typed(*words, status=1)


def test_the_book_is_anchored_proven_and_compared(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealed batches are posted, a transfer is proven; burns of the book are followed, those of the chain booked."""
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"data_dir": str(tmp_path / "data"), "mappings_dir": str(MAPPINGS)}))
    (tmp_path / "data").mkdir()
    ledger = Ledger(config.load(settings).ledger_url)
    monkeypatch.setattr(commands, "_ledger", lambda _: ledger)
    token = open_token(MAPPINGS, ledger)
    token.supply.release()
    token.supply.burn("investor:m-dao", "fee", Amount(70, BTT))
    batches.close(ledger, Signer.load(tmp_path / "bridge.key"))
    with_settings = ["-s", settings, "-f", place.folder]
    assert re.search(r"batch 1: posted 0x[0-9a-f]{64}$", typed("anchor", *with_settings), re.M)
    place.fund(100)
    pass_time(place.provider, 1800)
    place.mine(2)
    assert re.search(r"batch 1: stands 0x[0-9a-f]{64}$", typed("anchor", *with_settings), re.M)
    assert "transfer 3 is in batch 1" in typed("prove", 3, *with_settings)
    assert "different amounts" in typed("status", "--book", *with_settings, status=1)
    assert typed("burn", *with_settings).startswith("0x")
    place.mine(2)
    assert "burned in the book   0.000000000000000070 BTT" in typed("status", "--book", *with_settings)
    assert "as much as the book" in typed("burn", *with_settings)
    save(place.folder, replace(place.chain, wallets={"treasury:main": place.governance.address}))
    coin = place.governance.contract("Token", place.chain.token)
    place.governance.transact("one", coin.functions.burn(5))
    place.mine(2)
    assert "0.000000000000000005 BTT of treasury:main cannot be booked" in typed("burns", *with_settings, status=1)
    assert "is booked" in typed("burns", "--since", place.node.deep(), *with_settings)
    ledger.close()


def test_an_error_is_one_line_and_its_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the bridge knows ends with status 1 and no traceback."""
    monkeypatch.setattr("sys.argv", ["btt-evm", "status", "-f", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        commands.main()
    assert caught.value.code == 1
    assert capsys.readouterr().out.splitlines() == ["there is no chain.yaml here", "btt-evm deploy writes one."]
