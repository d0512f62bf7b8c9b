"""What changes with every order is cleaned before it has grown."""

import re

from comanda.db import Database
from comanda.payments import breaker
from comanda.proof import plans

CHANGES = re.compile(r"\b(?:UPDATE|DELETE FROM) ([a-z_]+)")
# Of each table, or of its partitions.
OPTIONS = """
SELECT part.relname AS name, coalesce(part.reloptions, '{}') AS options
  FROM unnest($1::text[]) AS changed (name) LEFT JOIN pg_inherits ON inhparent = changed.name::regclass
  JOIN pg_class AS part ON part.oid = coalesce(inhrelid, changed.name::regclass)
"""
FEW_ROWS = {"stock", "outbox_cursors", "breakers"}


def changed() -> set[str]:
    """Tables of which hot statements update or delete rows."""
    texts = [statement.text for statement in plans.statements().values()]
    return {name for text in [*texts, breaker.CHANGE.text] for name in CHANGES.findall(text)}


async def options(database: Database, tables: set[str]) -> dict[str, dict[str, float]]:
    async with database.connection() as tx:
        found = {row["name"]: row["options"] for row in await tx.fetch(OPTIONS, sorted(tables))}
    return {
        name: {option: float(value) for option, _, value in (one.partition("=") for one in set_)}
        for name, set_ in found.items()
    }


async def test_what_changes_with_every_order_is_cleaned_at_a_fiftieth(database: Database) -> None:
    tables = changed()
    assert {"orders", "payments", "reservations", "notifications", "sagas", "idempotency_keys"} | FEW_ROWS <= tables
    found = await options(database, tables)
    partitions = {f"idempotency_keys_{number}" for number in range(8)}
    assert found.keys() == tables - {"idempotency_keys"} | partitions
    for name, set_ in found.items():
        assert set_.get("autovacuum_vacuum_scale_factor", 0.2) <= 0.02, name


async def test_tables_of_few_rows_are_cleaned_without_a_pause(database: Database) -> None:
    found = await options(database, FEW_ROWS)
    assert found.keys() == FEW_ROWS
    for name, set_ in found.items():
        assert set_.get("autovacuum_vacuum_cost_delay") == 0, name
        assert set_.get("autovacuum_vacuum_threshold", 1000) <= 200, name


async def test_tables_that_grow_are_marked_as_visible_before_a_fifth_is_new(database: Database) -> None:
    for name, set_ in (await options(database, changed() - FEW_ROWS)).items():
        assert set_.get("autovacuum_vacuum_insert_scale_factor", 0.2) <= 0.1, name
