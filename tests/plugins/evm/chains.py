"""A chain with our contracts on it, as the tests of the plugin need it, and the same behind a loopback port."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Final

from eth_account import Account
from web3 import Web3
from web3.exceptions import ContractLogicError

from btt_bridge.settle.token.allocation import Table
from btt_evm import artifacts, deploy
from btt_evm.node import Node
from btt_evm.place import Chain
from btt_evm.tester import InProcess, named

MAPPINGS: Final = Path(__file__).parents[3] / "mappings"
WINDOW: Final = 1800
SUPPLY: Final = 21_000_000 * 10**18
NOBODY: Final = "0x" + "00" * 20
#: What eth-tester says of its chain.
CHAIN_ID: Final = 131277322940537
_numbers = itertools.count(1)


def fresh() -> InProcess:
    """Return a chain of a test's own."""
    return InProcess()


@dataclass
class House:
    """Our contracts on a chain whose accounts sign by themselves."""

    provider: InProcess = field(default_factory=fresh)

    def __post_init__(self) -> None:
        self.web3 = Web3(self.provider)
        accounts = self.web3.eth.accounts
        self.owner, self.poster, self.guardian, self.governance, *self.others = accounts
        self.token = self.create("Token", self.owner, by=self.owner)
        self.vesting = self.create("Vesting", self.token.address, by=self.owner)
        roles = (self.governance, self.poster, self.guardian)
        self.settlement = self.create("Settlement", self.token.address, *roles, WINDOW, by=self.owner)

    def create(self, name: str, *arguments: Any, by: str) -> Any:
        artifact = artifacts.load(name)
        factory = self.web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
        receipt = self.web3.eth.wait_for_transaction_receipt(factory.constructor(*arguments).transact({"from": by}))
        return self.web3.eth.contract(address=receipt["contractAddress"], abi=artifact.abi)

    def send(self, call: Any, by: str) -> list[Mapping[str, Any]]:
        """Send a call; return the logs of its receipt."""
        receipt = self.web3.eth.wait_for_transaction_receipt(call.transact({"from": by}))
        assert receipt["status"] == 1
        return list(receipt["logs"])

    def refused(self, call: Any, by: str) -> str:
        """Return why a call is refused; fail where it is not."""
        try:
            call.call({"from": by})
        except ContractLogicError as problem:
            return str(problem.message).partition("execution reverted: ")[2]
        raise AssertionError("the chain took it")

    def fund(self, account: str, units: int) -> None:
        self.send(self.token.functions.transfer(account, units), self.owner)

    def post(self, batch: bytes, root: bytes, size: int, units: int) -> None:
        if units:
            self.fund(self.poster, units)
            self.send(self.token.functions.approve(self.settlement.address, units), self.poster)
        self.send(self.settlement.functions.post(batch, root, size, units), self.poster)

    def wait(self, seconds: int = WINDOW) -> None:
        """Let time pass: the next block is so much later."""
        pass_time(self.provider, seconds)

    def now(self) -> int:
        return int(self.web3.eth.get_block("latest")["timestamp"])

    def balance(self, account: str) -> int:
        return int(self.token.functions.balanceOf(account).call())


def pass_time(provider: InProcess, seconds: int) -> None:
    tester = provider.ethereum_tester
    tester.time_travel(tester.get_block_by_number("latest")["timestamp"] + seconds)
    tester.mine_block()


# --- as the plugin sees it ------------------------------------------------------------------------------


@dataclass
class Place:
    """A folder of the plugin on a chain in this process, with everything deployed."""

    folder: Path
    table: Table
    url: str = ""
    confirmations: int = 2

    def __post_init__(self) -> None:
        self.url = self.url or f"tester:{next(_numbers)}"
        self.folder.mkdir(parents=True, exist_ok=True)
        chain = Chain(self.url, CHAIN_ID, self.confirmations, self.folder / "poster.key")
        self.node = Node(chain, self.folder)
        self.guardian = Node(chain, self.folder / "guardian", self.folder / "guardian.key")
        self.governance = Node(chain, self.folder / "governance", self.folder / "governance.key")
        for one in (self.node, self.guardian, self.governance):
            self.give(one.address)
        self.chain = deploy.deploy(self.node, self.table, self.holders(), WINDOW, self.folder)
        self.node = Node(self.chain, self.folder)

    @property
    def provider(self) -> InProcess:
        return named(self.url)

    def give(self, address: str) -> None:
        """Give somebody ether."""
        web3 = Web3(self.provider)
        web3.eth.send_transaction({"from": web3.eth.accounts[0], "to": address, "value": 10**20})  # type: ignore[typeddict-item]

    def holders(self) -> deploy.Holders:
        names = [one.name for one in self.table.allocations if deploy.stretches(one.release)]
        beneficiaries = {name: payee(number) for number, name in enumerate(names)}
        return deploy.Holders(self.governance.address, self.guardian.address, beneficiaries)

    def fund(self, units: int) -> None:
        """Bring the poster tokens to pay with, from what governance holds."""
        token = self.governance.contract("Token", self.chain.token)
        call = token.functions.transfer(self.node.address, units)
        self.governance.wait(self.governance.transact(f"fund-{next(_numbers)}", call))

    def void(self, batch: bytes) -> None:
        contract = self.guardian.contract("Settlement", self.chain.settlement())
        self.guardian.wait(self.guardian.transact(f"void-{batch.hex()}", contract.functions.void(batch)))

    def balance(self, account: str) -> int:
        return int(self.node.read(self.node.contract("Token", self.chain.token).functions.balanceOf(account)))

    def mine(self, blocks: int = 1) -> None:
        self.provider.ethereum_tester.mine_blocks(blocks)

    def wait(self, seconds: int = WINDOW) -> None:
        pass_time(self.provider, seconds)


def payee(number: int) -> str:
    """Return the address of somebody who is paid."""
    return str(Account.from_key(bytes(31) + bytes([number + 1])).address)


# --- as any node is reached -----------------------------------------------------------------------------


class Served:
    """A chain behind JSON-RPC on a loopback port, with faults on demand."""

    def __init__(self, provider: InProcess) -> None:
        self._web3, self._lock = Web3(provider), Lock()
        #: HTTP status to answer instead, until it is taken away.
        self.status = 0
        #: Answers that are swallowed, by method: the chain does what it is told, and nobody hears of it.
        self.swallowed: set[str] = set()
        #: Answers that are made up, by method.
        self.answers: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        method = request["method"]
        with self._lock:
            self.asked.append(method)
            if method in self.answers:
                return {"jsonrpc": "2.0", "id": request["id"], **self.answers[method]}
            ask = self._web3.provider.request_func(self._web3, self._web3.middleware_onion)  # type: ignore[attr-defined]
            said = ask(method, request.get("params", []))
            if method in self.swallowed:
                return None
        answer = {"jsonrpc": "2.0", "id": request["id"]}
        part = "error" if said.get("error") else "result"
        return {**answer, part: _wire(said.get(part)) if part == "result" else said["error"]}


@contextmanager
def served(provider: InProcess) -> Iterator[tuple[str, Served]]:
    """Yield the URL of a chain and what it can be told."""
    chain = Served(provider)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = None if chain.status else chain.answer(request)
            if answer is None and not chain.status:
                self.close_connection = True
                return
            content = json.dumps(answer or {}).encode()
            self.send_response(chain.status or 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", chain
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _wire(value: Any) -> Any:
    """Return a value as JSON-RPC writes it."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, Mapping):
        return {key: _wire(of) for key, of in value.items()}
    return [_wire(one) for one in value]
