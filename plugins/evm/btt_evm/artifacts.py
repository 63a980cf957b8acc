"""Contracts as the compiler leaves them: made with the package, or in a checkout when first asked for."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CONTRACTS: Final = ("Settlement", "Token", "Vesting")

_SOURCES: Final = Path(__file__).parent / "contracts"
_BUILD: Final = Path(__file__).parent / "build"


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a contract is deployed and called by."""

    name: str
    abi: list[dict[str, Any]]
    #: Of the contract's creation, hex; its arguments follow it.
    bytecode: str


def load(name: str) -> Artifact:
    """Return a compiled contract; one whose sources have changed since is compiled anew."""
    file, digest = _BUILD / f"{name}.json", _digest()
    try:
        body = json.loads(file.read_bytes())
    except (OSError, ValueError):
        body = {}
    if body.get("sources") != digest:
        body = {"sources": digest, **_compile(name)}
        _write(file, json.dumps(body, indent=1).encode())
    return Artifact(name, body["abi"], body["bytecode"])


def _digest() -> str:
    """Return one SHA-256 over all sources, for a contract imports others."""
    found = hashlib.sha256()
    for source in sorted(_SOURCES.glob("*.vy")):
        found.update(hashlib.sha256(source.read_bytes()).digest())
    return found.hexdigest()


def _compile(name: str) -> dict[str, Any]:
    # The compiler is there where a package is built, and need not be where it is installed.
    from vyper.compiler import compile_from_file_input
    from vyper.compiler.input_bundle import FilesystemInputBundle

    bundle = FilesystemInputBundle([_SOURCES])
    source = bundle.load_file(f"{name}.vy")
    return dict(compile_from_file_input(source, input_bundle=bundle, output_formats=["abi", "bytecode"]))


def _write(file: Path, content: bytes) -> None:
    """Write a whole file or none: several processes may compile at once."""
    file.parent.mkdir(exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=file.parent, suffix=".part")
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
    # A temporary file is its owner's alone; a package's data is for everybody.
    Path(draft).chmod(0o644)
    os.replace(draft, file)
