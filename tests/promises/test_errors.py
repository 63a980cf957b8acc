"""The family of errors on one screen is the family that the code has."""

from __future__ import annotations

import inspect
import re

import pytest

from btt_bridge import errors
from btt_bridge.errors import BridgeError

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, BridgeError) and kind.__module__ == errors.__name__
}


def drawn() -> dict[str, tuple[str, bool]]:
    """Return what the module's docstring draws: each error with its parent, and whether it is said to be transient."""
    tree: dict[str, tuple[str, bool]] = {}
    ancestors: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([│├└─ ]*)(\w+Error)\b(?: +(\(transient\)))?", line):
            depth = len(found[1]) // 4
            ancestors[depth:] = [found[2]]
            tree[found[2]] = (ancestors[depth - 1] if depth else "", bool(found[3]))
    return tree


def test_the_drawn_tree_is_the_tree_of_classes() -> None:
    """Every error is drawn once, under its parent, and marked transient exactly where trying again can help."""
    real = {
        name: (kind.__base__.__name__ if kind is not BridgeError and kind.__base__ else "", kind.transient)
        for name, kind in CLASSES.items()
    }
    inherits = {name for name in real if real[name][1] and real.get(real[name][0], ("", False))[1]}
    expected = {name: (parent, transient and name not in inherits) for name, (parent, transient) in real.items()}
    assert drawn() == expected


@pytest.mark.parametrize("name", CLASSES)
def test_every_error_says_what_is_wrong_and_knows_its_wire_codes(name: str) -> None:
    """Its docstring is its message; its codes are ones that a peer understands."""
    kind = CLASSES[name]
    assert "__doc__" in vars(kind)
    message = str(kind() if kind is not errors.MappingError else kind(kind.__doc__ or ""))
    assert message.endswith(".")
    assert len(message) <= 120
    assert 400 <= kind.http_status <= 599
    # PS3.7 Annex C: refusals and failures, never success, pending or warning.
    assert kind.dicom_status >> 12 in (0xA, 0xC) or 0x0105 <= kind.dicom_status <= 0x0213
    assert kind.transient == (kind.http_status in (503, 507)), "a client retries exactly what may succeed later"
