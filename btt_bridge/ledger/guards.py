# ruff: noqa: S608 - all that is put into these statements stands in this package.
"""Triggers, so that the database itself keeps the books whoever writes to it, and refuses what would break them.

Both engines promise the same: rows are never changed or deleted; account totals move with each transfer and in no
other way; a hold is resolved once, by transfers that match it. PostgreSQL does the work once a statement, for a
thousand updates of one row in one transaction are slow there; SQLite once a row.
"""

from __future__ import annotations

from sqlalchemy import DDL, Table, event

from btt_bridge.ledger import schema
from btt_bridge.ledger.digits import ZERO, minus, plus

#: The tables, which get their triggers below.
metadata = schema.metadata

#: Table to the condition under which a new row would replace one that stands. SQLite's INSERT OR REPLACE deletes
#: without asking a delete trigger, so that the insert itself must be refused.
APPEND_ONLY = {
    schema.asset_table: "code = NEW.code",
    schema.posting_table: "id = NEW.id OR (issuer = NEW.issuer AND key = NEW.key)",
    # transfer_checks sees to it: a new id is one more than the last, and a hold has one resolution.
    schema.transfer_table: "",
    schema.outbox_table: "posting = NEW.posting OR (account = NEW.account AND sequence = NEW.sequence)",
    schema.batch_table: "id = NEW.id",
}


def _sqlite(table: Table, statement: str) -> None:
    _after_create(table, statement, "sqlite")


def _postgresql(table: Table, statement: str) -> None:
    _after_create(table, statement, "postgresql")


def _after_create(table: Table, statement: str, dialect: str) -> None:
    ddl = DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]
    event.listen(table, "after_create", ddl.execute_if(dialect=dialect))


def _raise(reason: str) -> str:
    """Return PL/pgSQL that refuses a statement; a driver takes the code for a violated constraint."""
    return f"RAISE EXCEPTION '{reason}' USING ERRCODE = 'integrity_constraint_violation';"


# --- append-only ----------------------------------------------------------------------------------------

_REFUSE = """
CREATE OR REPLACE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% rows are never changed or deleted', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$
"""

for _table, _same in APPEND_ONLY.items():
    for _verb in ("UPDATE", "DELETE"):
        _sqlite(
            _table,
            f"CREATE TRIGGER {_table.name}_no_{_verb.lower()} BEFORE {_verb} ON {_table.name}"
            f" BEGIN SELECT RAISE(ABORT, '{_table.name} rows are never changed or deleted'); END",
        )
    if _same:
        _sqlite(
            _table,
            f"CREATE TRIGGER {_table.name}_no_replace BEFORE INSERT ON {_table.name}"
            f" WHEN EXISTS (SELECT 1 FROM {_table.name} WHERE {_same})"
            f" BEGIN SELECT RAISE(ABORT, '{_table.name} rows are never replaced'); END",
        )
    _postgresql(_table, _REFUSE)
    _postgresql(
        _table,
        f"CREATE TRIGGER {_table.name}_no_change BEFORE UPDATE OR DELETE ON {_table.name}"
        " FOR EACH ROW EXECUTE FUNCTION ledger_refuse()",
    )
for _table in (*APPEND_ONLY, schema.account_table):
    _postgresql(_table, _REFUSE)
    _postgresql(
        _table,
        f"CREATE TRIGGER {_table.name}_no_truncate BEFORE TRUNCATE ON {_table.name}"
        " FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse()",
    )

# --- accounts -------------------------------------------------------------------------------------------

_TOTALS = ("debits_posted", "credits_posted", "debits_pending", "credits_pending", "last_transfer")
_UNCHANGED = " AND ".join(f"NEW.{column} = OLD.{column}" for column in _TOTALS)
_IDENTITY_CHANGED = "NEW.id <> OLD.id OR NEW.name <> OLD.name OR NEW.asset <> OLD.asset"
# Every transfer moves the totals of its accounts at once. So, when nothing is being inserted, no account has a
# transfer newer than its last, and nobody can name one to pass this.
_FOLLOWS = (
    "NEW.last_transfer > OLD.last_transfer AND EXISTS"
    " (SELECT 1 FROM transfer WHERE id = NEW.last_transfer AND NEW.id IN (debit, credit))"
)

