"""ISO 20022 as banks speak it: pain.001.001.09 written (payments asked for), camt.054 read (what became of them)."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby

from btt_bridge.errors import MalformedError
from btt_bridge.records import BankAccount, Confirmation, Outcome, PaymentOrder

PAIN_001 = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"

# Max35Text in the characters that every bank takes.
_IDENTIFIER = re.compile(r"[A-Za-z0-9-]{1,35}")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")
_CODE = re.compile(r"[A-Z0-9]{1,4}")
_DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{1,17})?")
_CAMT_054 = re.compile(r"\{urn:iso:std:iso:20022:tech:xsd:camt\.054\.001\.[0-9]{2}\}Document")
_BYTES_MAX = 2**26


def pain_001(message: str, orders: Sequence[PaymentOrder], initiator: str, at: datetime) -> bytes:
    """Return a customer credit transfer initiation: one payment block for each account that pays.

    The same orders give the same bytes. Raises MalformedError for identifiers or names that no bank would take.
    """
    if not orders or len({order.id for order in orders}) != len(orders):
        raise MalformedError("a message has at least one order, and each has an id of its own")
    for identifier in (message, *(order.id for order in orders)):
        if not _IDENTIFIER.fullmatch(identifier):
            raise MalformedError("an identifier is made of at most 35 letters, digits and hyphens")
    document = ET.Element("Document", xmlns=PAIN_001)
    body = ET.SubElement(document, "CstmrCdtTrfInitn")
    header = ET.SubElement(body, "GrpHdr")
    _text(header, "MsgId", message)
    _text(header, "CreDtTm", at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    _sums(header, orders)
    _text(ET.SubElement(header, "InitgPty"), "Nm", initiator)

    def paying(order: PaymentOrder) -> tuple[str, str]:
        return order.amount.asset.code, order.debtor.number

    blocks = groupby(sorted(orders, key=lambda order: (*paying(order), order.id)), paying)
    for number, (_, group) in enumerate(blocks, 1):
        _block(body, f"{message}-{number}", list(group), at)
    ET.indent(document)
    written: bytes = ET.tostring(document, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _block(body: ET.Element, identifier: str, orders: Sequence[PaymentOrder], at: datetime) -> None:
    """Write PmtInf; the order of its elements is the schema's."""
    block, debtor = ET.SubElement(body, "PmtInf"), orders[0].debtor
    _text(block, "PmtInfId", identifier)
    _text(block, "PmtMtd", "TRF")
    _text(block, "BtchBookg", "false")  # each payment is confirmed by itself
    _sums(block, orders)
    _text(ET.SubElement(block, "ReqdExctnDt"), "Dt", at.astimezone(UTC).date().isoformat())
    _text(ET.SubElement(block, "Dbtr"), "Nm", debtor.holder)
    _account(block, "DbtrAcct", debtor, orders[0].amount.asset.code)
    _agent(block, "DbtrAgt", debtor)
    for order in orders:
        transfer = ET.SubElement(block, "CdtTrfTxInf")
        names = ET.SubElement(transfer, "PmtId")
        _text(names, "InstrId", order.id)
        _text(names, "EndToEndId", order.id)
        amount = ET.SubElement(transfer, "Amt")
        _text(amount, "InstdAmt", order.amount.decimal).set("Ccy", order.amount.asset.code)
        if order.creditor.bic:
            _agent(transfer, "CdtrAgt", order.creditor)
        _text(ET.SubElement(transfer, "Cdtr"), "Nm", order.creditor.holder)
        _account(transfer, "CdtrAcct", order.creditor)


def _sums(parent: ET.Element, orders: Sequence[PaymentOrder]) -> None:
    """Write number and control sum: of the numbers alone, whatever their currencies, as the standard has it."""
    scale = max(order.amount.asset.scale for order in orders)
    units = sum(order.amount.units * 10 ** (scale - order.amount.asset.scale) for order in orders)
    digits = f"{units:0{scale + 1}d}"
    _text(parent, "NbOfTxs", str(len(orders)))
    _text(parent, "CtrlSum", f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits)


