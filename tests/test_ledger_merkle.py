"""The Merkle tree against the vectors of Certificate Transparency, and against forged paths."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge.ledger import merkle

# The leaves and roots that RFC 6962 implementations have tested each other with since 2013.
LEAVES: Final = [
    bytes.fromhex(leaf)
    for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS: Final = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_rfc_6962(size: int) -> None:
    """Every tree size up to eight gives the published root."""
    assert merkle.root(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_the_empty_tree_has_the_root_of_the_rfc() -> None:
    """No leaves: the hash of nothing."""
    assert merkle.root([]) == merkle.EMPTY


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70), st.data())
def test_a_path_leads_to_the_root_and_a_forged_one_does_not(leaves: list[bytes], data: st.DataObject) -> None:
    """Each leaf proves itself; another leaf, place, size, a bent, cut or longer path proves nothing."""
    index = data.draw(st.integers(0, len(leaves) - 1))
    top, path, size = merkle.root(leaves), merkle.path(leaves, index), len(leaves)
    assert merkle.includes(top, size, index, leaves[index], path)
    assert not merkle.includes(top, size, index, leaves[index] + b"x", path)
    assert not merkle.includes(top, size, size, leaves[index], path)
    assert not merkle.includes(top, size, index, leaves[index], [*path, bytes(32)])
    if path:
        bent = [bytes([path[0][0] ^ 1]) + path[0][1:], *path[1:]]
        assert not merkle.includes(top, size, index, leaves[index], bent)
        assert not merkle.includes(top, size, index, leaves[index], path[1:])


def test_an_inner_node_does_not_pass_for_a_leaf() -> None:
    """Leaves and nodes are hashed apart, so that two leaves cannot be sold as one."""
    inner = merkle.path([b"a", b"b", b"c", b"d"], 2)[-1]
    assert merkle.root([inner]) != inner


def test_there_is_no_path_for_what_is_not_there() -> None:
    """An index outside the tree is an error, not somebody else's proof."""
    for index in (-1, 3):
        with pytest.raises(IndexError):
            merkle.path([b"a", b"b", b"c"], index)