_sqlite(
    schema.account_table,
    f"""
CREATE TRIGGER account_opens BEFORE INSERT ON account BEGIN SELECT CASE
    WHEN EXISTS (SELECT 1 FROM account WHERE id = NEW.id OR name = NEW.name)
        THEN RAISE(ABORT, 'account rows are never replaced')
    WHEN NEW.last_transfer <> 0 OR NEW.debits_posted <> '{ZERO}' OR NEW.credits_posted <> '{ZERO}'
        OR NEW.debits_pending <> '{ZERO}' OR NEW.credits_pending <> '{ZERO}'
        THEN RAISE(ABORT, 'an account opens at zero')
END; END
""",
)
_sqlite(
    schema.account_table,
    f"""
CREATE TRIGGER account_changes BEFORE UPDATE ON account BEGIN SELECT CASE
    WHEN {_IDENTITY_CHANGED} THEN RAISE(ABORT, 'name and asset of an account are fixed')
    WHEN NOT ({_UNCHANGED}) AND NOT ({_FOLLOWS}) THEN RAISE(ABORT, 'totals of an account follow from its transfers')
END; END
""",
)
_sqlite(
    schema.account_table,
    "CREATE TRIGGER account_no_delete BEFORE DELETE ON account"
    " BEGIN SELECT RAISE(ABORT, 'account rows are never deleted'); END",
)
_postgresql(
    schema.account_table,
    f"""
CREATE OR REPLACE FUNCTION ledger_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        {_raise("account rows are never deleted")}
    ELSIF TG_OP = 'INSERT' THEN
        IF NEW.debits_posted + NEW.credits_posted + NEW.debits_pending + NEW.credits_pending <> 0
            OR NEW.last_transfer <> 0 THEN
            {_raise("an account opens at zero")}
        END IF;
    ELSIF {_IDENTITY_CHANGED} THEN
        {_raise("name and asset of an account are fixed")}
    ELSIF NOT ({_UNCHANGED}) AND NOT ({_FOLLOWS}) THEN
        {_raise("totals of an account follow from its transfers")}
    END IF;
    RETURN NEW;
END $$
""",
)
_postgresql(
    schema.account_table,
    "CREATE TRIGGER account_changes BEFORE INSERT OR UPDATE OR DELETE ON account"
    " FOR EACH ROW EXECUTE FUNCTION ledger_account()",
)

# --- postings -------------------------------------------------------------------------------------------

_sqlite(
    schema.posting_table,
    """
CREATE TRIGGER posting_follows BEFORE INSERT ON posting
WHEN NEW.id <> coalesce((SELECT id + transfers FROM posting ORDER BY id DESC LIMIT 1), 1)
BEGIN SELECT RAISE(ABORT, 'a posting begins where the one before it ends'); END
""",
)
_postgresql(
    schema.posting_table,
    f"""
CREATE OR REPLACE FUNCTION ledger_posting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM fresh WHERE id <> coalesce(
            (SELECT p.id + p.transfers FROM posting p WHERE p.id < fresh.id ORDER BY p.id DESC LIMIT 1), 1)
    ) THEN
        {_raise("a posting begins where the one before it ends")}
    END IF;
    RETURN NULL;
END $$
""",
)
_postgresql(
    schema.posting_table,
    "CREATE TRIGGER posting_follows AFTER INSERT ON posting REFERENCING NEW TABLE AS fresh"
    " FOR EACH STATEMENT EXECUTE FUNCTION ledger_posting()",
)

# --- transfers ------------------------------------------------------------------------------------------

_MATCHES_HOLD = """h.kind = 'hold' AND h.debit = {new}.debit AND h.credit = {new}.credit AND h.asset = {new}.asset
        AND h.amount >= {new}.amount AND ({new}.kind = 'post' OR h.amount = {new}.amount)
        AND ({new}.kind <> 'post' OR {new}.at < h.expires_at)
        AND ({new}.kind <> 'expire' OR {new}.at >= h.expires_at)"""

_sqlite(
    schema.transfer_table,
    f"""
CREATE TRIGGER transfer_checks BEFORE INSERT ON transfer BEGIN SELECT CASE
    WHEN NEW.id <> 1 + coalesce((SELECT max(id) FROM transfer), 0) THEN RAISE(ABORT, 'transfer ids have no gaps')
    WHEN NOT EXISTS (SELECT 1 FROM posting WHERE id = NEW.posting AND NEW.id BETWEEN id AND id + transfers - 1)
        THEN RAISE(ABORT, 'a transfer belongs to a posting')
    WHEN NOT EXISTS (SELECT 1 FROM account WHERE id = NEW.debit AND asset = NEW.asset)
        OR NOT EXISTS (SELECT 1 FROM account WHERE id = NEW.credit AND asset = NEW.asset)
        THEN RAISE(ABORT, 'both accounts exist and hold the asset')
    WHEN NEW.hold IS NOT NULL AND EXISTS (SELECT 1 FROM transfer WHERE hold = NEW.hold)
        THEN RAISE(ABORT, 'the hold was resolved before')
    WHEN NEW.hold IS NOT NULL AND NOT EXISTS
        (SELECT 1 FROM transfer h WHERE h.id = NEW.hold AND {_MATCHES_HOLD.format(new="NEW")})
        THEN RAISE(ABORT, 'the transfer does not match its hold')
END; END
""",
)

