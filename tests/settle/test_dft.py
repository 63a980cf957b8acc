"""DFT^P03 as an independent reader has it: charged once, reversed once, whatever stands in the names."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge import hl7
from btt_bridge.errors import InvalidAmountError, RefusedError
from btt_bridge.money import BTT, Amount
from btt_bridge.settle import Billing, dft
from btt_bridge.settle.bills import Month, activity
from tests.settle import books

ROUTE = dft.Route("BTT_BRIDGE", "RADIOLOGY", "BILLING", "HOSPITAL")
SUBJECT = dft.Subject("MRN|1", "St^Mary", "O'Brien & Söhne", "Zoë\\~", "ACC1", "O", "V1", "F1")
PROCEDURE = dft.Procedure("71250", "CT chest", "C4", ("26", "TC"))


def parsed(content: bytes) -> Any:
    """Read a message strictly by the tables of 2.5.1, groups and data types included."""
    message = parse_message(content.decode(), validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)
    assert message.validate()
    return message


def test_a_charge_is_a_valid_message_with_its_amount(one_book: Billing) -> None:
    """Strictly valid; transaction, type, code, price and order are where a billing system looks for them."""
    message = parsed(dft.charge(books.bill(one_book, 1), SUBJECT, ROUTE, PROCEDURE))
    ft1 = message.dft_p03_financial.ft1
    assert message.msh.msh_9.to_er7() == "DFT^P03^DFT_P03"
    assert (ft1.ft1_2.to_er7(), ft1.ft1_6.to_er7()) == (f"{books.bill(one_book, 1).posting:012d}", "CG")
    assert (ft1.ft1_11.to_er7(), ft1.ft1_12.to_er7(), ft1.ft1_10.to_er7()) == ("5.36&CNY", "5.36&CNY", "1")
    assert (ft1.ft1_7.ft1_7_1.to_er7(), ft1.ft1_23.to_er7()) == ("ct-lung", "F1")
    assert ft1.ft1_25.to_er7() == "71250^CT chest^C4"
    assert [repeat.to_er7() for repeat in ft1.ft1_26] == ["26", "TC"]
    assert message.pid.pid_18.to_er7() == "ACC1"


def test_names_arrive_as_they_are(one_book: Billing) -> None:
    """Separators within names are escaped and stay within their component; other letters are UTF-8."""
    content = dft.charge(books.bill(one_book, 1), SUBJECT, ROUTE)
    pid = next(line for line in content.decode().split("\r") if line.startswith("PID"))
    assert pid.split("|")[3] == "MRN\\F\\1^^^St\\S\\Mary^MR"
    assert pid.split("|")[5] == "O'Brien \\T\\ Söhne^Zoë\\E\\\\R\\"
    assert parsed(content).pid.pid_5.pid_5_1.to_er7() == "O'Brien \\T\\ Söhne"


def test_the_same_charge_is_the_same_message_and_its_reversal_another(one_book: Billing) -> None:
    """A repeat is byte for byte the same, so that FT1-2 tells it; the credit is of the same amount, positive."""
    (refund,) = activity(one_book, Month.parse("2026-02")).refunds
    charged = dft.charge(refund.bill, SUBJECT, ROUTE)
    assert charged == dft.charge(books.bill(one_book, 2), SUBJECT, ROUTE)
    credit = parsed(dft.reversal(refund, SUBJECT, ROUTE)).dft_p03_financial.ft1
    assert (credit.ft1_6.to_er7(), credit.ft1_11.to_er7()) == ("CR", "9.66&CNY")
    assert credit.ft1_2.to_er7() != parsed(charged).dft_p03_financial.ft1.ft1_2.to_er7()


def test_what_was_not_charged_or_is_no_currency_is_not_sent(one_book: Billing) -> None:
    """A hold and a token have no place in a hospital's billing system."""
    for number in (4, 7):
        with pytest.raises(RefusedError):
            dft.charge(books.bill(one_book, number), SUBJECT, ROUTE)
    with pytest.raises(InvalidAmountError):
        dft.charge(replace(books.bill(one_book, 1), amount=Amount(1, BTT)), SUBJECT, ROUTE)


@given(st.text(max_size=40))
def test_no_text_breaks_out_of_its_field(text: str) -> None:
    """Whatever it holds, one value is one component of one field of one segment, and reads back the same."""
    line = hl7.segment("ZZZ", {1: (text, "b"), 2: "c"})
    assert not set("\r\n") & set(line)
    name, first, second = line.split("|")
    value, rest = first.split("^")
    assert (name, rest, second) == ("ZZZ", "b", "c")
    assert not set("~&") & set(value)
    assert unescaped(value) == text


def test_fields_repeat_and_nest() -> None:
    """Repetitions, components and subcomponents each have their separator; fields left out are empty."""
    assert hl7.segment("FT1", {2: [("a", ("b", "c")), "d"], 4: "e"}) == "FT1||a^b&c~d||e"
    assert hl7.moment(datetime(2026, 1, 5, 8, tzinfo=UTC)) == "20260105080000+0000"


def unescaped(value: str) -> str:
    """Undo escapes by the table of chapter 2.7.1, written down a second time."""
    table = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}
    parts = value.split("\\")
    plain = [table.get(part) or chr(int(part[1:], 16)) if n % 2 else part for n, part in enumerate(parts)]
    return "".join(plain)
