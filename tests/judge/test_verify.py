"""The judge: an honest result passes, and each way of cheating is refused for its own reason."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btt_bridge import judge
from btt_bridge.errors import LeaseLostError, PoolError, ResultRefusedError, SealBrokenError, SignatureError
from btt_bridge.parcel import ParcelWriter, WrapKey, new_key, result_info, wrap
from btt_bridge.records import (
    Code,
    Finding,
    Lease,
    Mask,
    Measurement,
    Offer,
    Receipt,
    Result,
    Slice,
    Tier,
    Urgency,
    to_body,
)
from btt_bridge.result import encode
from btt_bridge.signing import Signer

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
LUNG, NODULE = Code("39607008", "SCT", "Lung"), Code("27925004", "SCT", "Nodule")
VOLUME = Code("118565006", "SCT", "Volume")
SLICES = tuple(
    Slice(f"2.25.1{n}", "2.25.5", 64, 80, (-40.0, -32.0, 2.0 * n), (1, 0, 0, 0, 1, 0), (1.0, 0.5)) for n in range(10)
)


def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


def honest_result() -> Result:
    lungs, nodules = np.zeros((10, 64, 10), np.uint8), np.zeros((10, 64, 10), np.uint8)
    lungs[:, 16:48, 2:8] = 0xFF
    nodules[4, 20:24, 3] = 0xF0
    # 10 slices of 2 mm, 32 rows of 1 mm, 48 columns of 0.5 mm.
    volume = Measurement(VOLUME, 10 * 2 * 32 * 24 / 1000, "mL")
    finding = Finding("nodule-1", NODULE, "2.25.14", (-27.0, -10.0, 8.0), (22.0, 26.0), 4.0, 33.0, 0.7, "nodules")
    return Result(
        "ct-lung", "1.0.0", "2.25.5", tuple(one.sop_instance_uid for one in SLICES), 64, 80, (volume,), (finding,),
        (Mask("lungs", LUNG, LUNG, lungs), Mask("nodules", NODULE, NODULE, nodules)),
    )  # fmt: skip


@dataclass
class Delivery:
    """A node's delivery as the exchange hands it over; tests spoil one thing at a time."""

    node: Signer = field(default_factory=signer)
    reply: WrapKey = field(default_factory=WrapKey.new)
    result: Result = field(default_factory=honest_result)
    #: What the node changes in its receipt before it signs.
    receipt: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, bytes] | None = None

    def __post_init__(self) -> None:
        self.offer = Offer(
            "offer-1", "hospital", "ct-lung", "a" * 64, 1000, 51200, 10**6, Urgency.ROUTINE, Tier.PUBLIC, 1000, "CNY",
            NOW + timedelta(minutes=30), self.reply.public,
        )  # fmt: skip
        self.lease = Lease(
            "lease-1", "offer-1", self.node.public, 1, 7, NOW + timedelta(seconds=30), WrapKey.new().public,
            self.node.public,
        )  # fmt: skip
        self.sealed, self.envelope = self.made()

    def made(self) -> tuple[bytes, dict[str, str]]:
        file, key = io.BytesIO(), new_key()
        writer = ParcelWriter(file, key)
        for name, content in (self.members or encode(self.result)).items():
            writer.add(name, content)
        digest = writer.close()
        receipt = Receipt(
            "offer-1", "lease-1", 7, self.node.public, "ct-lung", "1.0.0", "b" * 64, "a" * 64, digest,
            wrap(key, self.reply.public, result_info(self.offer, self.lease, digest)), "cpu", NOW,
            NOW + timedelta(seconds=3), {"run": 2.0},
        )  # fmt: skip
        return file.getvalue(), self.node.sign("receipt", to_body(receipt) | dict(self.receipt))

    def fetch(self, _digest: str) -> io.BytesIO:
        return io.BytesIO(self.sealed)

    def judged(self, **known: str) -> judge.Judged:
        return judge.verify(self.envelope, self.offer, self.lease, self.fetch, self.reply, SLICES, **known)


def test_an_honest_result_passes() -> None:
    """The result comes out as the service made it, with the receipt that was signed."""
    delivery = Delivery()
    judged = delivery.judged(service_version="1.0.0", model_digest="b" * 64)
    assert replace(judged.result, masks=()) == replace(delivery.result, masks=())
    assert [
        np.array_equal(a.bits, b.bits) for a, b in zip(judged.result.masks, delivery.result.masks, strict=True)
    ] == [True, True]
    assert judged.receipt.timings == {"run": 2.0}


