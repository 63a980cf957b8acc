"""Sealed parcels: what is changed in any way does not open, and a shelf shows a file whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge import parcel
from btt_bridge.errors import SealBrokenError, StorageFullError, TooLargeError, UnknownError
from btt_bridge.parcel import CHUNK_BYTES, HEADER_BYTES, ParcelWriter, Shelf, WrapKey
from btt_bridge.records import Lease, Offer, Tier, Urgency

SEALED_CHUNK = CHUNK_BYTES + 16


def sealed(files: dict[str, bytes], key: bytes) -> bytes:
    """Seal files in memory."""
    file = io.BytesIO()
    writer = ParcelWriter(file, key)
    for name, content in files.items():
        writer.add(name, content)
    assert writer.close() == hashlib.sha256(file.getvalue()).hexdigest()
    assert writer.size_bytes == len(file.getvalue())
    return file.getvalue()


def opened(ciphertext: bytes, key: bytes, digest: str = "") -> dict[str, bytes]:
    """Open sealed files in memory."""
    return {name: bytes(content) for name, content in parcel.members(io.BytesIO(ciphertext), key, digest)}


@given(st.lists(st.integers(0, 3 * CHUNK_BYTES), max_size=4))
def test_what_is_sealed_is_what_is_opened(sizes: list[int]) -> None:
    """Members of any size come back equal, at chunk borders and across them."""
    key = parcel.new_key()
    files = {f"{number}.dcm": os.urandom(size) for number, size in enumerate(sizes)}
    ciphertext = sealed(files, key)
    assert opened(ciphertext, key, hashlib.sha256(ciphertext).hexdigest()) == files


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_plaintext_that_ends_at_a_chunk_border(spare: int) -> None:
    """A parcel whose plaintext fills its chunks exactly, or misses that by one block, has the right last chunk."""
    key = parcel.new_key()
    # A member's header and the two closing blocks are 1536 bytes.
    content = os.urandom(2 * CHUNK_BYTES - 1536 + spare * 512)
    ciphertext = sealed({"a": content}, key)
    assert opened(ciphertext, key) == {"a": content}


def test_a_parcel_is_a_tar() -> None:
    """Within the seal lies a plain tar that any tar reads."""
    key = parcel.new_key()
    ciphertext = sealed({"a.dcm": b"one", "b.dcm": b"two" * 1000}, key)
    stream = parcel._Opened(io.BytesIO(ciphertext), key)
    plain = bytearray(512 * (1 + 1 + 1 + 6 + 2))
    stream.read_into(memoryview(plain))
    with tarfile.open(fileobj=io.BytesIO(bytes(plain))) as archive:
        assert archive.getnames() == ["a.dcm", "b.dcm"]


def _truncated_at_a_border(ciphertext: bytes) -> bytes:
    return ciphertext[: HEADER_BYTES + SEALED_CHUNK]


def _swapped(ciphertext: bytes) -> bytes:
    first, second = HEADER_BYTES + SEALED_CHUNK, HEADER_BYTES + 2 * SEALED_CHUNK
    return ciphertext[:HEADER_BYTES] + ciphertext[first:second] + ciphertext[HEADER_BYTES:first] + ciphertext[second:]


def _doubled(ciphertext: bytes) -> bytes:
    first = HEADER_BYTES + SEALED_CHUNK
    return ciphertext[:first] + ciphertext[HEADER_BYTES:first] + ciphertext[first:]


def _flipped(position: int) -> Callable[[bytes], bytes]:
    def flip(ciphertext: bytes) -> bytes:
        changed = bytearray(ciphertext)
        changed[position] ^= 1
        return bytes(changed)

    return flip


@pytest.mark.parametrize(
    "attack",
    [
        _truncated_at_a_border,
        lambda ciphertext: ciphertext[:-1],
        lambda ciphertext: ciphertext[:HEADER_BYTES],
        lambda ciphertext: ciphertext[: HEADER_BYTES - 1],
        lambda ciphertext: b"",
        _swapped,
        _doubled,
        lambda ciphertext: ciphertext + ciphertext[-100:],
        lambda ciphertext: ciphertext + ciphertext[HEADER_BYTES : HEADER_BYTES + SEALED_CHUNK],
        _flipped(0),
        _flipped(HEADER_BYTES - 1),
        _flipped(HEADER_BYTES + 5),
        _flipped(HEADER_BYTES + SEALED_CHUNK - 1),
        _flipped(-1),
    ],
    ids=[
        "truncated at a chunk border", "truncated by a byte", "header only", "half a header", "empty", "swapped",
        "doubled", "extended by bytes", "extended by a chunk", "magic", "prefix", "first chunk", "tag", "last tag",
    ],
)  # fmt: skip
def test_tampered_ciphertext_does_not_open(attack: Callable[[bytes], bytes]) -> None:
    """Truncated, swapped, doubled, extended or altered, a parcel raises; with its digest, before anything comes out."""
    key = parcel.new_key()
    files = {f"{number}": os.urandom(CHUNK_BYTES // 2) for number in range(5)}
    ciphertext = sealed(files, key)
    digest = hashlib.sha256(ciphertext).hexdigest()
    with pytest.raises(SealBrokenError):
        opened(attack(ciphertext), key)
    with pytest.raises(SealBrokenError):
        next(parcel.members(io.BytesIO(attack(ciphertext)), key, digest))


def test_a_wrong_key_releases_nothing() -> None:
    """Another parcel's key opens no first member."""
    ciphertext = sealed({"a": b"content"}, parcel.new_key())
    with pytest.raises(SealBrokenError):
        next(parcel.members(io.BytesIO(ciphertext), parcel.new_key()))


