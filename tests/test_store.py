"""The store keeps a file whole or not at all, and only inside its own folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge.errors import RefusedError, UnknownError
from btt_bridge.store import Store


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path}")


def test_content_comes_back_and_is_replaced(store: Store) -> None:
    """put, get and put again under one key give the last content, in a folder as in a bucket."""
    store.put("reports/7/sr.dcm", b"first")
    store.put("reports/7/sr.dcm", b"second")
    assert store.exists("reports/7/sr.dcm")
    assert store.get("reports/7/sr.dcm") == b"second"


def test_what_is_not_there(store: Store) -> None:
    """get says so by UnknownError; delete and exists take it as it is."""
    assert not store.exists("a/b")
    store.delete("a/b")
    with pytest.raises(UnknownError):
        store.get("a/b")


def test_delete_removes(store: Store) -> None:
    """A deleted key has no content any more."""
    store.put("a/b", b"x")
    store.delete("a/b")
    assert not store.exists("a/b")


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/.hidden", ".x", "a/", "a\\b", "a\0b", "a b", "x" * 256]
)
def test_keys_stay_inside(store: Store, key: str) -> None:
    """A key that could name anything outside the store, or a draft inside it, is refused by every verb."""
    for verb in (store.get, store.exists, store.delete, lambda bad: store.put(bad, b"")):
        with pytest.raises(RefusedError):
            verb(key)


@given(st.text(max_size=40))
def test_no_key_leaves_the_folder(key: str) -> None:
    """Whatever text is given as a key, it is refused or resolves to a path below the store's folder."""
    root = Path("/srv/store")
    try:
        Store(str(root)).exists(key)
    except RefusedError:
        return
    assert (root / key).resolve().is_relative_to(root)


def test_a_failed_put_leaves_the_earlier_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails before the sync is done, the earlier content stands and no draft is left."""
    store = Store(str(tmp_path))
    store.put("a", b"earlier")

    def fail(descriptor: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        store.put("a", b"later")
    assert store.get("a") == b"earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_content_is_synced_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The draft is synced before the rename and the folder after it; a power cut in between loses nothing."""
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        steps.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "draft")
        fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    Store(str(tmp_path)).put("a", b"x")
    assert steps == ["draft", "rename", "folder"]
