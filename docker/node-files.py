#!/usr/bin/env python3
"""Gather the files of a GPU node, and nothing of the hospital's: node-files.py FOLDER

The node is `btt_bridge.infer` and whatever it imports, directly or not. Everything else stays behind, entry points
that lead there included, so that a node's image cannot hold what its code cannot reach. Needs Python alone.
"""

from __future__ import annotations

import ast
import configparser
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "btt_bridge"
NODE = "btt_bridge.infer"


def source(module: str) -> Path | None:
    """Return the file of a module, or None where the name is an attribute or somebody else's."""
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def imported(module: str, path: Path) -> Iterator[str]:
    """Yield every dotted name of our package that a file imports, at whatever depth it does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise SystemExit(f"{path}:{node.lineno}: a relative import; this house spells modules out")
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == PACKAGE)


def closure() -> dict[str, Path]:
    """Return every module that the node needs, with its file."""
    inside = ROOT.joinpath(*NODE.split("."))
    waiting = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in inside.rglob("*.py")]
    found: dict[str, Path] = {}
    while waiting:
        module = waiting.pop().removesuffix(".__init__")
        path = source(module)
        if path is None or module in found:
            continue
        found[module] = path
        # Importing a.b.c runs a and a.b too.
        waiting += [module.rpartition(".")[0]] if "." in module else []
        waiting += imported(module, path)
    return found


def metadata(modules: dict[str, Path]) -> configparser.ConfigParser:
    """Return what setup.cfg says about packaging, with only those entry points whose module goes along."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.optionxform = str  # type: ignore[assignment,method-assign]
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    for section in setup.sections():
        if not section.startswith(("metadata", "options")):
            setup.remove_section(section)
    points = setup["options.entry_points"]
    for group, lines in points.items():
        kept = [line for line in lines.split("\n") if line.partition("=")[2].strip().split(":")[0] in modules]
        points[group] = "\n".join(["", *kept]) if kept else ""
    return setup


def gather(folder: Path) -> dict[str, Path]:
    """Copy the node's modules, their data files and what setuptools needs into a folder; return the modules."""
    modules = closure()
    data = [path for path in ROOT.joinpath(*NODE.split(".")).rglob("*") if path.suffix in {".json", ".md"}]
    for path in [*modules.values(), *data, ROOT / PACKAGE / "py.typed"]:
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, folder / name)
    with (folder / "setup.cfg").open("w", encoding="utf-8") as file:
        metadata(modules).write(file)
    return modules


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    for name in sorted(gather(Path(sys.argv[1]))):
        sys.stdout.write(f"{name}\n")
