"""Merkle trees as RFC 6962 section 2.1 defines them: one root stands for many leaves, a short path for one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

EMPTY = hashlib.sha256(b"").digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the hash of the whole tree."""
    level = [_leaf(leaf) for leaf in leaves]
    while len(level) > 1:
        level = _parents(level)
    return level[0] if level else EMPTY


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the sibling hashes from leaf `index` up to the root."""
    if not 0 <= index < len(leaves):
        raise IndexError("the tree has no such leaf")
    level, found = [_leaf(leaf) for leaf in leaves], []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            found.append(level[sibling])
        level, index = _parents(level), index // 2
    return found


def includes(top: bytes, size: int, index: int, leaf: bytes, siblings: Sequence[bytes]) -> bool:
    """Say whether the siblings lead from this leaf, at this index of a tree of `size` leaves, to the root `top`."""
    if not 0 <= index < size:
        return False
    node, rest, last = _leaf(leaf), list(siblings), size - 1
    while last:
        if index % 2 or index < last:
            if not rest:
                return False
            sibling = rest.pop(0)
            node = _node(sibling, node) if index % 2 else _node(node, sibling)
        # The last node of an odd level goes up as it is.
        index, last = index // 2, last // 2
    return not rest and node == top


def _parents(level: list[bytes]) -> list[bytes]:
    # RFC 6962 splits at the largest power of two below the size; pairing from the left comes to the same tree.
    pairs = [_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return pairs + level[len(pairs) * 2 :]


def _leaf(content: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + content).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
