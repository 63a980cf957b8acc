"""Gives the study its name back, at every depth, or nothing is released.

In: what came back from the pool, in outgoing UIDs and a pseudonym; the journey's `vault.Identity`.
Out: the same in the terms of the hospital; and `confirm`, the last gate before documents are sent.
Wrong: UnmappedIdentityError (something did not map, or something of the outside is still there).
"""

from btt_bridge.reidentify.confirm import confirm
from btt_bridge.reidentify.restore import restore, restore_object

__all__ = ["confirm", "restore", "restore_object"]
