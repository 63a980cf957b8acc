"""The usage report as PDF: the same words as the page, the same bytes each time."""

from __future__ import annotations

import io
from html import escape
from typing import Any, Final

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4, landscape
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.platypus import LongTable, Paragraph, SimpleDocTemplate, TableStyle

from btt_bridge.settle.usage import words
from btt_bridge.settle.usage.report import Report
from btt_bridge.settle.usage.words import Table

_MARGIN: Final = 40
_SIZE: Final = 8


def as_pdf(report: Report) -> bytes:
    """Return the report as PDF on A4 pages."""
    tables = words.tables(report)
    lines = [words.title(report), *words.introduction(report)]
    font = _font("".join([*lines, *(text for table in tables for text in _texts(table))]))
    heading = ParagraphStyle("heading", fontName=font, fontSize=12, leading=16, spaceBefore=10, spaceAfter=4)
    plain = ParagraphStyle("plain", fontName=font, fontSize=_SIZE, leading=11, textColor=colors.HexColor("#55636f"))
    story: list[Any] = [Paragraph(escape(lines[0]), heading)]
    story += [Paragraph(escape(line), plain) for line in lines[1:]]
    for table in tables:
        story.append(Paragraph(escape(table.title), heading))
        if table.rows:
            story.append(_table(table, font))
        story += [Paragraph(escape(note), plain) for note in table.notes]
    file = io.BytesIO()
    document = SimpleDocTemplate(
        file,
        pagesize=landscape(A4),
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=lines[0],
        author="BTT Bridge",
        invariant=1,
    )
    document.build(story)
    return file.getvalue()


def _table(table: Table, font: str) -> LongTable:
    style = TableStyle([
        ("FONT", (0, 0), (-1, -1), font, _SIZE),
        ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.25, colors.HexColor("#9aa8b5")),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
    ])  # fmt: skip
    return LongTable([table.columns, *table.rows], repeatRows=1, style=style, hAlign="LEFT")


def _texts(table: Table) -> list[str]:
    return [table.title, *table.columns, *(cell for row in table.rows for cell in row), *table.notes]


def _font(text: str) -> str:
    """Name a font that has the letters of a text: readers bring one for Chinese, and Latin-1 is in every reader."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
        return "STSong-Light"
    return "Helvetica"
