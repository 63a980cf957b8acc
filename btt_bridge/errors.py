"""Every error the bridge raises on purpose, each knowing its wire codes and whether trying again can help.

BridgeError
├── RefusedError                      what came in is not acceptable; the same input fails again
│   ├── PeerRefusedError
│   ├── TooLargeError
│   ├── MalformedError
│   ├── UnreadableConsentError
│   ├── ConfigurationError
│   │   └── MappingError
│   └── UnknownError
├── CapacityError (transient)         the bridge is full or busy; the sender should come back
│   └── StorageFullError
├── HeldError                         nothing is wrong, but a person must look before it goes on
│   ├── PixelTextError
│   ├── IdentityLeakError
│   ├── UnmappedIdentityError
│   ├── NoRouteError
│   └── PriceTooHighError
├── IsolationError                    a child process did not do its work on one item
│   ├── FunctionFailedError
│   ├── ProcessDiedError
│   └── ProcessTimedOutError
├── PoolError
│   ├── SealBrokenError
│   ├── SignatureError
│   ├── LeaseLostError
│   ├── OfferExpiredError
│   ├── ResultRefusedError
│   └── PoolUnreachableError (transient)
├── DeliveryError
│   ├── DeliveryRefusedError          permanent: straight to the dead letters, with advice
│   └── DeliveryUnreachableError (transient)
└── LedgerError
    ├── InvalidAmountError
    ├── UnbalancedError
    ├── UnknownAccountError
    ├── UnknownHoldError
    ├── OverdrawnError
    ├── KeyConflictError
    ├── HoldResolvedError
    └── RateUnavailableError (transient)

A docstring is the default message. No message carries a value taken from a patient's data: say which
attribute, never what it held. Doors translate at the edge from `dicom_status` and `http_status`.
"""

from __future__ import annotations

from typing import ClassVar


class BridgeError(Exception):
    """The bridge could not do what was asked."""

    #: Whether the same request may succeed later without anybody changing anything.
    transient: ClassVar[bool] = False
    #: PS3.7 Annex C and PS3.4 Table B.2-1; 0xC000 is "cannot understand".
    dicom_status: ClassVar[int] = 0xC000
    http_status: ClassVar[int] = 500

    def __init__(self, message: str = "", *, advice: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])
        #: What the person who reads this can do about it.
        self.advice = advice


class RefusedError(BridgeError):
    """What came in is not acceptable."""

    http_status = 400


class PeerRefusedError(RefusedError):
    """This peer is not allowed here."""

    dicom_status = 0x0124
    http_status = 403


class TooLargeError(RefusedError):
    """The object is larger than the configured limit."""

    dicom_status = 0xA700
    http_status = 413


class MalformedError(RefusedError):
    """The object cannot be read."""

    dicom_status = 0xC000
    http_status = 422


class UnreadableConsentError(RefusedError):
    """A consent of this patient cannot be read."""

    http_status = 422


class ConfigurationError(RefusedError):
    """A setting does not hold."""


class MappingError(ConfigurationError):
    """A mapping file does not hold."""

    def __init__(self, message: str, *, file: str = "", line: int = 0, keyword: str = "", advice: str = "") -> None:
        self.file, self.line, self.keyword = file, line, keyword
        where = f"{file}:{line}: " if file else ""
        super().__init__(f"{where}{keyword + ': ' if keyword else ''}{message}", advice=advice)


class UnknownError(RefusedError):
    """There is nothing by that name here."""

    http_status = 404


class CapacityError(BridgeError):
    """The bridge is at one of its limits; try again later."""

    transient = True
    dicom_status = 0xA700
    http_status = 503


class StorageFullError(CapacityError):
    """Free disk space is below the configured reserve."""

    http_status = 507


class HeldError(BridgeError):
    """The study waits for a person."""

    http_status = 409


class PixelTextError(HeldError):
    """The pixels may carry burned-in text, and nothing here has cleaned them."""


class IdentityLeakError(HeldError):
    """An identifying value is still present in what was about to leave."""


class UnmappedIdentityError(HeldError):
    """Something that came back does not map to an identity that left."""


class NoRouteError(HeldError):
    """No route, or more than one, wants this study."""


class PriceTooHighError(HeldError):
    """The work costs more than the route allows."""


class IsolationError(BridgeError):
    """A child process did not finish its work."""


class FunctionFailedError(IsolationError):
    """The function that ran in a child process raised an error of its own."""


class ProcessDiedError(IsolationError):
    """The child process died."""


class ProcessTimedOutError(IsolationError):
    """The child process ran past its time limit."""


class PoolError(BridgeError):
    """The GPU pool could not do the work."""

    http_status = 502


class SealBrokenError(PoolError):
    """A sealed parcel was altered, truncated or opened with the wrong key."""


class SignatureError(PoolError):
    """A signature does not verify, or its key is not known or no longer valid."""

    http_status = 401


class LeaseLostError(PoolError):
    """The lease is not held any more; its fencing token is stale."""

    http_status = 409


class OfferExpiredError(PoolError):
    """The offer's deadline has passed or its attempts are spent."""

    http_status = 410


class ResultRefusedError(PoolError):
    """The result does not hold against its schema, its receipt or its image geometry."""


class PoolUnreachableError(PoolError):
    """The exchange cannot be reached."""

    transient = True
    http_status = 503


class DeliveryError(BridgeError):
    """A result could not be delivered."""

    http_status = 502


class DeliveryRefusedError(DeliveryError):
    """The destination refuses this object for good."""


class DeliveryUnreachableError(DeliveryError):
    """The destination cannot be reached, or asks to come back later."""

    transient = True
    http_status = 503

    def __init__(self, message: str = "", *, advice: str = "", after_seconds: float = 0) -> None:
        super().__init__(message, advice=advice)
        #: How long the destination asked us to stay away; 0 where it did not say.
        self.after_seconds = after_seconds


class LedgerError(BridgeError):
    """The ledger refuses the transfer."""

    http_status = 409


class InvalidAmountError(LedgerError):
    """An amount is a positive whole number of minor units of a known asset."""

    http_status = 422


class UnbalancedError(LedgerError):
    """Debits and credits do not balance for each asset."""


class UnknownAccountError(LedgerError):
    """No such account."""

    http_status = 404


class UnknownHoldError(LedgerError):
    """There is no such hold."""

    http_status = 404


class OverdrawnError(LedgerError):
    """The account does not hold enough."""


class KeyConflictError(LedgerError):
    """The same idempotency key was used before with another body."""


class HoldResolvedError(LedgerError):
    """The hold was posted, voided or expired before."""


class RateUnavailableError(LedgerError):
    """No exchange rate may be used now: too few sources, too old, or too far apart."""

    transient = True
    http_status = 503
