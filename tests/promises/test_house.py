"""What holds for every file: who may import whom, what may be named, what is shipped and what is logged."""

from __future__ import annotations

import ast
import configparser
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from btt_bridge import __version__, log

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "btt_bridge"
#: Folders that git does not keep.
_NOT_OURS = re.compile(r"\.git|\.venv.*|build|node_modules|__pycache__|\.hypothesis|.+\.egg-info|\..+_cache")
#: Hosts that a file may name: ourselves, example names (RFC 2606), those of the compose file, and names that only
#: identify a vocabulary.
_HOSTS = re.compile(
    r"(127\.0\.0\.1|localhost|\[?::1\]?|0\.0\.0\.0|10\.\d+\.\d+\.\d+|([\w-]+\.)*example(\.\w+)?|[\w.-]+\.invalid"
    r"|testserver|bridge\.hospital|exchange|orthanc|www\.w3\.org|json-schema\.org|dicom\.nema\.org|([\w-]+\.)*hl7\.org"
    r"|loinc\.org|snomed\.info|unitsofmeasure\.org|cloudevents\.io|www\.apache\.org|github\.com|semver\.org|keepachangelog\.com)"
)


def setup() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read(ROOT / "setup.cfg", encoding="utf-8")
    return parsed


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every text file of the repository."""
    for path in sorted(ROOT.rglob("*")):
        if not path.is_file() or any(map(_NOT_OURS.fullmatch, path.relative_to(ROOT).parts)):
            continue
        with suppress(UnicodeDecodeError):
            yield path, path.read_text(encoding="utf-8")


def trees(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_imports_go_one_way() -> None:
    """import-linter finds every contract of setup.cfg kept."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Contracts: \d+ kept, 0 broken", done.stdout)


def test_no_file_names_a_machine_or_a_foreign_host() -> None:
    """No path of a developer's machine and no host that a user did not configure stands anywhere."""
    found = []
    for path, text in texts():
        for host in re.findall(r"https?://([^\s/:\"'`)>{}\\\]]+|\[[0-9a-f:]+\])", text):
            if not _HOSTS.fullmatch(host):
                found.append(f"{path.relative_to(ROOT)}: {host}")
        found += [f"{path.relative_to(ROOT)}: {bad}" for bad in re.findall(r"(?<![\w.])/(?:root|work|home)/\w+", text)]
    assert found == []


def test_one_version() -> None:
    """Package, metadata and change log speak of the same version."""
    assert setup()["metadata"]["version"] == __version__
    assert __version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_data_file_is_shipped() -> None:
    """What the package reads at run time is in what pip installs, not only in the checkout."""
    patterns = {
        package: [pattern.strip() for pattern in globs.split(",")]
        for package, globs in setup()["options.package_data"].items()
    }
    shipped = {
        path
        for package, globs in patterns.items()
        for glob in globs
        for path in ROOT.joinpath(*package.split(".")).glob(glob)
    }
    # A script in a folder that is no package is data too: the revisions, which alembic reads.
    needed = {
        path
        for path in PACKAGE.rglob("*")
        if path.is_file()
        and path.suffix != ".pyc"
        and (path.suffix != ".py" or not (path.parent / "__init__.py").is_file())
    }
    assert needed - shipped == set()


def test_every_test_says_what_it_proves() -> None:
    """A test without a docstring is a test whose failure nobody can judge."""
    silent = [
        f"{path.relative_to(ROOT)}::{node.name}"
        for path, tree in trees(ROOT / "tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
        and not any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]
    assert silent == []


def test_log_calls_use_only_fields_on_the_list() -> None:
    """A field that the list does not know would be dropped: whoever wrote the call would wait for it in vain."""
    unknown = [
        f"{path.relative_to(ROOT)}:{call.lineno}: {keyword.arg}"
        for path, tree in trees(PACKAGE)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and ast.unparse(call.func.value) == "_log"
        for keyword in call.keywords
        if keyword.arg not in log.ALLOWED | {"exc_info"}
    ]
    assert unknown == []


def test_log_events_are_fixed_words() -> None:
    """The event of a log line is a literal: nothing that came from outside can be formatted into it."""
    formatted = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path, tree in trees(PACKAGE)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and ast.unparse(call.func.value) == "_log"
        and not (call.args and isinstance(call.args[0], ast.Constant))
    ]
    assert formatted == []


def test_patient_data_does_not_reach_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Fields that are not on the list are dropped, and an exception leaves its class and none of its words."""
    log.configure("DEBUG")
    speaking = log.logger("assemble").bind(patient_name="Doe^Jane")
    speaking.info("study read", journey=7, PatientID="MRN-17", study="1.2.3", keywords={"PatientName": "Doe^Jane"})
    try:
        raise ValueError("cannot parse Doe^Jane")
    except ValueError as problem:
        speaking.error("failed", exc_info=True, journey=7)
        speaking.error("failed", exc_info=problem)
        speaking.exception("failed")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    assert not any(secret in json.dumps(lines) for secret in ("Doe", "Jane", "MRN", "1.2.3", "parse"))
    assert (lines[0]["journey"], lines[0]["stage"]) == (7, "assemble")
    assert [line["error"] for line in lines[1:]] == ["ValueError"] * 3
    assert all(set(line) <= log.ALLOWED for line in lines)


_CARELESS = """
import logging, threading, warnings
from btt_bridge import log
log.configure()
log.mute_others()
warnings.warn("Doe^Jane is no valid name")
logging.getLogger("pydicom").warning("Doe^Jane is no valid name")
logging.getLogger("pydicom").error("Doe^Jane is no valid name")
thread = threading.Thread(target=lambda: int("Doe^Jane"))
thread.start()
thread.join()
raise ValueError("Doe^Jane")
"""


def test_what_others_say_does_not_reach_the_log() -> None:
    """In a process of ours a library's error leaves the library's name, and an exception that nobody caught, in any
    thread, its class and its place; a warning leaves nothing. None leaves a word of what it was about."""
    done = subprocess.run([sys.executable, "-c", _CARELESS], capture_output=True, text=True, timeout=60, check=False)
    lines = [json.loads(line) for line in done.stderr.splitlines()]

    assert done.stdout == ""
    assert "Doe" not in done.stderr
    assert [line.get("error") or line["stage"] for line in lines] == ["pydicom", "ValueError", "ValueError"]
    assert lines[1]["line"] == 9
