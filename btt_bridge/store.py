"""Files by key, in a folder or in any object store that fsspec knows; what `put` returned from is durable."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import fsspec

from btt_bridge.durable import sync_folder
from btt_bridge.errors import RefusedError, UnknownError

#: Words of letters, digits, dot, dash and underscore, separated by slashes; none begins with a dot, so that no
#: key climbs out of its folder or meets a draft.
_KEY = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")
_KEY_LENGTH_MAX = 255


class _Backend(Protocol):
    def put(self, key: str, content: bytes) -> None: ...

    def get(self, key: str) -> bytes: ...

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None: ...


class Store:
    """The hospital's reports and pictures, by key."""

    def __init__(self, url: str) -> None:
        local = "://" not in url or url.startswith("file://")
        self._backend: _Backend = _Folder(Path(url.removeprefix("file://"))) if local else _Bucket(url)

    def put(self, key: str, content: bytes) -> None:
        """Keep `content` under `key`, whole or not at all; an earlier content is replaced."""
        self._backend.put(_checked(key), content)

    def get(self, key: str) -> bytes:
        """Return the content; raise UnknownError where there is none."""
        try:
            return self._backend.get(_checked(key))
        except FileNotFoundError:
            raise UnknownError("the store has nothing by that key") from None

    def exists(self, key: str) -> bool:
        return self._backend.exists(_checked(key))

    def delete(self, key: str) -> None:
        """Remove the content; what is not there is already removed."""
        try:
            self._backend.delete(_checked(key))
        except FileNotFoundError:
            return


class _Folder:
    """A local folder: a draft is written and synced beside its place, then renamed into it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, content: bytes) -> None:
        path = self.root / key
        self._make(path.parent)
        draft = path.with_name(f".{uuid4().hex}")
        try:
            with draft.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)

    def get(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def exists(self, key: str) -> bool:
        return (self.root / key).is_file()

    def delete(self, key: str) -> None:
        path = self.root / key
        path.unlink()
        sync_folder(path.parent)

    def _make(self, folder: Path) -> None:
        """Make a folder and make its name durable, from the first ancestor that is missing."""
        if folder.is_dir():
            return
        self._make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


class _Bucket:
    """An object store, whose own put is atomic and durable."""

    def __init__(self, url: str) -> None:
        filesystem, root = fsspec.url_to_fs(url)
        self.filesystem: Any = filesystem
        self.root = root.rstrip("/")

    def put(self, key: str, content: bytes) -> None:
        self.filesystem.pipe_file(self._path(key), content)

    def get(self, key: str) -> bytes:
        return bytes(self.filesystem.cat_file(self._path(key)))

    def exists(self, key: str) -> bool:
        return bool(self.filesystem.exists(self._path(key)))

    def delete(self, key: str) -> None:
        self.filesystem.rm_file(self._path(key))

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"


def _checked(key: str) -> str:
    if len(key) > _KEY_LENGTH_MAX or not _KEY.fullmatch(key):
        raise RefusedError("this is not a key of the store")
    return key