def _account(parent: ET.Element, name: str, account: BankAccount, currency: str = "") -> None:
    element = ET.SubElement(parent, name)
    identifier = ET.SubElement(element, "Id")
    if _IBAN.fullmatch(account.number):
        _text(identifier, "IBAN", account.number)
    else:
        _text(ET.SubElement(identifier, "Othr"), "Id", account.number)
    if currency:
        _text(element, "Ccy", currency)


def _agent(parent: ET.Element, name: str, account: BankAccount) -> None:
    institution = ET.SubElement(ET.SubElement(parent, name), "FinInstnId")
    if account.bic:
        _text(institution, "BICFI", account.bic)
    else:
        _text(ET.SubElement(institution, "Othr"), "Id", "NOTPROVIDED")


def _text(parent: ET.Element, name: str, text: str) -> ET.Element:
    element = ET.SubElement(parent, name)
    element.text = text
    return element


# --- camt.054 -------------------------------------------------------------------------------------------


def camt_054(content: bytes) -> tuple[Confirmation, ...]:
    """Return what a debit credit notification says of our orders, in its order; any version of the message.

    An entry counts once the bank has booked it. A debit confirms an order; a credit that gives a reason of return,
    or is marked as a reversal, brings the money of one back. What names no order of anybody is passed over.
    """
    document = _document(content)
    return tuple(
        confirmation
        for entry in document.iterfind("{*}BkToCstmrDbtCdtNtfctn/{*}Ntfctn/{*}Ntry")
        if _status(entry) == "BOOK"
        for details in entry.iterfind("{*}NtryDtls/{*}TxDtls")
        if (confirmation := _confirmation(entry, details))
    )


class _NoDoctype(ET.TreeBuilder):
    """Builds a tree of a document that declares nothing: entities have no place in a bank's message."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise MalformedError("a document type is not taken")


def _document(content: bytes) -> ET.Element:
    if len(content) > _BYTES_MAX:
        raise MalformedError(f"a notification has at most {_BYTES_MAX} bytes")
    parser = ET.XMLParser(target=_NoDoctype())  # noqa: S314 - without a document type there are no entities
    try:
        document = ET.fromstring(content, parser=parser)  # noqa: S314
    except (ET.ParseError, ValueError, LookupError):
        raise MalformedError("this is not XML") from None
    if not _CAMT_054.fullmatch(document.tag):
        raise MalformedError("this is not a camt.054 notification")
    return document


def _status(entry: ET.Element) -> str:
    """Return an entry's status, which is a code of its own in later versions."""
    return (entry.findtext("{*}Sts/{*}Cd") or entry.findtext("{*}Sts") or "").strip()


def _confirmation(entry: ET.Element, details: ET.Element) -> Confirmation | None:
    order = (details.findtext("{*}Refs/{*}EndToEndId") or "").strip()
    if not _IDENTIFIER.fullmatch(order) or order == "NOTPROVIDED":
        return None
    side = (details.findtext("{*}CdtDbtInd") or entry.findtext("{*}CdtDbtInd") or "").strip()
    reason = (details.findtext("{*}RtrInf/{*}Rsn/{*}Cd") or "").strip()
    reversal = (entry.findtext("{*}RvslInd") or "").strip() in ("true", "1")
    if side not in ("DBIT", "CRDT"):
        raise MalformedError("CdtDbtInd: an entry is a debit or a credit")
    if side == "CRDT" and not (reason or reversal or details.find("{*}RtrInf") is not None):
        return None  # somebody else's payment to us, whatever it calls itself
    value, currency = _amount(entry, details)
    if side == "DBIT":
        return Confirmation(order, Outcome.BOOKED, value, currency)
    return Confirmation(order, Outcome.RETURNED, value, currency, reason if _CODE.fullmatch(reason) else "")


def _amount(entry: ET.Element, details: ET.Element) -> tuple[Decimal, str]:
    """Return the transaction's own amount; the entry's, where it is the entry's only one."""
    found = details.find("{*}Amt")
    if found is None:
        found = details.find("{*}AmtDtls/{*}TxAmt/{*}Amt")
    if found is None and len(entry.findall("{*}NtryDtls/{*}TxDtls")) == 1:
        found = entry.find("{*}Amt")
    text = (found.text or "").strip() if found is not None else ""
    if found is None or not _DECIMAL.fullmatch(text):
        raise MalformedError("Amt: a transaction has an amount")
    return Decimal(text), found.get("Ccy", "")
