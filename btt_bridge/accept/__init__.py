"""The doors of the bridge. In: objects by DIMSE, resources by FHIR. Out: each one durable and indexed, then "yes".

An object is a file of the spool and a row of the index, a resource a row of the inbox. What can go wrong is answered
on the spot and costs one object: 0xA700 where there is no room (or the object is over the limit), 0xC000, 0x0117 or
0x0122 where the command makes no sense, an OperationOutcome for a resource. A peer that is not allowed gets an
A-ASSOCIATE-RJ, or 403. Nobody parses a data set here: that is for assemble, in a process that may die.
"""

from btt_bridge.accept.listener import serve
from btt_bridge.accept.rest import serve_fhir

__all__ = ["serve", "serve_fhir"]
