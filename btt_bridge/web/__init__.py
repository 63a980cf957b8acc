"""web: pages that show where every study is and why, and that change nothing.

In: the journal, the ledger, the store and the settings, all of them only read.
Out: HTML for the people of one hospital (these pages show patient data), `/health` and `/metrics` for machines
(these two never do).
Can go wrong: nothing by that name (404), a host name that is not ours (400), a check that fails (503 from `/health`).

Every value that came out of an image or a message is escaped, no page holds a script, and the headers forbid one.
"""

from btt_bridge.web.site import app

__all__ = ["app"]
