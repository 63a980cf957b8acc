"""`make bench`: every measure of docs/performance.md in one run, as a table and as build/bench.json."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

_MODULES = ("intake", "deidentify", "path", "ledger")


def main(names: list[str]) -> None:
    """Measure what `names` name, or everything. The exit status says nothing of the figures; they speak themselves."""
    console, rows = Console(emoji=False, width=150), []
    for name in names or _MODULES:
        console.print(f"[bold]{name}[/bold]")
        rows += importlib.import_module(f"tests.bench.{name}").measure()
    folder = Path("build")
    folder.mkdir(exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(rows, indent=1) + "\n")
    table = Table("measure", "against", "value", "peer", "ratio", "at least")
    for line in rows:
        met = line["ratio"] >= line["at_least"]
        ratio = f"{line['ratio']:.2f}" if met else f"[bold red]{line['ratio']:.2f}[/bold red]"
        table.add_row(
            line["measure"],
            line["against"],
            f"{line['value']:,g}",
            f"{line['peer']:,g}",
            ratio,
            f"{line['at_least']:g}",
        )
    console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
