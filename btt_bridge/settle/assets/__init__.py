"""assets: equipment, property, IP and service rights divided into shares, and what their use earns.

In: things named by keyed digests, their valuations, trades, and studies that attest use. Out: postings in the ledger,
which is all that this package remembers, each with its signed event but for single uses. Wrong: `RefusedError` for what
the schedule forbids, `OverdrawnError` for shares or money that are not there; asking twice is never wrong, and changes
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from btt_bridge.errors import MappingError
from btt_bridge.ledger import Ledger
from btt_bridge.settle.assets import schedule
from btt_bridge.settle.assets.pools import Pool, Pools
from btt_bridge.settle.assets.registry import Deed, Kind, Registry, deed_id
from btt_bridge.settle.assets.revenue import Revenue
from btt_bridge.settle.assets.uses import Uses, device_key
from btt_bridge.settle.token import Stakes

__all__ = [
    "Assets",
    "Deed",
    "Kind",
    "Pool",
    "Pools",
    "Registry",
    "Revenue",
    "Uses",
    "check",
    "deed_id",
    "device_key",
    "open_assets",
]


@dataclass(frozen=True)
class Assets:
    """Everything that can be done with assets in one ledger."""

    registry: Registry
    revenue: Revenue
    pools: Pools


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the assets in a folder of mappings; without any, nothing."""
    return schedule.check(folder / "assets") if (folder / "assets").is_dir() else []


def open_assets(folder: Path, ledger: Ledger, stakes: Stakes) -> Assets:
    """Return the assets by a folder of mappings; stakes lower their fees, and fees in BTT are burned in part."""
    registry = Registry(ledger, schedule.load(folder / "assets"), stakes.discount_percent)
    return Assets(registry, Revenue(ledger, registry), Pools(ledger, registry))
