"""A node of the chain: what is read is deep enough to stay, and what is sent is signed here, once for each name."""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import requests
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_account import Account
from web3 import HTTPProvider, Web3
from web3.exceptions import (
    BadFunctionCallOutput,
    BadResponseFormat,
    ContractLogicError,
    MethodUnavailable,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)

from btt_bridge.errors import ConfigurationError, DeliveryRefusedError, DeliveryUnreachableError, RefusedError
from btt_bridge.signing import read_or_make_secret
from btt_evm import artifacts, durable, tester
from btt_evm.place import Chain

_TIMEOUT_SECONDS: Final = 20
_NAME: Final = re.compile(r"[a-z0-9-]{1,120}")
#: What nodes say of a transaction that they have already: their words differ, the sense does not.
_KNOWN: Final = re.compile(r"already known|known transaction|already imported|nonce.{0,10}too low|alreadyknown", re.I)
#: What trying again does not mend.
_PERMANENT: Final = re.compile(
    r"insufficient funds|enough funds|exceeds block gas limit|intrinsic gas|invalid (sender|signature|chain)|"
    r"max code size|not supported|does not exist/is not available|cannot afford",
    re.I,
)
_REVERTED: Final = re.compile(r"^.*execution reverted:? ?", re.S)
#: How a contract that gives a reason begins its answer: Error(string).
_WITH_REASON: Final = "0x08c379a0"


