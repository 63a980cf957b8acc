"""Payment instructions out of FHIR R4: Claim, Invoice and PaymentNotice, read leniently and checked strictly."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from btt_bridge.errors import InvalidAmountError, MalformedError, RefusedError, UnknownError
from btt_bridge.money import Amount, exactly
from btt_bridge.settle.payfi.participants import Directory
from btt_bridge.settle.payfi.policy import Policy
from btt_bridge.signing import canonical

#: A keyed digest (HMAC) of what must not be kept, as 32 to 64 hexadecimal digits; the key stays with the caller.
Opaque = Callable[[str], str]

_OPAQUE = re.compile(r"[0-9a-f]{32,64}")
_PARTY = re.compile(r"party:[a-z0-9-]{1,40}|person:[0-9a-f]{32,64}")
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?")
_LITERAL = re.compile(r"(?P<base>.*/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9.-]{1,64})(/_history/[^/]+)?")
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
#: They pay too, and no trace of who they are is kept.
_PEOPLE = {"Patient", "RelatedPerson", "Person"}


@dataclass(frozen=True, slots=True)
class PaymentInstruction:
    """Who owes whom how much, for a document that is named by a keyed digest alone."""

    key: str
    payer: str
    payee: str
    amount: Amount
    #: SHA-256 (hex) of all the above, so that the same document cannot ask for something else.
    digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not _OPAQUE.fullmatch(self.key):
            raise RefusedError("a document is named by 32 to 64 hexadecimal digits of a keyed digest")
        if not (_PARTY.fullmatch(self.payer) and _PARTY.fullmatch(self.payee)):
            raise RefusedError("payer and payee are participants, or persons by a keyed digest")
        if self.payer == self.payee:
            raise RefusedError("nobody pays themselves")
        if not isinstance(self.amount, Amount) or self.amount.units < 1:
            raise InvalidAmountError
        body = [self.key, self.payer, self.payee, str(self.amount.asset), str(self.amount.units)]
        object.__setattr__(self, "digest", hashlib.sha256(canonical(body)).hexdigest())


@dataclass(frozen=True)
class Reader:
    """Reads the resources of one EHR."""

    directory: Directory
    policy: Policy
    opaque: Opaque
    #: Base URL of the EHR's FHIR endpoint, or any other name that its resource ids are unique under.
    source: str

    def read(self, resource: Mapping[str, Any]) -> PaymentInstruction:
        """Return the payment that a resource asks for; raise the error that says why it asks for none."""
        kind = resource.get("resourceType")
        if kind == "Claim":
            return self._claim(resource)
        if kind == "Invoice":
            return self._invoice(resource)
        if kind == "PaymentNotice":
            return self._notice(resource)
        raise RefusedError("a payment is asked for by a Claim, an Invoice or a PaymentNotice")

    def request(self, resource: Mapping[str, Any]) -> str:
        """Return the reference to the Claim or Invoice that is to be paid, as it can be followed from anywhere."""
        kind, name = resource.get("resourceType", ""), resource.get("id", "")
        if kind == "PaymentNotice":
            kind, name = self._literal(_reference(resource, "request"))
        base = f"{self.source.rstrip('/')}/" if self.source.startswith(("http://", "https://")) else ""
        return f"{base}{kind}/{name}"

    def party(self, reference: str) -> str:
        """Return how accounts name whom a reference, as Organization/12 or Patient/7, means."""
        return self._party({"reference": {"reference": reference}}, "reference")

    def _claim(self, claim: Mapping[str, Any]) -> PaymentInstruction:
        """Claim: its insurer pays its provider, or whom it names as payee, the total."""
        _must(claim, "status", "active")
        _must(claim, "use", "claim")
        total = self._money(claim, "total")
        nets = [item.get("net") for item in _list(claim, "item")]
        if nets and all(isinstance(net, Mapping) for net in nets):
            self._adds_up(total, [self._money(item, "net", zero=True) for item in claim["item"]])
        payee = claim.get("payee")
        paid = payee if isinstance(payee, Mapping) and payee.get("party") else None
        to = self._party(paid, "party") if paid else self._party(claim, "provider")
        return PaymentInstruction(self._own_key(claim), self._party(claim, "insurer"), to, total)

    def _invoice(self, invoice: Mapping[str, Any]) -> PaymentInstruction:
        """Invoice: its recipient pays its issuer the gross total."""
        _must(invoice, "status", "issued")
        total = self._money(invoice, "totalGross")
        if "totalNet" in invoice and self._money(invoice, "totalNet", zero=True).asset != total.asset:
            raise InvalidAmountError("net and gross total are in two currencies")
        payer, payee = self._party(invoice, "recipient"), self._party(invoice, "issuer")
        return PaymentInstruction(self._own_key(invoice), payer, payee, total)

    def _notice(self, notice: Mapping[str, Any]) -> PaymentInstruction:
        """PaymentNotice: its recipient is told to pay its payee (or provider) for the claim or invoice it refers to.

        It has the key of that document, so that a claim and the notice of it are one payment.
        """
        _must(notice, "status", "active")
        if notice.get("paymentStatus"):
            raise RefusedError("this notice tells of a payment that was made elsewhere")
        amount = self._money(notice, "amount")
        payee = self._party(notice, "payee" if notice.get("payee") else "provider")
        kind, name = self._literal(_reference(notice, "request"))
        if kind not in ("Claim", "Invoice"):
            raise RefusedError("the request of a notice is a Claim or an Invoice")
        return PaymentInstruction(self._key(kind, name), self._party(notice, "recipient"), payee, amount)

    # --- parts ---

    def _own_key(self, resource: Mapping[str, Any]) -> str:
        name = resource.get("id")
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise MalformedError("id: a document that is to be paid once has one")
        return self._key(resource["resourceType"], name)

    def _key(self, kind: str, name: str) -> str:
        return self.opaque(f"document {self.source} {kind}/{name}")

    def _literal(self, reference: str) -> tuple[str, str]:
        """Return type and id of a literal reference into this EHR."""
        found = _LITERAL.fullmatch(reference)
        if not found or found["base"] not in (None, f"{self.source.rstrip('/')}/"):
            raise RefusedError("a reference is of the form Type/id, into the same system")
        return found["type"], found["id"]

    def _party(self, resource: Mapping[str, Any], name: str) -> str:
        """Return a party's name here: a participant's own, or a person's keyed digest."""
        reference = _reference(resource, name)
        found = self.directory.find(reference)
        if found is None and "|" not in reference:
            kind, identity = self._literal(reference)
            if kind in _PEOPLE:
                return f"person:{self.opaque(f'person {self.source} {kind}/{identity}')}"
            found = self.directory.find(f"{kind}/{identity}")
        if found is None:
            raise UnknownError(f"{name}: nobody by this reference settles here")
        return found.party

    def _money(self, resource: Mapping[str, Any], name: str, *, zero: bool = False) -> Amount:
        """Return a Money element in minor units, exactly as it was written."""
        money = resource.get(name)
        if not isinstance(money, Mapping) or not isinstance(money.get("currency"), str):
            raise MalformedError(f"{name}: an amount has a value and a currency")
        asset = self.policy.asset(money["currency"])
        value = _decimal(money.get("value"), name)
        if value < 0 or not (value or zero):
            raise InvalidAmountError(f"{name}: an amount to be paid is above zero")
        return exactly(value, asset)

    def _adds_up(self, total: Amount, parts: list[Amount]) -> None:
        if {part.asset for part in parts} != {total.asset}:
            raise InvalidAmountError("total: the items are in another currency")
        if sum(part.units for part in parts) != total.units:
            raise InvalidAmountError("total: the items do not add up to it")


