"""Files that are whole or not there, and locks that end with their holder."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from btt_bridge.durable import sync_folder
from btt_bridge.errors import MalformedError


def write(path: Path, content: bytes) -> None:
    """Put a whole file in place, durably; whoever reads sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    os.replace(draft, path)
    sync_folder(path.parent)


def read(path: Path) -> dict[str, Any] | None:
    """Return a JSON object from a file, or None where there is no file."""
    try:
        body = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise MalformedError(f"{path.name} is not what was written there") from None
    return dict(body)


def write_body(path: Path, body: Mapping[str, Any]) -> None:
    """Write what `read` reads."""
    write(path, json.dumps(body, indent=1).encode())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process or thread at a time go on; the lock of one that died is free."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
