"""Whether to believe a result: signature, lease and digests first, then its form, and then whether it fits the images.

In: what came back from the pool (the receipt's envelope and the sealed result), and what the bridge itself knows
(offer, lease, slices that left). Out: the opened result with its receipt. SignatureError, LeaseLostError,
SealBrokenError and ResultRefusedError say why it is not believed; the offer then opens again for another node.
"""

from btt_bridge.judge.verify import Judged, verify

__all__ = ["Judged", "verify"]
