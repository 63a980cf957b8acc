"""The hospital's side of the pool: seal a parcel, offer it, give its key to the node that holds the lease, collect.

In come stripped objects; out go a sealed parcel, a signed offer, and, once an exchange has placed it, the parcel's key
wrapped for that one node, if the hospital trusts it as far as the offer's tier demands. What comes back is ciphertext
and a receipt, for `judge`. An exchange that cannot be reached is PoolUnreachableError, and every verb may be repeated;
`Watch` tells what became of offers, and the standing of each can be asked for at any time.
"""

from btt_bridge.dispatch.custody import Custody
from btt_bridge.dispatch.offering import Dispatcher, Offering, Placed
from btt_bridge.dispatch.sealing import Sealed, Sealing
from btt_bridge.dispatch.watch import Change, Watch

__all__ = ["Change", "Custody", "Dispatcher", "Offering", "Placed", "Sealed", "Sealing", "Watch"]
