"""The usage report as one HTML page that needs no other file."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from btt_bridge.settle.usage import words
from btt_bridge.settle.usage.report import Report


def as_html(report: Report) -> bytes:
    """Return the report as HTML."""
    templates = Environment(
        loader=PackageLoader("btt_bridge.settle.usage", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return (
        templates.get_template("report.html")
        .render(title=words.title(report), introduction=words.introduction(report), tables=words.tables(report))
        .encode()
    )