def test_chunks_of_two_parcels_do_not_mix() -> None:
    """Even under one key, a chunk of one parcel does not stand in for the same chunk of another."""
    key = parcel.new_key()
    one, other = (sealed({"a": os.urandom(2 * CHUNK_BYTES)}, key) for _ in range(2))
    first = HEADER_BYTES + SEALED_CHUNK
    with pytest.raises(SealBrokenError):
        opened(one[:first] + other[first:], key)


@pytest.mark.parametrize("name", ["", "../up", "/root", "a/b", "a\\b", ".hidden", "a" * 101, "ü", "a\n", "a\0"])
def test_names_are_flat(name: str) -> None:
    """A name that could lead out of a folder, or differs between file systems, is not sealed."""
    with pytest.raises(ValueError, match="flat"):
        ParcelWriter(io.BytesIO(), parcel.new_key()).add(name, b"")


def test_a_name_is_used_once() -> None:
    """Two members of one name would be two truths."""
    writer = ParcelWriter(io.BytesIO(), parcel.new_key())
    writer.add("a", b"")
    with pytest.raises(ValueError, match="once"):
        writer.add("a", b"")


def _forged(*members: tarfile.TarInfo) -> tuple[bytes, bytes]:
    """Seal a tar as a hostile sealer would: the seal is right, what is framed is not."""
    key, file = parcel.new_key(), io.BytesIO()
    writer = ParcelWriter(file, key)
    for info in members:
        writer._append(memoryview(info.tobuf(tarfile.GNU_FORMAT)))
        writer._append(memoryview(bytes(info.size + -info.size % 512)))
    writer.close()
    return file.getvalue(), key


