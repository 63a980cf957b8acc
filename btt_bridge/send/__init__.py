"""The outbox: a document is delivered when the destination has answered that it has it, and not before.

Comes in: a delivery, its document's bytes and the PACS it is for. Goes out: nothing but the proof, C-STORE status
0x0000 or a warning. Can go wrong: DeliveryRefusedError, with advice, for what trying again cannot help, and
DeliveryUnreachableError for what it can.
"""

from btt_bridge.send.backoff import backoff
from btt_bridge.send.deliver import Sender, deliver

__all__ = ["Sender", "backoff", "deliver"]
