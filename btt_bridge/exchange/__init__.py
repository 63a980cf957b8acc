"""The pool's market: it brings offers and nodes together, and sees ciphertext and prices, never keys or patients.

In come signed offers from bridges and signed cards from nodes. Out go leases with fencing tokens to nodes, and to
each bridge a feed of what became of its offers. A stranger's signature, a stale token, a second lease on one offer or
a parcel for whom its tier does not allow is refused; a node that falls silent loses its lease, and the offer opens
again until its attempts or its time are spent. `docs/exchange.md` is the wire.
"""

from btt_bridge.exchange.market import Market
from btt_bridge.exchange.performance import performance
from btt_bridge.exchange.server import app, serve

__all__ = ["Market", "app", "performance", "serve"]
