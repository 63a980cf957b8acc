"""The GPU node: take a lease, open the parcel, run one service in its own process, seal the result, sign a receipt.

In: an offer that the exchange leases to this node, and the parcel's key wrapped for it. Out: a sealed result and a
signed receipt, or a failure with a reason free of content. A node that dies at any moment costs a retry and nothing
else. It holds nothing of the hospital's: what it opens is de-identified, lives in memory, and ends with its process.
"""
