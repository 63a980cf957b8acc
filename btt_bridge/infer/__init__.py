"""The GPU node: take a lease, open the parcel, run one service in its own process, seal the result, sign a receipt.

In: an offer that the exchange leases to this node, and the parcel's key wrapped for it. Out: a sealed result and a
signed receipt. Can go wrong: a parcel that does not open or a model that dies or runs too long is a failure with a
reason free of content, and a node that dies at any moment costs a retry and nothing else. It holds nothing of the
hospital's: what it opens is de-identified, lives in memory, and ends with its process.
"""

from btt_bridge.infer.node import main

__all__ = ["main"]
