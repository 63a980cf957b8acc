"""One result into the objects that go to the PACS: SR, SEG and SC, with equal content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from btt_bridge.errors import BridgeError
from btt_bridge.records import Document, Receipt, Result, Study
from btt_bridge.report.draft import Draft
from btt_bridge.report.names import Names
from btt_bridge.report.secondary_capture import Sketch, secondary_capture, sketches
from btt_bridge.report.segmentation import segmentation
from btt_bridge.report.sources import Sources, read
from btt_bridge.report.structured_report import structured_report

#: Calls a function for each item; see `write`.
Each = Callable[[Callable[[Sketch], Document], Sequence[Sketch]], Sequence[Document | BridgeError]]


def in_turn(function: Callable[[Sketch], Document], items: Sequence[Sketch]) -> Sequence[Document | BridgeError]:
    """Call a function for each item, here and now."""
    return [function(item) for item in items]


def prepare(study: Study, series_instance_uid: str, spool_dir: Path) -> Sources:
    """Do what can be done before the result is there: read the headers of the series it will be about.

    Raises UnknownError where the study has no such series, MalformedError where an image of it cannot be read.
    """
    return read(study, series_instance_uid, spool_dir)


def write(
    result: Result,
    receipt: Receipt,
    sources: Sources,
    *,
    revision: int,
    now: datetime,
    predecessors: Sequence[Names] = (),
    institution: str = "",
    pictures_max: int = 4,
    each: Each = in_turn,
) -> Iterator[list[Document]]:
    """Write the report of one revision: first the SR, with the SEG where there is a mask; then the pictures.

    The pictures are drawn meanwhile. `each` calls a function for each item of a list and returns its answers, or the
    errors that it met, in order: in processes of their own, an image that kills its decoder kills no more.

    `result` carries original UIDs. `predecessors` are earlier reports on this study that were delivered and that
    this one replaces. The same arguments give the same bytes; another `now` changes dates and times alone.
    Raises UnmappedIdentityError where the result refers to an image that is not in the series.
    """
    names = Names(sources.study_instance_uid, result.service, revision)
    draft = Draft(result, receipt, sources, names, sources.local(now), institution)
    with ThreadPoolExecutor(1) as beside:
        drawing = beside.submit(each, secondary_capture, sketches(draft, pictures_max))
        segments = segmentation(draft)
        yield [structured_report(draft, predecessors), *([segments] if segments else [])]
        pictures = []
        for picture in drawing.result():
            if isinstance(picture, BridgeError):
                raise picture
            pictures.append(picture)
        yield pictures
