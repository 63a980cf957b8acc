"""usage: the monthly report of one hospital, as HTML, PDF and CSV.

In: a month's activity as the book tells it, and dated reference rates. Out: the account, what was used, and what the
same work would have cost elsewhere, by which rate, on whose word, of which day. Wrong: `MappingError` for rates that
do not hold. `printed.as_pdf` needs the
extra `report`, and is imported by whoever prints.
"""

from btt_bridge.settle.usage.page import as_html
from btt_bridge.settle.usage.references import References, check, load
from btt_bridge.settle.usage.report import Comparison, Report, Section, summarize
from btt_bridge.settle.usage.table import as_csv

__all__ = ["Comparison", "References", "Report", "Section", "as_csv", "as_html", "check", "load", "summarize"]
