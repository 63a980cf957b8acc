"""Documents to a PACS, and what its answers mean: done, try again, or never."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from types import TracebackType

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from btt_bridge import dicom
from btt_bridge.config import Send
from btt_bridge.errors import DeliveryError, DeliveryRefusedError, DeliveryUnreachableError
from btt_bridge.journal import Delivery
from btt_bridge.records import Destination
from btt_bridge.send.association import Association, Context, RejectedError

#: What a report consists of, so that one association serves all of it.
_RESULTS = (Comprehensive3DSRStorage, SegmentationStorage, SecondaryCaptureImageStorage)
_SUCCESS = 0x0000
#: Duplicate SOP Instance: our UIDs are made from what the object is, so what it has is what we sent before.
_DUPLICATE = 0x0111
_WARNINGS = {0x0001, 0x0107, 0x0116}  # besides 0xBxxx
#: Processing failure, resource limitation: what a busy or restarting archive answers.
_BUSY = {0x0110, 0x0213}


@dataclass(frozen=True, slots=True)
class _Object:
    """A Part 10 file taken apart."""

    context: Context
    sop_instance_uid: str
    data_set: bytes


class Sender:
    """Delivers several documents to one destination, over one association as long as it lasts.

    A context manager: the association is opened by the first delivery and released at the end. One that breaks is
    opened anew for the next document, lest one that kills the archive's process keep back all that follow; one that
    cannot be opened is not tried again. None is kept between two reports: opening one takes a few milliseconds, and
    archives have few to give.
    """

    def __init__(self, destination: Destination, settings: Send) -> None:
        self._destination = destination
        self._settings = settings
        self._association: Association | None = None
        #: Why no association could be opened: what holds for one document holds for the next.
        self._closed: DeliveryError | None = None
        self._proposed = [
            (str(uid), str(syntax)) for uid in _RESULTS for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
        ]

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def deliver(self, delivery: Delivery, content: bytes) -> str:
        """C-STORE one document; return "" or what the destination remarked while it took it.

        Raises DeliveryRefusedError where only a person can help, DeliveryUnreachableError where time may.
        """
        document = _taken_apart(content)
        if document.sop_instance_uid != delivery.sop_instance_uid:
            raise DeliveryRefusedError(
                "the stored document is not the one that was queued",
                advice="The store of documents was changed from outside; restore it, or let the study run again.",
            )
        association = self._open(document.context)
        document = self._acceptable(association, document, content)
        try:
            status = association.store(document.context, document.sop_instance_uid, document.data_set)
        except DeliveryUnreachableError as problem:
            association.abort()
            self._association = None
            raise DeliveryUnreachableError(f"{self._destination.name}: {problem}") from None
        return _judged(status, self._destination)

    def _open(self, context: Context) -> Association:
        """Return an association that proposed this context, and the default syntax beside it (PS3.5 10.1)."""
        if context not in self._proposed:
            self._close()
            self._proposed += [context, (context[0], str(ImplicitVRLittleEndian))]
        if self._closed:
            raise self._closed
        if self._association is None:
            settings = self._settings
            try:
                self._association = Association(
                    self._destination, settings.ae_title, self._proposed, settings.timeout_seconds
                )
            except DeliveryUnreachableError as problem:
                self._closed = DeliveryUnreachableError(f"{self._destination.name}: {problem}")
                raise self._closed from None
            except RejectedError as rejection:
                self._closed = _rejected(rejection, self._destination, settings.ae_title)
                raise self._closed from None
        return self._association

    def _acceptable(self, association: Association, document: _Object, content: bytes) -> _Object:
        """Return the document in a transfer syntax that the destination takes."""
        if association.accepts(document.context):
            return document
        implicit = (document.context[0], str(ImplicitVRLittleEndian))
        if document.context[1] == ExplicitVRLittleEndian and association.accepts(implicit):
            return _Object(implicit, document.sop_instance_uid, _implicit(content))
        raise DeliveryRefusedError(
            f"{self._destination.name} does not take this kind of object",
            advice=f"Let {self._destination.ae_title} accept SOP class {document.context[0]} from "
            f"{self._settings.ae_title} in transfer syntax {document.context[1]}, then resend.",
        )

    def _close(self) -> None:
        if self._association is not None:
            self._association.release()
            self._association = None


def deliver(delivery: Delivery, content: bytes, destination: Destination, settings: Send) -> str:
    """Deliver one document by itself; see Sender.deliver."""
    with Sender(destination, settings) as sender:
        return sender.deliver(delivery, content)


def _taken_apart(content: bytes) -> _Object:
    """Find the data set behind the file meta, and what the meta says of it."""
    meta, start = dicom.read_meta(content)
    return _Object(
        (dicom.text(meta[dicom.MEDIA_STORAGE_SOP_CLASS_UID]), dicom.text(meta[dicom.TRANSFER_SYNTAX_UID])),
        dicom.text(meta[dicom.MEDIA_STORAGE_SOP_INSTANCE_UID]),
        content[start:],
    )


def _implicit(content: bytes) -> bytes:
    """Encode a data set of ours anew in Implicit VR Little Endian."""
    stream = BytesIO()
    dcmwrite(stream, Dataset(dcmread(BytesIO(content))), implicit_vr=True, little_endian=True)
    return stream.getvalue()


def _judged(status: int, destination: Destination) -> str:
    """Return what was remarked on success; raise for failure (PS3.4 Table B.2-1, PS3.7 Annex C)."""
    if status == _SUCCESS:
        return ""
    if status >> 12 == 0xB or status in _WARNINGS:
        return f"{destination.name} took it with warning 0x{status:04X}"
    if status == _DUPLICATE:
        return f"{destination.name} already had it"
    if status >> 8 == 0xA7 or status in _BUSY:
        raise DeliveryUnreachableError(f"{destination.name} asks to come back later: status 0x{status:04X}")
    raise DeliveryRefusedError(
        f"{destination.name} refused it: status 0x{status:04X}", advice=_advice(status, destination)
    )


def _advice(status: int, destination: Destination) -> str:
    if status == 0x0122:
        return f"Enable this SOP class at {destination.ae_title}, then resend."
    if status == 0x0124:
        return f"Allow the bridge to store at {destination.ae_title}, then resend."
    if status >> 8 == 0xA9:
        return f"{destination.ae_title} says that data set and SOP class do not match; show its log to its vendor."
    if status >> 12 == 0xC:
        return f"{destination.ae_title} cannot understand the object; its log says why. Resend once that is solved."
    return f"Look up this status in the conformance statement of {destination.ae_title}, then resend."


def _rejected(rejection: RejectedError, destination: Destination, calling: str) -> DeliveryError:
    """Translate A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""
    who = f"{destination.name} rejects the association"
    if rejection.source == 1 and rejection.reason == 3:
        return DeliveryRefusedError(
            f"{who}: calling AE title not recognized",
            advice=f"Add AE title {calling} with the bridge's address at {destination.ae_title}, then resend.",
        )
    if rejection.source == 1 and rejection.reason == 7:
        return DeliveryRefusedError(
            f"{who}: called AE title not recognized",
            advice=f"It is not called {destination.ae_title}: correct `destinations` in the settings, then resend.",
        )
    if rejection.result == 2 or rejection.source == 3:
        return DeliveryUnreachableError(f"{who} for now: {rejection}")
    return DeliveryRefusedError(
        f"{who} for good: {rejection}",
        advice=f"The log of {destination.ae_title} says why it refuses {calling}; resend once that is solved.",
    )