# What each kind of transfer does to one side of it; {side} is debits or credits.
_EFFECTS = {
    "move": ("{side}_posted = " + plus("{side}_posted", "NEW.amount"),),
    "hold": ("{side}_pending = " + plus("{side}_pending", "NEW.amount"),),
    "post": (
        "{side}_posted = " + plus("{side}_posted", "NEW.amount"),
        "{side}_pending = " + minus("{side}_pending", "held.amount"),
    ),
    "void": ("{side}_pending = " + minus("{side}_pending", "NEW.amount"),),
    "expire": ("{side}_pending = " + minus("{side}_pending", "NEW.amount"),),
}
_OPEN_HOLDS = {
    "move": "",
    "hold": "INSERT INTO open_hold (hold, expires_at) VALUES (NEW.id, NEW.expires_at);",
    "post": "DELETE FROM open_hold WHERE hold = NEW.hold;",
    "void": "DELETE FROM open_hold WHERE hold = NEW.hold;",
    "expire": "DELETE FROM open_hold WHERE hold = NEW.hold;",
}


def _keep(kind: str, account: str, side: str) -> str:
    """Return the statement that moves one account's totals."""
    effects = ", ".join(effect.format(side=side) for effect in _EFFECTS[kind])
    held = "FROM (SELECT amount FROM transfer WHERE id = NEW.hold) held" if kind == "post" else ""
    return f"UPDATE account SET {effects}, last_transfer = NEW.id {held} WHERE account.id = NEW.{account};"


for _kind in _EFFECTS:
    _sqlite(
        schema.transfer_table,
        f"""
CREATE TRIGGER transfer_{_kind} AFTER INSERT ON transfer WHEN NEW.kind = '{_kind}' BEGIN
    {_keep(_kind, "debit", "debits")}
    {_keep(_kind, "credit", "credits")}
    {_OPEN_HOLDS[_kind]}
    -- An outer INSERT OR IGNORE makes the updates above fail silently; this does not.
    SELECT RAISE(ABORT, 'account_is_covered')
    WHERE (SELECT count(*) FROM account WHERE id IN (NEW.debit, NEW.credit) AND last_transfer = NEW.id) <> 2;
END
""",
    )

_postgresql(
    schema.transfer_table,
    f"""
CREATE OR REPLACE FUNCTION ledger_transfer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT max(id) - count(*) FROM fresh)
        <> coalesce((SELECT max(id) FROM transfer WHERE id < (SELECT min(id) FROM fresh)), 0) THEN
        {_raise("transfer ids have no gaps")}
    ELSIF EXISTS (
        SELECT 1 FROM fresh LEFT JOIN posting p ON p.id = fresh.posting
        WHERE NOT coalesce(fresh.id BETWEEN p.id AND p.id + p.transfers - 1, false)
    ) THEN
        {_raise("a transfer belongs to a posting")}
    ELSIF EXISTS (
        SELECT 1 FROM fresh LEFT JOIN transfer h ON h.id = fresh.hold
        WHERE fresh.hold IS NOT NULL AND NOT coalesce({_MATCHES_HOLD.format(new="fresh")}, false)
    ) THEN
        {_raise("the transfer does not match its hold")}
    END IF;
    -- Always in the order of their ids, so that two writers wait for each other and never for ever.
    PERFORM 1 FROM account
        WHERE id IN (SELECT debit FROM fresh UNION SELECT credit FROM fresh) ORDER BY id FOR NO KEY UPDATE;
    UPDATE account SET
        debits_posted = account.debits_posted + change.debits_posted,
        credits_posted = account.credits_posted + change.credits_posted,
        debits_pending = account.debits_pending + change.debits_pending,
        credits_pending = account.credits_pending + change.credits_pending,
        last_transfer = change.last_transfer
    FROM (
        SELECT leg.account,
            coalesce(sum(posted) FILTER (WHERE side = 'debit'), 0) AS debits_posted,
            coalesce(sum(posted) FILTER (WHERE side = 'credit'), 0) AS credits_posted,
            coalesce(sum(pending) FILTER (WHERE side = 'debit'), 0) AS debits_pending,
            coalesce(sum(pending) FILTER (WHERE side = 'credit'), 0) AS credits_pending,
            max(id) AS last_transfer
        FROM (
            SELECT fresh.id, fresh.debit, fresh.credit,
                CASE WHEN fresh.kind IN ('move', 'post') THEN fresh.amount ELSE 0 END AS posted,
                CASE fresh.kind WHEN 'move' THEN 0 WHEN 'hold' THEN fresh.amount ELSE -h.amount END AS pending
            FROM fresh LEFT JOIN transfer h ON h.id = fresh.hold
        ) effect CROSS JOIN LATERAL (VALUES ('debit', effect.debit), ('credit', effect.credit)) leg (side, account)
        GROUP BY leg.account
    ) change WHERE account.id = change.account;
    INSERT INTO open_hold (hold, expires_at) SELECT id, expires_at FROM fresh WHERE kind = 'hold';
    DELETE FROM open_hold USING fresh WHERE open_hold.hold = fresh.hold;
    RETURN NULL;
END $$
""",
)
_postgresql(
    schema.transfer_table,
    "CREATE TRIGGER transfer_keeps_totals AFTER INSERT ON transfer REFERENCING NEW TABLE AS fresh"
    " FOR EACH STATEMENT EXECUTE FUNCTION ledger_transfer()",
)