def _info(name: str, *, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname = "/etc/passwd"
    return info


@pytest.mark.parametrize(
    "members",
    [
        [_info("a", kind=tarfile.SYMTYPE)],
        [_info("a", kind=tarfile.LNKTYPE)],
        [_info("a", kind=tarfile.DIRTYPE)],
        [_info("a", kind=tarfile.CHRTYPE)],
        [_info("../a")],
        [_info("/a")],
        [_info("a" * 150)],
        [_info("a"), _info("a")],
    ],
    ids=["symlink", "link", "folder", "device", "up", "absolute", "long name", "twice"],
)
def test_only_plain_files_with_flat_names_come_out(members: list[tarfile.TarInfo]) -> None:
    """Links, folders, devices, paths and doubles in a well-sealed parcel are refused."""
    ciphertext, key = _forged(*members)
    with pytest.raises(SealBrokenError):
        opened(ciphertext, key)


def test_a_size_that_lies_is_refused() -> None:
    """A header that announces more than the parcel holds, or more than the limit, brings nothing down."""
    ciphertext, key = _forged(_info("a", size=CHUNK_BYTES))
    with pytest.raises(TooLargeError):
        list(parcel.members(io.BytesIO(ciphertext), key, bytes_max=CHUNK_BYTES - 1))
    key, file = parcel.new_key(), io.BytesIO()
    writer = ParcelWriter(file, key)
    writer._append(memoryview(_info("a", size=CHUNK_BYTES).tobuf(tarfile.USTAR_FORMAT)))
    writer.close()
    with pytest.raises(SealBrokenError, match="too early"):
        opened(file.getvalue(), key)


def test_a_missing_end_is_noticed() -> None:
    """A parcel whose tar stops after a member, without its closing blocks, is broken."""
    key, file = parcel.new_key(), io.BytesIO()
    writer = ParcelWriter(file, key)
    writer._append(memoryview(_info("a").tobuf(tarfile.USTAR_FORMAT)))
    writer._flush(last=True)
    with pytest.raises(SealBrokenError):
        opened(file.getvalue(), key)


# --- wrapping -------------------------------------------------------------------------------------------

DEADLINE = datetime(2026, 1, 5, 9, tzinfo=UTC)


def an_offer(**changed: object) -> Offer:
    values: dict[str, object] = {
        "offer_id": "offer-1", "bridge_id": "hospital", "service": "ct-lung", "parcel_digest": "d" * 64,
        "parcel_size_bytes": 1, "voxels": 1, "operations": 1, "urgency": Urgency.ROUTINE, "tier": Tier.PUBLIC,
        "price_max_units": 1, "price_asset": "CNY/2", "deadline": DEADLINE, "reply_key": "",
    }  # fmt: skip
    return Offer(**(values | changed))  # type: ignore[arg-type]


def a_lease(**changed: object) -> Lease:
    values: dict[str, object] = {
        "lease_id": "lease-1", "offer_id": "offer-1", "node_id": "node-1", "attempt": 1, "fencing_token": 7,
        "expires_at": DEADLINE, "node_wrap_key": "", "node_sign_key": "node-1",
    }  # fmt: skip
    return Lease(**(values | changed))  # type: ignore[arg-type]


def test_a_wrapped_key_opens_for_its_node_and_lease_alone() -> None:
    """The blob of one node, lease, attempt, token, parcel or deadline is worth nothing to any other."""
    node, other = WrapKey.new(), WrapKey.new()
    key, offer, lease = parcel.new_key(), an_offer(), a_lease()
    wrapped = parcel.wrap(key, node.public, parcel.parcel_info(offer, lease))
    assert node.unwrap(wrapped, parcel.parcel_info(offer, lease)) == key
    with pytest.raises(SealBrokenError):
        other.unwrap(wrapped, parcel.parcel_info(offer, lease))
    replayed = [
        (an_offer(offer_id="offer-2"), lease),
        (an_offer(parcel_digest="e" * 64), lease),
        (an_offer(deadline=DEADLINE + timedelta(seconds=1)), lease),
        (offer, a_lease(lease_id="lease-2")),
        (offer, a_lease(attempt=2)),
        (offer, a_lease(fencing_token=8)),
        (offer, a_lease(node_id="node-2")),
    ]
    for another_offer, another_lease in replayed:
        with pytest.raises(SealBrokenError):
            node.unwrap(wrapped, parcel.parcel_info(another_offer, another_lease))
    with pytest.raises(SealBrokenError):
        node.unwrap(wrapped, parcel.result_info(offer, lease, "d" * 64))


@pytest.mark.parametrize("wrapped", ["", "00", "zz", "00" * 80])
def test_rubbish_does_not_unwrap(wrapped: str) -> None:
    """What is no wrapped key is an error of ours, not of a library."""
    with pytest.raises(SealBrokenError):
        WrapKey.new().unwrap(wrapped, b"")


@pytest.mark.parametrize("public", ["", "00", "zz" * 32, "00" * 32])
def test_nothing_is_wrapped_for_a_key_that_is_none(public: str) -> None:
    """A malformed key, or the point that gives every secret away, gets nothing."""
    with pytest.raises(SealBrokenError):
        parcel.wrap(parcel.new_key(), public, b"")


def test_what_is_no_parcel_key_is_not_unwrapped() -> None:
    """A wrapped secret of another length is refused."""
    reader = WrapKey.new()
    with pytest.raises(SealBrokenError):
        reader.unwrap(parcel.wrap(b"short", reader.public, b""), b"")


def test_a_wrap_key_is_made_once(tmp_path: Path) -> None:
    """The key file of a node is the same at each start, and its owner's alone."""
    path = tmp_path / "keys" / "wrap.key"
    assert WrapKey.load(path).public == WrapKey.load(path).public
    assert path.stat().st_mode & 0o777 == 0o600


# --- the shelf ------------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "file", "memory"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """A shelf in a folder by path and by URL, and one that is reached as an object store is."""
    urls = {"folder": str(tmp_path), "file": f"file://{tmp_path}", "memory": f"memory://shelf-{uuid.uuid4().hex}"}
    return Shelf(urls[request.param])


def test_a_file_is_there_once_it_is_committed(shelf: Shelf) -> None:
    """Before its commit a draft is found by nobody; after it, it can be read whole and in part."""
    with shelf.create() as draft:
        draft.write(b"abc")
        draft.write(memoryview(b"defg"))
        assert shelf.size("key") is None
        draft.commit("key")
    assert shelf.size("key") == 7
    with shelf.open("key") as file:
        file.seek(2)
        assert file.read(3) == b"cde"
    shelf.delete("key")
    shelf.delete("key")
    assert shelf.size("key") is None
    with pytest.raises(UnknownError):
        shelf.open("key")


def test_a_draft_that_is_left_leaves_nothing(shelf: Shelf) -> None:
    """Whatever goes wrong while a file is written, no file comes of it."""

    def fail() -> None:
        with shelf.create() as draft:
            draft.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert shelf.sweep(datetime.now(UTC) + timedelta(hours=1)) == 0


def test_a_commit_replaces(shelf: Shelf) -> None:
    """The same content sealed twice under one key is one file."""
    for content in (b"one", b"other"):
        with shelf.create() as draft:
            draft.write(content)
            draft.commit("key")
    with shelf.open("key") as file:
        assert file.read() == b"other"


def test_drafts_of_the_dead_are_swept(shelf: Shelf) -> None:
    """A draft whose writer is gone is deleted when it is old, and not before."""
    draft = shelf.create()
    draft.write(b"x" * 2**23)
    draft._file.close()
    now = datetime.now(UTC)
    assert shelf.sweep(now - timedelta(hours=1)) == 0
    assert shelf.sweep(now + timedelta(hours=1)) == 1


@pytest.mark.parametrize("key", ["", "../up", "a/b", ".hidden", "drafts", "a" * 129])
def test_keys_stay_on_the_shelf(shelf: Shelf, key: str) -> None:
    """A key that could lead elsewhere names nothing."""
    with pytest.raises(UnknownError):
        shelf.open(key)
    with pytest.raises(UnknownError):
        shelf.delete(key)


def test_a_parcel_goes_through_a_shelf(shelf: Shelf) -> None:
    """Sealed onto a shelf and opened from it, a parcel of several flushes is the same."""
    key, content = parcel.new_key(), os.urandom(2**20)
    with shelf.create() as draft:
        writer = ParcelWriter(draft, key)
        for number in range(40):
            writer.add(f"{number}", content)
        draft.commit(writer.close())
    with shelf.open(writer.digest) as file:
        assert sum(member == content for _, member in parcel.members(file, key, writer.digest)) == 40


def test_a_full_disk_is_said_plainly(tmp_path: Path) -> None:
    """A disk that takes no more is StorageFullError, which is transient, and not an OSError from deep below."""
    shelf = Shelf(str(tmp_path))
    draft = shelf.create()
    draft._file.close()
    draft._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 - the draft closes it
    with draft, pytest.raises(StorageFullError):
        draft.write(b"x")
