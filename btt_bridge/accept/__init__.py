"""The doors of the bridge. In: objects by DIMSE. Out: each one a file of the spool and a row of the index, then "yes".

What can go wrong is answered on the spot and costs one object: 0xA700 where there is no room (or the object is
over the limit), 0xC000, 0x0117 or 0x0122 where the command makes no sense. A peer that is not allowed gets
an A-ASSOCIATE-RJ. Nobody parses a data set here: that is for assemble, in a process that may die.
"""

from btt_bridge.accept.listener import serve

__all__ = ["serve"]
