"""The order of the checks: nothing is opened before its sender is known, nothing is read before it is whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from btt_bridge import parcel, signing
from btt_bridge.errors import LeaseLostError, MalformedError, ResultRefusedError, TooLargeError
from btt_bridge.judge.plausible import check
from btt_bridge.records import Lease, Offer, Receipt, Result, Slice, from_body
from btt_bridge.result import FACTS_BYTES_MAX, decode

#: Bytes of a result besides its masks and facts: tar headers, padding, the masks' own header.
_FRAME_BYTES = 2**20
_MASKS_MAX = 4


@dataclass(frozen=True)
class Judged:
    """A result that was held against everything the bridge knows, and the receipt that it came with."""

    receipt: Receipt
    result: Result


def verify(
    envelope: Mapping[str, Any],
    offer: Offer,
    lease: Lease,
    fetch: Callable[[str], parcel.Readable],
    reply_key: parcel.WrapKey,
    slices: Sequence[Slice],
    *,
    service_version: str = "",
    model_digest: str = "",
) -> Judged:
    """Return the result that a receipt stands for, if there is nothing to be said against it.

    `envelope` is the receipt as the exchange passed it on, `lease` the one whose node was given the parcel's key,
    `slices` what left in the parcel, in any order. `fetch` opens the sealed result of a digest, and is asked only
    once the receipt holds. Where the service is installed here too, its version and digest must be those of the
    receipt. Raises SignatureError, LeaseLostError, SealBrokenError or ResultRefusedError.
    """
    receipt = _receipt(envelope, lease)
    _check_receipt(receipt, offer, lease, service_version, model_digest)
    key = reply_key.unwrap(receipt.wrapped_key, parcel.result_info(offer, lease, receipt.output_digest))
    try:
        with fetch(receipt.output_digest) as sealed:
            members = dict(parcel.members(sealed, key, receipt.output_digest, bytes_max=_bytes_max(slices)))
    except TooLargeError:
        raise ResultRefusedError("the result holds more than a result can") from None
    result = decode(members)
    if (result.service, result.service_version) != (receipt.service, receipt.service_version):
        raise ResultRefusedError("the result is not of the service that its receipt names")
    check(result, slices)
    return Judged(receipt, result)


def _receipt(envelope: Mapping[str, Any], lease: Lease) -> Receipt:
    body = signing.verify(envelope, "receipt", lease.node_sign_key)
    try:
        return from_body(Receipt, body)
    except MalformedError:
        raise ResultRefusedError("the receipt does not have the fields of a receipt") from None


def _check_receipt(receipt: Receipt, offer: Offer, lease: Lease, service_version: str, model_digest: str) -> None:
    if (receipt.lease_id, receipt.fencing_token) != (lease.lease_id, lease.fencing_token):
        raise LeaseLostError("the receipt is of another lease")
    if receipt.offer_id != offer.offer_id or lease.offer_id != offer.offer_id:
        raise ResultRefusedError("the receipt is of another offer")
    if receipt.node_id != lease.node_id:
        raise ResultRefusedError("the receipt names another node than the lease")
    if receipt.input_digest != offer.parcel_digest:
        raise ResultRefusedError("the receipt is of another parcel")
    if receipt.service != offer.service:
        raise ResultRefusedError("another service ran than was asked for")
    if service_version and receipt.service_version != service_version:
        raise ResultRefusedError("another version of the service ran")
    if model_digest and receipt.model_digest != model_digest:
        raise ResultRefusedError("another model ran than the one known by this version")
    if receipt.started_at.tzinfo is None or receipt.finished_at.tzinfo is None:
        raise ResultRefusedError("the receipt's moments have no time zone")
    if receipt.finished_at.astimezone(UTC) < receipt.started_at.astimezone(UTC):
        raise ResultRefusedError("the receipt ends before it starts")
    if any(seconds < 0 for seconds in receipt.timings.values()):
        raise ResultRefusedError("the receipt has a negative time")


def _bytes_max(slices: Sequence[Slice]) -> int:
    """Return the most that an honest result on these slices can weigh: its facts, and masks of a bit a pixel."""
    mask_bytes = sum(image.rows * -(-image.columns // 8) for image in slices)
    return FACTS_BYTES_MAX + _FRAME_BYTES + _MASKS_MAX * mask_bytes
