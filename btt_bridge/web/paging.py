"""Long lists a page at a time: where a page begins is in its address, so that turning it needs no script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlencode

T = TypeVar("T")

#: Returns so many rows, in the list's order, that follow a cursor ("" for the beginning), or that come just before it.
Read = Callable[[int, str, bool], Sequence[T]]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows of a list, and the queries of the pages before and behind; "" where there is none."""

    rows: Sequence[T]
    previous: str
    next: str


def page(params: Mapping[str, str], name: str, limit: int, read: Read[T], key: Callable[[T], object]) -> Page[T]:
    """Return the page of a list that the query of an address asks for; its cursors are keys, so that no row is lost.

    A parameter of the list's name says `after:KEY` or `before:KEY`; all others stay as they are in the links.
    """
    where, _, cursor = params.get(name, "").partition(":")
    back = where == "before" and bool(cursor)
    found = read(limit + 1, cursor, back)
    more = len(found) > limit
    rows = found[1:] if back and more else found[:limit]

    def turned(there: bool, where: str, at: int) -> str:
        return urlencode({**params, name: f"{where}:{key(rows[at])}"}) if there and rows else ""

    return Page(
        rows,
        previous=turned(more if back else bool(cursor), "before", 0),
        next=turned(back or more, "after", -1),
    )