def _decimal(value: Any, name: str) -> Decimal:
    """Return a number that was written in digits; text is taken as some systems write it, a float never."""
    if isinstance(value, float):
        raise InvalidAmountError(f"{name}: a float is not what was written; parse it as a decimal")
    if type(value) is int and abs(value) < 10**40:
        return Decimal(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return Decimal(value)
    if isinstance(value, Decimal) and value.is_finite():
        return value
    raise InvalidAmountError(f"{name}: the value is not a number")


def _must(resource: Mapping[str, Any], name: str, value: str) -> None:
    if resource.get(name) != value:
        raise RefusedError(f"{name}: only what is {value!r} is paid")


def _list(resource: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = resource.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise MalformedError(f"{name}: this is a list of objects")
    return found


def _reference(resource: Mapping[str, Any], name: str) -> str:
    """Return what a Reference element says: its literal reference, or else system|value of its identifier."""
    element = resource.get(name)
    if isinstance(element, str):
        return element
    if isinstance(element, Mapping):
        if isinstance(element.get("reference"), str):
            return str(element["reference"])
        identifier = element.get("identifier")
        if isinstance(identifier, Mapping) and isinstance(identifier.get("value"), str):
            return f"{identifier.get('system', '')}|{identifier['value']}"
    raise MalformedError(f"{name}: there is no reference")
