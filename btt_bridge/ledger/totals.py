"""Sums of money in SQL, exact to the last digit on either engine."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Dialect, Numeric, String, TypeDecorator
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from btt_bridge.ledger.digits import DIGITS

#: Digits that SQLite adds up at once: integers of 64 bit hold the sum of 900 million such numbers.
_LIMB: Final = 10


class _Sum(TypeDecorator[int]):
    """A sum as each engine returns it: a number, or on SQLite the sums of its limbs, lowest first."""

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(String() if dialect.name == "sqlite" else Numeric(asdecimal=True))

    def process_result_value(self, value: Any, dialect: Dialect) -> int:
        if isinstance(value, str):
            return sum(int(limb) * int(10 ** (_LIMB * place)) for place, limb in enumerate(value.split()))
        return int(value)


class total(FunctionElement[int]):  # noqa: N801  # it reads as SQL's own functions do
    """The sum of a column of units; 0 over no row."""

    type = _Sum()
    inherit_cache = True


@compiles(total, "postgresql")
def _of_numbers(element: total, compiler: SQLCompiler, **options: Any) -> str:
    return f"coalesce(sum({compiler.process(element.clauses, **options)}), 0)"


@compiles(total, "sqlite")
def _of_texts(element: total, compiler: SQLCompiler, **options: Any) -> str:
    column = compiler.process(element.clauses, **options)
    ends = range(DIGITS, 0, -_LIMB)
    limbs = [f"substr({column}, {max(end - _LIMB, 0) + 1}, {min(end, _LIMB)})" for end in ends]
    sums = ", ".join(f"coalesce(sum(CAST({limb} AS INTEGER)), 0)" for limb in limbs)
    return f"printf('{' '.join(['%d'] * len(limbs))}', {sums})"
