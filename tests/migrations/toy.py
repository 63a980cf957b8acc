"""The tables of a history "toy", as the first and the second version of a bridge want them."""

from __future__ import annotations

from sqlalchemy import DDL, CheckConstraint, Column, ForeignKey, Index, Integer, MetaData, String, Table, event


def toy_tables(version: int) -> MetaData:
    """Return the tables as the first or the second version of that bridge wants them."""
    metadata = MetaData(info={"history": "toy"})
    Table(
        "box",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("label", String(8 if version == 1 else 32), nullable=False),
        Column("size", Integer, nullable=False),
        CheckConstraint("size > 0", name="box_is_real"),
        Index("box_by_label", "label", unique=True),
    )
    item = Table(
        "item",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("box", ForeignKey("box.id"), nullable=False),
        *([Column("weight", Integer, nullable=False)] if version == 2 else []),
        Column("note", String(32), nullable=False),
    )
    if version == 2:
        Table("lid", metadata, Column("id", Integer, primary_key=True))
    for dialect, statements in {
        "sqlite": [
            f"CREATE TRIGGER {table}_stays BEFORE UPDATE ON {table}"
            f" BEGIN SELECT RAISE(ABORT, '{table} rows stay, says {version}'); END"
            for table in ("box", "item")
        ],
        "postgresql": [
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION"
            f" '%% rows stay, says {version}', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation'; END $$",
            *(
                f"CREATE TRIGGER {table}_stays BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
                for table in ("box", "item")
            ),
        ],
    }.items():
        for statement in statements:
            event.listen(item, "after_create", DDL(statement).execute_if(dialect=dialect))  # type: ignore[no-untyped-call]
    return metadata
