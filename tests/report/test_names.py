"""UIDs that can be known before anything is written."""

from __future__ import annotations

from itertools import product

from pydicom.uid import UID

from btt_bridge.report import Names
from btt_bridge.report.names import uid


def test_the_same_parts_give_the_same_valid_uid() -> None:
    """A restart writes objects of the same names, in the form that PS3.5 B.2 allows."""
    assert uid("a", 1) == uid("a", 1) == "2.25.7527642151654258567484069669062328090"
    assert UID(uid("a", 1)).is_valid


def test_parts_do_not_run_together() -> None:
    """Two parts never make the UID of one part that reads the same."""
    assert len({uid("ab", "c"), uid("a", "bc"), uid("abc"), uid("abc", "")}) == 4


def test_every_object_of_every_report_has_a_name_of_its_own() -> None:
    """Study, service, revision, kind and number each make a difference, and series differ from instances."""
    every = [
        name
        for study, service, revision in product(("1.2.3", "1.2.4"), ("ct-lung", "other"), (1, 2))
        for names in [Names(study, service, revision)]
        for kind in ("SR", "SEG", "SC")
        for name in (names.series(kind), names.instance(kind), names.instance(kind, 2))
    ]
    assert len(set(every)) == len(every)


def test_tracking_outlives_the_revision() -> None:
    """What is at the same place in the next revision keeps its Tracking UID; in another study it does not."""
    assert Names("1.2.3", "ct-lung", 1).tracking("x", 1) == Names("1.2.3", "ct-lung", 2).tracking("x", 1)
    assert Names("1.2.3", "ct-lung", 1).tracking("x", 1) != Names("1.2.4", "ct-lung", 1).tracking("x", 1)
