"""From stored objects to whole studies, and on what evidence a study counts as complete.

In: spooled objects (`read`), then a journey that is receiving, with its study (`complete`).
Out: a Header or an Unreadable for each object; Evidence that the study is complete, or when to look again.
Goes wrong: an object that cannot be read costs only itself; a PACS that does not answer costs only its evidence.
"""

from btt_bridge.assemble.complete import complete
from btt_bridge.assemble.read import Unreadable, read

__all__ = ["Unreadable", "complete", "read"]
