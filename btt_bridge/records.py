"""The frozen records that stages hand each other; an object is valid or it does not exist."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import cache
from typing import Any, TypeVar, get_type_hints

from btt_bridge.errors import MalformedError
from btt_bridge.money import Amount

#: DICOM keyword to value(s), as assemble read them: text as str, IS as int, DS and FL as float, several values
#: as a tuple. Sequences and binary values are left out. This is patient data: it stays in the hospital.
Keywords = Mapping[str, Any]


class Urgency(StrEnum):
    """How soon somebody needs the result; it sets the deadline and the price."""

    STAT = "stat"
    URGENT = "urgent"
    ROUTINE = "routine"

    @property
    def rank(self) -> int:
        """0 for what goes first."""
        return list(Urgency).index(self)


class Tier(StrEnum):
    """Where a parcel may be opened. Placement fails closed: a node of a farther tier never gets it."""

    HOSPITAL = "hospital"  # the hospital's own node
    CONTRACTED = "contracted"  # a node under contract, attested
    PUBLIC = "public"  # anybody's

    def admits(self, node: Tier) -> bool:
        """Whether a parcel offered up to this tier may be opened by a node of that one."""
        return _DISTANCES[node] <= _DISTANCES[self]

    def farther(self, other: Tier) -> Tier:
        """Return whichever of the two is farther from the hospital."""
        return self if self.admits(other) else other


_DISTANCES = {tier: distance for distance, tier in enumerate(Tier)}


class Hardware(StrEnum):
    """What a job is to run on. Placement fails closed: a node that does not have the class never gets it."""

    CPU = "cpu"  # any node will do
    GPU = "gpu"
    GPU_CONFIDENTIAL = "gpu-confidential"  # a GPU whose memory its owner cannot read, attested

    @property
    def serves(self) -> tuple[Hardware, ...]:
        """The classes of offers that a node of this class may have.

        A node's word is not enough for `gpu-confidential`, and nothing attests it yet: no node has it.
        """
        return (Hardware.CPU,) if self is Hardware.CPU else (Hardware.CPU, Hardware.GPU)


def _aware(moment: datetime) -> None:
    if moment.tzinfo is None:
        raise ValueError("moments are aware, in UTC")


# --- accept ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrival:
    """One object that a door has taken in: what the protocol itself said of it, before anybody parsed it."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    #: Where its bytes lie, relative to the spool folder: a DICOM Part 10 file whose data set is as received.
    path: str
    size_bytes: int
    received_at: datetime

    def __post_init__(self) -> None:
        _aware(self.received_at)


@dataclass(frozen=True, slots=True)
class Instance:
    """An arrival with its row in the index."""

    id: int
    arrival: Arrival
    #: Empty, or why this copy is not the one in use: "conflict" (same SOP Instance UID, other content),
    #: "unreadable" (the data set could not be parsed), "own" (a result of ours that came back).
    flag: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""


# --- assemble -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Header:
    """What assemble read from one instance, down to but not including its pixels."""

    instance_id: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    keywords: Keywords

    def __post_init__(self) -> None:
        if not (self.study_instance_uid and self.series_instance_uid and self.sop_instance_uid):
            raise MalformedError("Study, Series and SOP Instance UID must all have a value")


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a study as received so far."""

    series_instance_uid: str
    #: Keywords of its first instance; what is the same in every instance of a series is enough to route by.
    keywords: Keywords
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """One revision of a study: what the bridge holds of it at this moment."""

    study_instance_uid: str
    #: 1 for the first complete set; each late object after completion opens the next.
    revision: int
    calling_ae_title: str
    series: tuple[Series, ...]
    first_received_at: datetime
    last_received_at: datetime

    @property
    def instances(self) -> tuple[Instance, ...]:
        return tuple(instance for series in self.series for instance in series.instances)


class EvidenceKind(StrEnum):
    """On what grounds a study counts as complete, strongest first."""

    ORDER = "order"  # the order said how many instances to expect
    C_FIND = "c-find"  # the sending PACS said Number of Study Related Instances (0020,1208)
    QUIET_TIME = "quiet-time"  # nothing more came for the configured time


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a study was called complete."""

    kind: EvidenceKind
    received: int
    #: None where the evidence is quiet time alone.
    expected: int | None
    at: datetime

    def __post_init__(self) -> None:
        _aware(self.at)


