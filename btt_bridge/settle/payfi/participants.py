"""Who settles here: organizations with bank accounts and terms, found by how FHIR refers to them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from btt_bridge.errors import MappingError, UnknownError
from btt_bridge.mappings import Source, read, violations
from btt_bridge.records import BankAccount

_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}")


@dataclass(frozen=True, slots=True)
class Participant:
    """One organization, its accounts at a bank by currency, and its terms."""

    name: str
    #: How FHIR refers to it; the first is how we do.
    references: tuple[str, ...]
    tier: str
    analytics: bool
    listing: bool
    #: The first is where it is paid what comes in another currency.
    accounts: Mapping[str, BankAccount]
    #: How much it may owe here, by currency.
    credit_units: Mapping[str, int]

    @property
    def party(self) -> str:
        """How accounts and events name it."""
        return f"party:{self.name}"

    def paid_in(self, code: str) -> str:
        """Return the currency in which it is paid what is owed in `code`."""
        return code if code in self.accounts else next(iter(self.accounts))


@dataclass(frozen=True, slots=True)
class Directory:
    """All participants, and the operator's own bank accounts."""

    operator: Mapping[str, BankAccount]
    participants: Mapping[str, Participant]
    #: Reference or system|value to name.
    references: Mapping[str, str]

    def find(self, reference: str) -> Participant | None:
        """Return whom a reference (Organization/12) or an identifier (system|value) means."""
        name = self.references.get(reference)
        return self.participants[name] if name else None

    def participant(self, party: str) -> Participant:
        """Return the participant that accounts and events call `party`; raise UnknownError where none is."""
        kind, _, name = party.partition(":")
        if kind != "party" or name not in self.participants:
            raise UnknownError("nobody by that name settles here")
        return self.participants[name]


def load(folder: Path) -> Directory:
    """Return the directory from the one file of a folder; raise the first MappingError."""
    directory, errors = _read(folder)
    if directory is None:
        raise errors[0]
    return directory


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the participants of a folder."""
    return _read(folder)[1]


def _read(folder: Path) -> tuple[Directory | None, list[MappingError]]:
    paths = sorted(folder.glob("*.yaml"))
    if len(paths) != 1:
        return None, [MappingError("participants stand in one file, in this folder", file=str(folder), line=1)]
    rules = json.loads(files(__package__).joinpath("participants.schema.json").read_text())
    try:
        source = read(paths[0])
        if wrong := violations(source, rules):
            return None, wrong
        return _directory(source), []
    except MappingError as error:
        return None, [error]


def _directory(source: Source) -> Directory:
    operator = _accounts(source, source.body["operator"], ("operator",))
    participants: dict[str, Participant] = {}
    references: dict[str, str] = {}
    for position, body in enumerate(source.body["participants"]):
        place = ("participants", position)
        if body["name"] in participants:
            raise source.error("this participant stands twice", (*place, "name"))
        for reference in body["references"]:
            if references.setdefault(reference, body["name"]) != body["name"]:
                raise source.error("this reference means two participants", (*place, "references"))
        accounts = _accounts(source, body, place)
        if not accounts.keys() <= operator.keys():
            raise source.error("the operator has no account in a currency of this participant", (*place, "accounts"))
        participants[body["name"]] = Participant(
            name=body["name"],
            references=tuple(body["references"]),
            tier=body["tier"],
            analytics=body.get("analytics", False),
            listing=body.get("listing", False),
            accounts=accounts,
            credit_units={account["asset"]: account.get("credit_units", 0) for account in body["accounts"]},
        )
    return Directory(operator, participants, references)


def _accounts(source: Source, body: Any, place: tuple[str | int, ...]) -> dict[str, BankAccount]:
    found: dict[str, BankAccount] = {}
    for position, account in enumerate(body["accounts"]):
        here, number = (*place, "accounts", position), account["number"]
        if account["asset"] in found:
            raise source.error("there is one account for each currency", here)
        if _IBAN.fullmatch(number) and not _is_iban(number):
            raise source.error("the check digits of this IBAN are wrong", (*here, "number"))
        found[account["asset"]] = BankAccount(body["holder"], number, account.get("bic", ""))
    return found


def _is_iban(number: str) -> bool:
    """Say whether the check digits hold (ISO 13616, by the remainder of ISO 7064 MOD 97-10)."""
    turned = number[4:] + number[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1
