"""A study as people name it: its newest bill, and the device that made it."""

from __future__ import annotations

from btt_bridge.config import Settings
from btt_bridge.errors import UnknownError
from btt_bridge.journal import Journal, Journey
from btt_bridge.settle import device_key
from btt_bridge.vault import Vault


def billed(settings: Settings, study: str) -> Journey:
    """Return the newest revision of a study that has a bill, by Accession Number or Study Instance UID."""
    found = [journey for journey in Journal(settings.journal_url).find(study) if "bill" in journey.facts]
    if not found:
        raise UnknownError("there is no bill of a study with this Accession Number or Study Instance UID")
    return found[-1]


def device(settings: Settings, journey: Journey) -> str:
    """Return the keyed digest of the device whose series the route chose; raise UnknownError where nothing names it."""
    uid, chosen = journey.study_instance_uid, journey.facts["assign"]["series_instance_uid"]
    digest = Vault(settings.journal_url, settings.keys_dir).digest
    for keywords in Journal(settings.journal_url).keywords([uid]).get(uid, []):
        if keywords.get("SeriesInstanceUID") == chosen and (name := device_key(digest, keywords)):
            return name
    raise UnknownError("no serial number says which device made this study")