# --- assign ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Route:
    """What the hospital's mapping decided for a study: one service, on one series, under one policy."""

    name: str
    #: Digest of the mapping file that decided; kept with the study for ever.
    mapping_version: str
    service: str
    series_instance_uid: str
    urgency: Urgency
    tier: Tier
    destinations: tuple[str, ...]
    #: Price ceiling for one study.
    price_max: Amount
    deadline_seconds: int
    hardware: Hardware = Hardware.CPU


# --- deidentify -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slice:
    """Where one image of a parcel lies; judge holds every finding against these."""

    #: As it goes out.
    sop_instance_uid: str
    series_instance_uid: str
    rows: int
    columns: int
    #: Image Position (Patient), millimetres; None where the image has none.
    position: tuple[float, float, float] | None
    #: Image Orientation (Patient).
    orientation: tuple[float, float, float, float, float, float] | None
    #: Pixel Spacing: between rows, between columns, millimetres.
    spacing: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Stripped:
    """One object ready to leave, and what must be remembered of it to bring its identity back."""

    #: A complete Part 10 file with rebuilt meta and zeroed preamble.
    content: bytes
    #: Original UID to outgoing UID, for every UID that was mapped in this object.
    uids: Mapping[str, str]
    #: Values that identify, as they stood in the original, for the proof to search for.
    identifying: frozenset[str]
    slice: Slice


@dataclass(frozen=True, slots=True)
class Pseudonym:
    """What one patient is called outside, and how far that patient's dates are moved."""

    patient_id: str
    patient_name: str
    #: Whole days, negative: dates move to the past.
    shift_days: int


# --- dispatch and exchange ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parcel:
    """A sealed study as it lies in the object store; its key is kept apart."""

    key: str
    #: SHA-256 of the ciphertext, hex.
    digest: str
    size_bytes: int
    #: Facts the price is made from, and nothing about the patient.
    voxels: int
    instances: int


@dataclass(frozen=True, slots=True)
class Offer:
    """What the bridge asks the pool to do, signed by the bridge. Carries no key and no identity."""

    offer_id: str
    bridge_id: str
    service: str
    parcel_digest: str
    parcel_size_bytes: int
    voxels: int
    #: Estimated model operations; the price is made from this, never from the worker's clock.
    operations: int
    urgency: Urgency
    tier: Tier
    price_max_units: int
    price_asset: str
    deadline: datetime
    #: X25519 public key, hex, to which the node wraps the key of its result.
    reply_key: str
    #: What the token's ledger says of the bridge's stake (priority.py); empty where it has none.
    attestation: str = ""
    #: What it is priced for, and so what it must run on.
    hardware: Hardware = Hardware.CPU

    def __post_init__(self) -> None:
        _aware(self.deadline)


@dataclass(frozen=True, slots=True)
class Placement:
    """How urgent an exchange ranks an offer, signed by the exchange: as it asked or, beyond the quota, as less."""

    offer_id: str
    bridge_id: str
    asked: Urgency
    #: What the node is paid for.
    urgency: Urgency
    at: datetime

    def __post_init__(self) -> None:
        _aware(self.at)
        if self.urgency.rank < self.asked.rank:
            raise ValueError("no offer is placed as more urgent than it asks")


