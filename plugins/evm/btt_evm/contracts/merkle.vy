# pragma version 0.4.3
"""
@title Merkle proofs as RFC 6962 section 2.1.1 defines them, over SHA-256
@notice The same trees as the books of the bridge: a proof made there holds here. Leaves and nodes are hashed under
        different first bytes, so that neither can pass for the other; the last node of an odd level goes up as it is.
"""

# A tree has fewer than 2**32 leaves, so that no path is longer.
DEPTH: constant(uint256) = 32
SIZE_MAX: constant(uint256) = 2**32 - 1


@internal
@pure
def _includes(root: bytes32, size: uint256, index: uint256, leaf: Bytes[128], siblings: DynArray[bytes32, DEPTH]) -> bool:
    if index >= size:
        return False
    node: bytes32 = sha256(concat(b"\x00", leaf))
    position: uint256 = index
    last: uint256 = size - 1
    used: uint256 = 0
    for _: uint256 in range(DEPTH):
        if last == 0:
            break
        if position % 2 == 1 or position < last:
            if used == len(siblings):
                return False
            if position % 2 == 1:
                node = sha256(concat(b"\x01", siblings[used], node))
            else:
                node = sha256(concat(b"\x01", node, siblings[used]))
            used += 1
        position //= 2
        last //= 2
    return last == 0 and used == len(siblings) and node == root
