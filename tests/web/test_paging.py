"""The ledger's page with many rows: each list is turned by plain links, and no row is lost or shown twice."""

from __future__ import annotations

import re
from html import unescape
from itertools import chain
from urllib.parse import parse_qs, urlsplit

import pytest

from btt_bridge.ledger import Event, Instruction, Ledger, Move
from btt_bridge.money import CNY, Amount
from btt_bridge.web import pages
from tests.web.conftest import House
from tests.web.test_pages import text

#: Of CNY and of BTT.
ACCOUNTS = 25
LINES = 23


@pytest.fixture
def busy(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """Pages of ten rows, with more than two pages of accounts, of lines of one account, and of events."""
    monkeypatch.setattr(pages, "_LIMIT", 10)
    fill(house.ledger)
    return house


def fill(ledger: Ledger) -> None:
    """Pay 1, 2, 3 … fen from the bank to each in turn, with an event for each."""
    names = ["bank:cny", *(f"clinic:{number:03}:cny" for number in range(1, ACCOUNTS))]
    for name in names:
        ledger.open_account(name, CNY, credit_limit=None)
    ledger.post_many([
        Instruction(
            "test", str(number), (Move("bank:cny", names[number], Amount(number, CNY), "payment"),),
            Event("test.paid", "bank:cny", {"number": number}),
        )
        for number in range(1, LINES + 1)
    ])  # fmt: skip


def shown(page: str, section: str) -> list[str]:
    """Return the first cell of each row of a section."""
    table = page.partition(f'<section aria-labelledby="{section}">')[2].partition("</section>")[0]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table.partition("<tbody>")[2], re.DOTALL)
    return [text(re.split(r"</t[hd]>", row)[0]).strip() for row in rows]


def link(page: str, section: str, rel: str) -> str:
    """Return the address behind Previous or Next of a section, "" where there is none."""
    found = re.search(rf'<a rel="{rel}" href="([^"]*)#{section}"', page)
    return unescape(found[1]) if found else ""


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("accounts", ["bank:cny", *(f"clinic:{number:03}:cny" for number in range(1, ACCOUNTS))]),
        ("statement", [str(number) for number in range(LINES, 0, -1)]),
        ("events", [str(number) for number in range(LINES, 0, -1)]),
    ],
)
def test_a_list_is_read_forth_and_back(busy: House, section: str, expected: list[str]) -> None:
    """By Next to the end and by Previous to the beginning, every row is seen once, whatever was added meanwhile."""
    there: list[list[str]] = []
    address = "/ledger?account=bank:cny"
    while address:
        page = busy.client.get(address).text
        there.append(shown(page, section))
        last, address = address, link(page, section, "next")
    assert [len(rows) for rows in there] == [10, 10, len(expected) - 20]
    assert list(chain.from_iterable(there)) == expected
    busy.ledger.post_all("test", "new", [Move("bank:cny", "clinic:001:cny", Amount(1, CNY), "payment")])
    back = [there[-1]]
    while last := link(busy.client.get(last).text, section, "prev"):
        back.insert(0, shown(busy.client.get(last).text, section))
    newer = [str(LINES + 1)] if section == "statement" else []
    assert list(chain.from_iterable(back)) == newer + expected


def test_a_page_of_a_statement_has_the_balances_of_its_time(busy: House) -> None:
    """Older lines say what the balance was after each of them, and not what it is now."""
    first = busy.client.get("/ledger?account=bank:cny").text
    older = text(busy.client.get(link(first, "statement", "next")).text)
    assert "-0.13 CNY -0.91 CNY" in older, "13 fen, and the sum of 1 to 13"
    assert "-0.14 CNY" not in older.partition("Statement of")[2].partition("Latest transfers")[0]


def test_each_list_is_turned_by_itself(busy: House) -> None:
    """A link of one list keeps the pages of the others, and an account is opened from the page that it is on."""
    page = busy.client.get("/ledger?account=bank:cny").text
    for section in ("accounts", "statement", "events"):
        page = busy.client.get(link(page, section, "next")).text
    assert [shown(page, section)[0] for section in ("accounts", "statement", "events")] == [
        "clinic:010:cny", "13", "13",
    ]  # fmt: skip
    (opened,) = re.findall(r'href="([^"]*)">clinic:010:cny</a></th>', page)
    assert parse_qs(urlsplit(unescape(opened)).query) == {
        "account": ["clinic:010:cny"], "accounts": ["after:clinic:009:cny"],
    }  # fmt: skip


@pytest.mark.parametrize(
    "made_up", ["after:x", "before:", "after:99999999999999999999", "sideways:3", "before:zzz", '"']
)
def test_a_cursor_that_somebody_made_up_is_harmless(busy: House, made_up: str) -> None:
    """Whatever an address says, a page is shown."""
    for name in ("accounts", "lines", "events"):
        answer = busy.client.get("/ledger", params={"account": "bank:cny", name: made_up, "else": "<b>"})
        assert answer.status_code == 200
        assert "%3Cb%3E" not in answer.text


def test_an_account_without_lines_has_one_page(busy: House) -> None:
    """Nothing to turn, and no link that leads nowhere."""
    page = busy.client.get("/ledger?account=clinic:024:cny").text
    assert shown(page, "statement") == ["Nothing yet."]
    assert link(page, "statement", "next") == link(page, "statement", "prev") == ""