@dataclass(frozen=True, slots=True)
class Lease:
    """One node's time-limited right to one offer. A higher fencing token makes every lower one void."""

    lease_id: str
    offer_id: str
    node_id: str
    attempt: int
    fencing_token: int
    expires_at: datetime
    #: The node's X25519 public key, hex: the bridge wraps the parcel's key for it, and for no other.
    node_wrap_key: str
    #: The node's Ed25519 public key, hex: its receipt must verify with it.
    node_sign_key: str

    def __post_init__(self) -> None:
        _aware(self.expires_at)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What ran, where, on what and how long; signed by the node."""

    offer_id: str
    lease_id: str
    fencing_token: int
    node_id: str
    service: str
    service_version: str
    #: SHA-256, hex, of the service's code and weights.
    model_digest: str
    #: SHA-256, hex, of the sealed parcel that was opened.
    input_digest: str
    #: SHA-256, hex, of the sealed result.
    output_digest: str
    #: The result's key, wrapped by HPKE to the offer's reply key, hex.
    wrapped_key: str
    device: str
    started_at: datetime
    finished_at: datetime
    #: Seconds by step: "decode", "run", "seal"; "open" is how long decoding waited for the parcel to be opened.
    timings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeCard:
    """What a node says of itself when it joins a pool; signed by the key that is its name."""

    #: The node's Ed25519 public key, hex.
    node_id: str
    #: The node's X25519 public key, hex.
    wrap_key: str
    #: What it claims to be; the exchange and each bridge decide for themselves how far to believe it.
    tier: Tier
    #: Names of the services it can run.
    services: tuple[str, ...]
    device: str
    #: Model operations a second, measured by itself on a service it runs; 0 where it has not measured.
    benchmark: int
    parcel_bytes_max: int
    hardware: Hardware = Hardware.CPU

    def __post_init__(self) -> None:
        if not (_is_key(self.node_id) and _is_key(self.wrap_key)):
            raise MalformedError("a node is named by a public key, and has a second one to wrap for")


def _is_key(text: str) -> bool:
    return len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)


# --- infer, judge, reidentify ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 Section 8): value, scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number with its unit (UCUM) and its concept."""

    concept: Code
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing seen in the images, where, how large, how sure."""

    #: Unique within the result: "nodule-1".
    name: str
    kind: Code
    #: Slice it is best seen on.
    sop_instance_uid: str
    #: Centre in the patient coordinate system (LPS), millimetres.
    center_mm: tuple[float, float, float]
    #: Centre as (row, column), in pixels of that slice.
    center_px: tuple[float, float]
    diameter_mm: float
    volume_mm3: float
    #: 0 to 1; how the service ranks it, not a probability of disease.
    score: float
    #: Name of the mask that holds it, "" for none.
    mask: str = ""
    #: 1-based value of this finding's voxels within a labelled mask; 0 where the mask is binary.
    mask_label: int = 0


@dataclass(frozen=True, slots=True)
class Mask:
    """One segmentation: bits packed along columns, one frame a slice, in the order of `Result.slices`."""

    name: str
    category: Code
    kind: Code
    #: uint8 array of shape (frames, rows, ceil(columns / 8)), numpy.packbits order "big".
    bits: Any


@dataclass(frozen=True, slots=True)
class Result:
    """What a service found, in the terms of the study it was given. Data from a stranger until judged."""

    service: str
    service_version: str
    series_instance_uid: str
    #: SOP Instance UIDs of the slices in spatial order, foot to head.
    slices: tuple[str, ...]
    rows: int
    columns: int
    measurements: tuple[Measurement, ...]
    findings: tuple[Finding, ...]
    masks: tuple[Mask, ...]


# --- report and send ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Document:
    """One DICOM object the bridge wrote, ready to be sent."""

    sop_instance_uid: str
    sop_class_uid: str
    #: "SR", "SEG" or "SC".
    kind: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Destination:
    """A PACS that takes results by C-STORE."""

    name: str
    ae_title: str
    host: str
    port: int


# --- settle ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Charge:
    """What one delivered result costs, and the facts it was priced by."""

    amount: Amount
    price_list: str
    operations: int
    voxels: int
    size_bytes: int
    urgency: Urgency
    hardware: str
    #: By how much a stake lowered the price, and what that came to; `amount` is what is left.
    discount_percent: int = 0
    discount_units: int = 0


@dataclass(frozen=True, slots=True)
class Performance:
    """How a node worked in a period, as an exchange saw it: how leases ended, and real jobs by its own clock."""

    node_id: str
    accepted: int
    #: Leases that lapsed, failed or were refused.
    lost: int
    #: Of the accepted results, as their offers said.
    operations: int
    #: From lease to receipt, over the accepted results.
    milliseconds: int

    def __post_init__(self) -> None:
        if min(self.accepted, self.lost, self.operations, self.milliseconds) < 0:
            raise ValueError("what is counted is not negative")

    @property
    def ended(self) -> int:
        return self.accepted + self.lost


@dataclass(frozen=True, slots=True)
class RateObservation:
    """What one source said that one unit of `base` costs in units of `quote`, and when it was so."""

    source: str
    base: str
    quote: str
    rate: Fraction
    at: datetime

    def __post_init__(self) -> None:
        _aware(self.at)
        if type(self.rate) is not Fraction or self.rate <= 0:
            raise ValueError("a rate is a positive fraction")


@dataclass(frozen=True, slots=True)
class BankAccount:
    """Where a rail takes money from or brings it to."""

    holder: str
    #: An IBAN, or the bank's own number.
    number: str
    bic: str = ""


@dataclass(frozen=True, slots=True)
class PaymentOrder:
    """One payment that a rail is asked to make; its id comes back with the confirmation."""

    id: str
    amount: Amount
    debtor: BankAccount
    creditor: BankAccount


class Outcome(StrEnum):
    """What became of an order."""

    BOOKED = "booked"  # the bank has paid it
    RETURNED = "returned"  # the money came back, or never left


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a rail's other side says of one order; amounts as it wrote them, for it may be wrong."""

    order: str
    outcome: Outcome
    value: Decimal
    currency: str
    #: Why it was returned, as ISO 20022 codes it, such as AC04; "" where it was booked, or nobody said why.
    reason: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z0-9]{0,4}", self.reason):
            raise ValueError("a reason is a code of at most four capital letters and digits")


