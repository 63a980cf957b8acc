"""A chain in this process, for tests and for looking around without a network; it answers as a node does."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from eth_utils.exceptions import ValidationError
from web3 import EthereumTesterProvider
from web3.types import RPCEndpoint, RPCResponse


class InProcess(EthereumTesterProvider):
    """eth-tester, whose refusals are answers and not exceptions."""

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        from eth_tester.exceptions import TransactionFailed
        from eth_tester.exceptions import ValidationError as Invalid

        try:
            return super().make_request(method, params)
        except TransactionFailed as problem:
            return _refusal(3, str(problem))
        except (Invalid, ValidationError) as problem:
            return _refusal(-32000, str(problem))


def _refusal(code: int, message: str) -> RPCResponse:
    return {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message}}


@lru_cache(maxsize=64)
def named(_name: str) -> InProcess:
    """Return the chain of this name: the same one as long as this process lives."""
    return InProcess()
