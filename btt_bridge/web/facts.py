"""What the stages found out, as rows and tables that a template can print without knowing the stage."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from btt_bridge.money import Asset, written
from btt_bridge.web import words

#: Titles of the cards, in the order of the path; a fact that is not named here follows under its own name.
TITLES: Mapping[str, str] = {
    "complete": "Why it counts as complete",
    "assign": "Route",
    "deidentify": "De-identification",
    "parcel": "Sealed parcel",
    "offering": "Offer",
    "placement": "Rank at the exchange",
    "lease": "Lease",
    "receipt": "Receipt of the node",
    "judge": "Judgement",
    "reidentify": "Re-identification",
    "report": "Report",
    "charge": "Charge",
}
_NAMES: Mapping[str, str] = {
    "at": "When",
    "sha256": "SHA-256",
    "price_max": "Price ceiling",
    "tier": "Placement",
}
#: What a value stands for, by its own key.
_VALUES: Mapping[tuple[str, str], str] = {
    ("kind", "order"): "the order said how many objects to expect (order)",
    ("kind", "c-find"): "the sending PACS counted its objects (C-FIND)",
    ("kind", "quiet-time"): "nothing more came for the configured time (quiet time)",
}
_UNITS: Mapping[str, str] = {"mm": "mm", "mm3": "mm³", "px": "px", "seconds": "s"}
#: What is for the pipeline alone: keys, locked though they are, and signed copies of what is shown beside them.
_HIDDEN = re.compile(r"(^|.*_)key|envelope|answer|bill|superseded_from")
_ROWS_MAX = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a card; `exact` is what a cut or rounded text stands for."""

    name: str
    text: str
    exact: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """Several things of one kind."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Card:
    """Everything one stage found out."""

    title: str
    rows: tuple[Row, ...]
    grids: tuple[Grid, ...]


def cards(facts: Mapping[str, Any]) -> list[Card]:
    """Return the facts of a journey as cards, in the order of the path."""
    facts = {name: _kernel(name, value) for name, value in facts.items() if not _is_hidden(name)}
    names = [name for name in TITLES if name in facts] + sorted(name for name in facts if name not in TITLES)
    return [card(TITLES.get(name) or label(name), facts[name]) for name in names if facts[name] not in (None, "", {})]


def card(title: str, value: Any) -> Card:
    """Return one fact, whatever its shape, as rows and grids."""
    rows: list[Row] = []
    grids: list[Grid] = []
    for name, found in _flat(value, ""):
        if isinstance(found, list) and any(isinstance(thing, Mapping) for thing in found):
            grids.append(_grid(name, found))
        else:
            rows.append(_row(name, found))
    return Card(title, tuple(rows[:_ROWS_MAX]), tuple(grids))


def label(key: str) -> str:
    """`voxels` is "Voxels", `diameter_mm` is "Diameter (mm)", `size_bytes` is "Size"."""
    if key in _NAMES:
        return _NAMES[key]
    stem, _, unit = key.rpartition("_")
    if stem and unit in _UNITS and unit != "seconds":
        return f"{label(stem)} ({_UNITS[unit]})"
    if stem and unit in ("bytes", "seconds", "at", "units", "hex"):
        return label(stem)
    text = re.sub(r"\b(id|uid|ae)\b", lambda found: found[0].upper(), key.replace("_", " ").strip())
    return text[:1].upper() + text[1:]


def _flat(value: Any, prefix: str) -> list[tuple[str, Any]]:
    """Return (key, scalar or list of mappings), with nested mappings spelled out as dotted keys."""
    if isinstance(value, Mapping) and not _is_one_thing(value):
        shown = {str(key): inner for key, inner in value.items() if not _is_hidden(str(key))}
        return [pair for key, inner in shown.items() for pair in _flat(inner, f"{prefix}.{key}" if prefix else key)]
    return [(prefix, value)]


def _is_hidden(name: str) -> bool:
    return _HIDDEN.fullmatch(name) is not None


def _kernel(name: str, value: Any) -> Any:
    """Return the offer itself from among what is kept to see it through."""
    return value["offer"] if name == "offering" and isinstance(value, Mapping) and "offer" in value else value


def _is_one_thing(value: Mapping[str, Any]) -> bool:
    """Say whether a mapping is a coded concept or an amount, which read as one value."""
    return value.keys() >= {"meaning", "scheme"} or value.keys() == {"units", "asset"}


def _row(key: str, value: Any) -> Row:
    name = " · ".join(label(part) for part in key.split(".")) or "Value"
    text = _text(key, value)
    exact = str(value) if not isinstance(value, Mapping) else ""
    shown = f"{text[:12]}…{text[-8:]}" if re.fullmatch(r"[0-9a-f]{40,}", text) else text
    return Row(name, shown, "" if exact == shown else exact[:500])


def _grid(key: str, found: list[Any]) -> Grid:
    name = label(key.rpartition(".")[2])
    things = [thing if isinstance(thing, Mapping) else {"value": thing} for thing in found[:_ROWS_MAX]]
    # What is the same nothing in every row (a digest, a reference) is left to the document itself.
    columns = tuple(
        dict.fromkeys(column for thing in things for column in thing if not column.endswith(("_uid", "_px")))
    )
    rows = tuple(tuple(_text(column, thing.get(column)) for column in columns) for thing in things)
    return Grid(name, tuple(label(column) for column in columns), rows)


def _text(key: str, value: Any) -> str:
    """Put one value as people read it, by what its key says about its unit."""
    key = key.rpartition(".")[2]
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return _thing(value)
    if isinstance(value, str):
        return _VALUES.get((key, value)) or _instant(value)
    if isinstance(value, Sequence):
        return ", ".join(_text(key, inner) for inner in value)
    if key.endswith("_bytes"):
        return words.size(value)
    if key.endswith("seconds") or key in ("open", "decode", "run", "seal"):
        return words.duration(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".rstrip("0").rstrip(".")


def _thing(value: Mapping[str, Any]) -> str:
    if "meaning" in value:
        return str(value["meaning"])
    asset = value.get("asset")
    if isinstance(asset, Mapping) and isinstance(value.get("units"), int) and asset.keys() == {"code", "scale"}:
        return written(value["units"], Asset(**asset))
    return json.dumps(value, ensure_ascii=False, default=str)


def _instant(value: str) -> str:
    if re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", value):
        try:
            return words.moment(datetime.fromisoformat(value))
        except ValueError:
            return value
    return value