@dataclass(frozen=True, slots=True)
class Statement:
    """One message of a rail's other side."""

    name: str
    confirmations: tuple[Confirmation, ...]


# --- what a chain keeps -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BatchRoot:
    """What is told of a sealed settlement batch: whose it is, and the root over its transfers."""

    #: Public key of who sealed it, hex.
    signer: str
    batch: int
    root: bytes
    #: How many transfers are under it.
    size: int

    def __post_init__(self) -> None:
        if self.batch < 1 or self.size < 1 or len(self.root) != 32:
            raise ValueError("a batch has a number, transfers, and a root of 32 bytes")


class RootStanding(StrEnum):
    """How a root stands on a chain."""

    POSTED = "posted"  # not deep enough yet to stay, or its dispute window is open
    STANDS = "stands"
    VOID = "void"  # undone within its window; its name is spent
    REFUSED = "refused"  # another root is there under its name


@dataclass(frozen=True, slots=True)
class Anchored:
    """How a root stands, and the transaction that posted it; "" where none did, or nobody knows which."""

    standing: RootStanding
    transaction: str = ""


@dataclass(frozen=True, slots=True)
class Burn:
    """Tokens that a holder of the book burned on a chain."""

    #: The block that it is in.
    block: int
    #: Names it for ever.
    reference: str
    holder: str
    amount: Amount


# --- as JSON --------------------------------------------------------------------------------------------

R = TypeVar("R")


def to_body(record: Any) -> dict[str, Any]:
    """Return a flat record as a JSON object; moments are ISO 8601 in UTC."""
    return {one.name: _plain(getattr(record, one.name)) for one in fields(record)}


#: Fields that records written earlier do not have; each has a default that says what those meant.
_LATER = {"hardware"}


def from_body(kind: type[R], body: Any) -> R:
    """Return the record that `to_body` wrote; raise MalformedError for a missing, unknown or wrongly typed field."""
    if not isinstance(body, Mapping):
        raise MalformedError(f"a {kind.__name__} is a JSON object")
    hints = _hints(kind)  # type: ignore[arg-type]  # a class is hashable, whatever mypy thinks of its variable
    if hints.keys() - body.keys() - _LATER or body.keys() - hints.keys():
        raise MalformedError(f"a {kind.__name__} has other fields than these")
    try:
        return kind(**{name: _READERS[hints[name]](value) for name, value in body.items()})
    except (TypeError, ValueError):
        raise MalformedError(f"a field of this {kind.__name__} does not hold what it should") from None


@cache
def _hints(kind: type[Any]) -> Mapping[str, Any]:
    """Return the types of a record's fields; working them out takes a hundred times as long as using them."""
    return get_type_hints(kind)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _number(value: Any) -> float:
    # bool is an int to Python, and JSON readers accept NaN.
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(_text(item) for item in value)


def _numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise TypeError
    return {_text(name): _number(number) for name, number in value.items()}


def _place(length: int) -> Callable[[Any], tuple[float, ...] | None]:
    """Return a reader of so many numbers, or of nothing at all."""

    def read(value: Any) -> tuple[float, ...] | None:
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != length:
            raise TypeError
        return tuple(_number(one) for one in value)

    return read


_READERS: Mapping[Any, Any] = {
    str: _text,
    int: _whole,
    datetime: lambda value: datetime.fromisoformat(_text(value)),
    Urgency: Urgency,
    Tier: Tier,
    Hardware: Hardware,
    tuple[str, ...]: _texts,
    Mapping[str, float]: _numbers,
    tuple[float, float] | None: _place(2),
    tuple[float, float, float] | None: _place(3),
    tuple[float, float, float, float, float, float] | None: _place(6),
}