class Node:
    """A chain as one of its nodes shows it, and the key that we sign with."""

    def __init__(self, chain: Chain, folder: Path, key: Path | None = None) -> None:
        self.chain = chain
        #: Where what was signed is kept, by name.
        self.folder = folder / "sent"
        self.account = Account.from_key(_secret(key or chain.key))
        self._session = requests.Session()

    @property
    def address(self) -> str:
        """Who signs here."""
        return str(self.account.address)

    @cached_property
    def web3(self) -> Web3:
        """The connection; made when it is first needed, and refused where another chain answers."""
        url = self.chain.url
        found = Web3(tester.named(url) if url.startswith("tester") else _http(url, self._session))
        with talking():
            answered = found.eth.chain_id
        if answered != self.chain.chain_id:
            raise ConfigurationError(f"the node is of chain {answered}, not {self.chain.chain_id}")
        return found

    def close(self) -> None:
        """Let go of the connection; it is made again when it is needed."""
        self._session.close()

    def contract(self, name: str, address: str) -> Any:
        """Return a contract of ours at an address."""
        return self.web3.eth.contract(address=Web3.to_checksum_address(address), abi=artifacts.load(name).abi)

    def creation(self, name: str, *arguments: Any) -> Any:
        """Return the call that creates a contract of ours."""
        artifact = artifacts.load(name)
        return self.web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode).constructor(*arguments)

    # --- reading ----------------------------------------------------------------------------------------

    def deep(self) -> int:
        """Return the newest block that is deep enough to stay, whatever the chain still reorders."""
        with talking():
            return max(0, self.web3.eth.block_number - self.chain.confirmations)

    def blocks_at(self, timestamp: int) -> range:
        """Return the blocks that bear a timestamp, in seconds: one, or a few on a chain that is quick."""
        with talking():
            numbers = range(self.web3.eth.block_number + 1)
            bounds = (
                cut(numbers, timestamp, key=lambda number: self.web3.eth.get_block(number)["timestamp"])
                for cut in (bisect_left, bisect_right)
            )
            return range(*bounds)

    def read(self, call: Any, block: int | None = None) -> Any:
        """Return what a contract answers, as of a block; without one, as of the newest."""
        with talking():
            return call.call(block_identifier="latest" if block is None else block)

    # --- sending ----------------------------------------------------------------------------------------

    def transact(self, name: str, call: Any) -> str:
        """Send a call under a name and return its transaction's hash; under the same name again, it is the same one.

        What is signed is kept before it is sent, so that a crash between the two sends the same bytes again. Only one
        that can never count any more, since another took its nonce or a contract refused it, is replaced by a new one.
        """
        with self._locked(), talking():
            return self._transact(name, call)

    def counted(self, name: str) -> str:
        """Return the hash of what was sent from here under a name and is on the chain; "" where nothing is."""
        kept = durable.read(self._file(name))
        with talking():
            receipt = self._receipt(kept) if kept else None
        return transaction_of(receipt) if receipt and receipt["status"] else ""

    def transact_alone(self, decide: Callable[[], tuple[str, Any] | None]) -> str:
        """Send what `decide` names and calls, as `transact` does, while nothing else of this key is under way.

        For what must not happen twice even if everything that was signed is lost: it is decided by what the chain
        says, and takes the nonce that is next there, so that of all that ever took it only one can count. Nothing
        decided is nothing sent, and "".
        """
        with self._locked(), talking():
            counts = [self.web3.eth.get_transaction_count(self.account.address, at) for at in ("latest", "pending")]
            if counts[0] != counts[1]:
                raise DeliveryUnreachableError("another transaction of this key is still under way")
            decided = decide()
            return self._transact(*decided) if decided else ""

    def wait(self, hash_: str, seconds: float = 600) -> Mapping[str, Any]:
        """Return the receipt of a transaction; raise DeliveryRefusedError where it failed."""
        with talking():
            receipt = self.web3.eth.wait_for_transaction_receipt(_bytes(hash_), timeout=seconds, poll_latency=0.5)
        if not receipt["status"]:
            raise DeliveryRefusedError("the chain has refused this transaction")
        return dict(receipt)

    def _transact(self, name: str, call: Any) -> str:
        if not _NAME.fullmatch(name):
            raise RefusedError("a transaction is named by small letters, digits and hyphens")
        if kept := durable.read(self._file(name)):
            # In this order: a transaction that is counted between the two looks is seen by the second.
            used = self.web3.eth.get_transaction_count(self.account.address, "latest")
            if receipt := self._receipt(kept):
                if receipt["status"]:
                    return transaction_of(receipt)
            elif used <= kept["nonce"]:
                return str(self._again(name, kept)["hash"])
        # Counted with what waits at the node, so that several can be under way.
        nonce = self.web3.eth.get_transaction_count(self.account.address, "pending")
        return str(self._send(name, call, nonce)["hash"])

    def _receipt(self, kept: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the receipt of a transaction or of one that it replaced; only one of them can have any."""
        for one in (kept["hash"], *kept["replaced"]):
            with suppress(TransactionNotFound):
                return self.web3.eth.get_transaction_receipt(_bytes(one))
        return None

    def _again(self, name: str, kept: dict[str, Any]) -> dict[str, Any]:
        """Bring a transaction that waits to the node's mind, at a higher fee where fees have left it behind."""
        base = self.web3.eth.get_block("latest").get("baseFeePerGas")
        body = kept["transaction"]
        if base is None or base <= body.get("maxFeePerGas", body.get("gasPrice")):
            self._broadcast(kept["raw"])
            return kept
        # Nodes take one of the same nonce in its place where it pays an eighth more.
        fees = {kind: max(fee, body[kind] * 9 // 8 + 1) for kind, fee in self._fees().items() if kind in body}
        return self._sign_and_send(name, {**body, **fees}, [kept["hash"], *kept["replaced"]])

    def _send(self, name: str, call: Any, nonce: int) -> dict[str, Any]:
        body = {"from": self.address, "nonce": nonce, "chainId": self.chain.chain_id, **self._fees()}
        # The estimate runs the call: what a contract would refuse is refused here, and never sent.
        gas = call.estimate_gas({"from": self.address})
        built = call.build_transaction({**body, "gas": gas * 5 // 4})
        # A creation goes to nobody.
        return self._sign_and_send(name, {key: of for key, of in built.items() if key != "from" and of != b""}, [])

    def _sign_and_send(self, name: str, transaction: dict[str, Any], replaced: list[str]) -> dict[str, Any]:
        signed = self.account.sign_transaction(transaction)
        kept = {
            "hash": "0x" + bytes(signed.hash).hex(),
            "nonce": transaction["nonce"],
            "raw": "0x" + bytes(signed.raw_transaction).hex(),
            "replaced": replaced,
            "transaction": transaction,
        }
        durable.write_body(self._file(name), kept)
        self._broadcast(kept["raw"])
        return kept

    def _broadcast(self, raw: str) -> None:
        try:
            self.web3.eth.send_raw_transaction(_bytes(raw))
        except Web3RPCError as problem:
            if not _KNOWN.search(str(problem)):
                raise

    def _fees(self) -> dict[str, int]:
        base = self.web3.eth.get_block("latest").get("baseFeePerGas")
        if base is None:  # a chain without EIP-1559
            return {"gasPrice": self.web3.eth.gas_price}
        tip = self.web3.eth.max_priority_fee
        return {"maxFeePerGas": 2 * base + tip, "maxPriorityFeePerGas": tip}

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with durable.locked(self.folder / ".lock"):
            yield


@contextmanager
def talking() -> Iterator[None]:
    """Turn what goes wrong at a node into errors that say whether trying again can help."""
    try:
        yield
    except ContractLogicError as problem:
        raise DeliveryRefusedError(_reason(problem)) from None
    except BadFunctionCallOutput:
        raise DeliveryUnreachableError("the contract is not on the chain, or not deep enough yet") from None
    except (MethodUnavailable, BadResponseFormat):
        raise DeliveryRefusedError("the node does not speak as this rail needs") from None
    except Web3RPCError as problem:
        said = str((problem.rpc_response or {}).get("error", {}).get("message", "")) or str(problem)
        if _PERMANENT.search(said):
            raise DeliveryRefusedError(f"the node refuses: {said[:200]}") from None
        raise DeliveryUnreachableError("the node cannot do this now") from None
    except requests.HTTPError as problem:
        status = problem.response.status_code if problem.response is not None else 0
        if 400 <= status < 500 and status not in (408, 425, 429):
            # Not the address: it may hold a key to the node.
            raise DeliveryRefusedError(f"the node refuses us with HTTP status {status}") from None
        raise DeliveryUnreachableError(f"the node answers with HTTP status {status}") from None
    except (requests.RequestException, OSError, json.JSONDecodeError, Web3Exception):
        raise DeliveryUnreachableError("the node does not answer") from None


def _reason(problem: ContractLogicError) -> str:
    """Return why a contract refused: as it said it, or else as the node tells it."""
    # Some nodes wrap the data once more.
    data = problem.data.get("data") if isinstance(problem.data, dict) else problem.data
    if isinstance(data, str) and data.startswith(_WITH_REASON):
        with suppress(DecodingError, ValueError):
            return str(decode(["string"], bytes.fromhex(data.removeprefix(_WITH_REASON)))[0])
    return _REVERTED.sub("", str(problem.message or problem)) or "the contract refuses and does not say why"


def _secret(path: Path) -> bytes:
    if path.exists() and path.stat().st_mode & 0o077:
        raise ConfigurationError(f"others can read the key {path.name}", advice=f"chmod 600 {path.name}")
    return read_or_make_secret(path)


def _http(url: str, session: requests.Session) -> HTTPProvider:
    # Whoever calls tries again, later and knowing why; a provider that does so by itself only hides the failure.
    limits = {"timeout": _TIMEOUT_SECONDS}
    return HTTPProvider(url, request_kwargs=limits, session=session, exception_retry_configuration=None)


def transaction_of(told: Mapping[str, Any]) -> str:
    """Return the hash of the transaction that a receipt or a log entry is of."""
    return f"0x{bytes(told['transactionHash']).hex()}"


def _bytes(text: str) -> Any:
    return Web3.to_bytes(hexstr=text)  # type: ignore[arg-type]
