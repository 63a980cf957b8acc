"""Coded findings become what clinicians look at: SR (TID 1500), SEG and secondary captures, of equal content.

Comes in: a judged result with its original identity, the receipt of what ran, and the study as it was received.
Goes out: documents ready to be sent, the SR first. Can go wrong: MalformedError where a source image cannot be
read, UnmappedIdentityError where the result speaks of an image that is not the study's.
"""

from btt_bridge.report.names import Names
from btt_bridge.report.secondary_capture import picture
from btt_bridge.report.sources import Sources
from btt_bridge.report.structured_report import Reported, ReportedFinding, read_back, warm
from btt_bridge.report.write import prepare, write

__all__ = ["Names", "Reported", "ReportedFinding", "Sources", "picture", "prepare", "read_back", "warm", "write"]