def test_a_receipt_signed_by_anybody_else_is_refused() -> None:
    """A valid signature of a stranger's key, with the honest node's name in the receipt, is worth nothing."""
    delivery = Delivery()
    stranger = signer()
    body = to_body(Receipt(**_receipt_fields(delivery)))
    delivery.envelope = stranger.sign("receipt", body)
    with pytest.raises(SignatureError):
        delivery.judged()
    delivery.envelope = delivery.envelope | {"key": delivery.node.public}
    with pytest.raises(SignatureError):
        delivery.judged()


def _receipt_fields(delivery: Delivery) -> dict[str, Any]:
    judged = delivery.judged()
    return {name: getattr(judged.receipt, name) for name in judged.receipt.__dataclass_fields__}


def test_a_signature_cannot_be_moved_from_another_kind_of_envelope() -> None:
    """What the node signed as something else is no receipt."""
    delivery = Delivery()
    body = to_body(Receipt(**_receipt_fields(delivery)))
    delivery.envelope = delivery.node.sign("node", body) | {"kind": "receipt"}
    with pytest.raises(SignatureError):
        delivery.judged()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"lease_id": "lease-0"}, LeaseLostError),
        ({"fencing_token": 6}, LeaseLostError),
        ({"offer_id": "offer-0"}, ResultRefusedError),
        ({"node_id": "c" * 64}, ResultRefusedError),
        ({"input_digest": "d" * 64}, ResultRefusedError),
        ({"service": "ct-liver"}, ResultRefusedError),
        ({"service_version": "0.9.0"}, ResultRefusedError),
        ({"model_digest": "e" * 64}, ResultRefusedError),
        ({"output_digest": "f" * 64}, SealBrokenError),
        ({"wrapped_key": "00" * 80}, SealBrokenError),
        ({"wrapped_key": "not hex"}, SealBrokenError),
        ({"finished_at": "2026-01-05T07:59:00+00:00"}, ResultRefusedError),
        ({"started_at": "2026-01-05T08:00:00"}, ResultRefusedError),
        ({"timings": {"run": -1.0}}, ResultRefusedError),
        ({"timings": {"run": "fast"}}, ResultRefusedError),
        ({"extra": 1}, ResultRefusedError),
    ],
)
def test_a_receipt_that_does_not_fit_is_refused(change: dict[str, Any], error: type[PoolError]) -> None:
    """Signed or not: a stale lease, another offer, parcel, service, model, output or time is not ours."""
    with pytest.raises(error):
        Delivery(receipt=change).judged(service_version="1.0.0", model_digest="b" * 64)


def test_a_result_cannot_be_replayed_on_another_lease() -> None:
    """Receipt and ciphertext of an earlier attempt do not pass for a later one, even if it is the same node's."""
    earlier, later = Delivery(), Delivery()
    later.node, later.reply = earlier.node, earlier.reply
    later.lease = replace(earlier.lease, lease_id="lease-2", attempt=2, fencing_token=8)
    later.offer, later.envelope, later.sealed = earlier.offer, earlier.envelope, earlier.sealed
    with pytest.raises(LeaseLostError):
        later.judged()
    # Even if it signs a new receipt around the old key: that key was wrapped for the old lease.
    fields = _receipt_fields(earlier) | {"lease_id": "lease-2", "fencing_token": 8}
    later.envelope = earlier.node.sign("receipt", to_body(Receipt(**fields)))
    with pytest.raises(SealBrokenError):
        later.judged()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sealed: sealed[:-1],
        lambda sealed: sealed + b"\0",
        lambda sealed: sealed[:100] + bytes([sealed[100] ^ 1]) + sealed[101:],
        lambda sealed: b"",
    ],
)
def test_a_changed_ciphertext_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    """A flipped bit, a cut end or an appended byte anywhere on the way shows."""
    delivery = Delivery()
    delivery.sealed = spoil(delivery.sealed)
    with pytest.raises(SealBrokenError):
        delivery.judged()


def test_members_that_unpack_to_more_than_a_result_can_weigh_are_refused() -> None:
    """The limit follows from the images that left, and is met before a mask is looked at."""
    members = encode(honest_result()) | {"masks.safetensors": bytes(8 * 2**20)}
    with pytest.raises(ResultRefusedError, match="more than a result"):
        Delivery(members=members).judged()


def finding(**change: Any) -> Callable[[Result], Result]:
    return lambda result: replace(result, findings=(replace(result.findings[0], **change),))


def measured(concept: Code, value: float, unit: str) -> Callable[[Result], Result]:
    return lambda result: replace(result, measurements=(Measurement(concept, value, unit),))


def emptied(result: Result, name: str) -> Result:
    masks = tuple(replace(m, bits=np.zeros_like(m.bits)) if m.name == name else m for m in result.masks)
    return replace(result, masks=masks)


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        # Copied from another study, or of another shape.
        (lambda r: replace(r, series_instance_uid="2.25.6"), "not one of ours"),
        (lambda r: replace(r, slices=("2.25.99", *r.slices[1:])), "not one of ours"),
        (lambda r: replace(r, slices=r.slices[::-1]), "order"),
        (lambda r: replace(r, slices=(r.slices[1], r.slices[0], *r.slices[2:])), "order"),
        (lambda r: replace(r, columns=79), "rows or columns"),
        (lambda r: replace(r, slices=(), series_instance_uid="", masks=(), findings=r.findings), "names no slices"),
        # Findings that are nowhere.
        (finding(sop_instance_uid="2.25.99"), "not one of the result's"),
        (finding(center_px=(64.0, 26.0)), "outside its image"),
        (finding(center_px=(22.0, -1.0)), "outside its image"),
        (finding(center_mm=(-27.0, -10.0, 80.0)), "not where its pixel is"),
        (finding(center_px=(26.0, 22.0)), "not where its pixel is"),
        (finding(sop_instance_uid="2.25.17"), "not where its pixel is"),
        (finding(mask="liver"), "mask that is not there"),
        (finding(mask_label=1), "label"),
        (lambda r: emptied(r, "nodules"), "empty"),
        # Numbers that cannot be.
        (finding(score=1.01), "score"),
        (finding(score=-0.1), "score"),
        (finding(diameter_mm=0.0), "diameter"),
        (finding(diameter_mm=900.0), "diameter"),
        (finding(volume_mm3=3300.0), "belong together"),
        (finding(volume_mm3=-33.0), "belong together"),
        (measured(VOLUME, 15.36, "L"), "unit"),
        (measured(VOLUME, 13_000.0, "mL"), "outside what can be"),
        (measured(VOLUME, -1.0, "mL"), "outside what can be"),
        (measured(Code("LAA-950", "99BTT", "Low attenuation area"), 101.0, "%"), "outside what can be"),
        (measured(Code("112181", "DCM", "Mean Attenuation Coefficient"), -5000.0, "[hnsf'U]"), "outside what can be"),
        (measured(VOLUME, 60.0, "mL"), "not that of the lung mask"),
        (lambda r: replace(r, service="other"), "not of the service"),
    ],
)  # fmt: skip
def test_a_forged_result_is_refused(forge: Callable[[Result], Result], reason: str) -> None:
    """A result of the right form that does not fit the images, or cannot be true, is refused with its reason."""
    with pytest.raises(ResultRefusedError, match=reason):
        Delivery(result=forge(honest_result())).judged()


def test_a_result_may_leave_out_slices_that_it_had_no_use_for() -> None:
    """A localizer in the parcel is no reason to refuse."""
    result = honest_result()
    fewer = replace(
        result,
        slices=result.slices[1:],
        masks=tuple(replace(mask, bits=mask.bits[1:]) for mask in result.masks),
        measurements=(Measurement(VOLUME, 9 * 2 * 32 * 24 / 1000, "mL"),),
    )
    assert len(Delivery(result=fewer).judged().result.slices) == 9


def test_a_service_without_images_in_its_answer_passes() -> None:
    """Measurements alone need no slices."""
    count = Measurement(Code("118523008", "SCT", "Number of images"), 10.0, "1")
    result = Result("ct-lung", "1.0.0", "", (), 0, 0, (count,), (), ())
    assert Delivery(result=result).judged().result.measurements == (count,)
