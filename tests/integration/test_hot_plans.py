"""No hot statement reads a table from end to end, whatever the planner believed when it made the plan."""

from comanda.db import Database, Tx
from comanda.proof import plans

FULL_INDEX = """Hash Anti Join  (cost=209.36..364.25 rows=203 width=38)
  Hash Cond: (order_lines.order_id = reservations.order_id)
  ->  Bitmap Heap Scan on order_lines  (cost=46.03..197.25 rows=410 width=38)
        ->  Bitmap Index Scan on order_lines_pkey  (cost=0.00..45.93 rows=410 width=0)
              Index Cond: (order_id = ANY ($1))
  ->  Hash  (cost=109.90..109.90 rows=66 width=16)
        ->  Bitmap Heap Scan on reservations  (cost=4.63..109.90 rows=66 width=16)
              ->  Bitmap Index Scan on reservations_one_for_an_order  (cost=0.00..4.61 rows=66 width=0)
"""


async def _ended_reservations(tx: Tx, count: int) -> None:
    await tx.execute("SET LOCAL session_replication_role = replica")  # rows without the orders they belong to
    await tx.execute(
        "INSERT INTO reservations (id, order_id, state, expires_at, ended_at)"
        " SELECT uuid_v7(), uuid_v7(), 'FULFILLED', now(), now() FROM generate_series(1, $1)",
        count,
    )


async def test_hot_statements_read_by_key(database: Database) -> None:
    async with database.connection() as tx:
        found = {name: plans.read_whole(plan) for name, plan in (await plans.of_all(tx)).items()}
    assert {name: whole for name, whole in found.items() if whole} == {}
    assert {"stock.DEMANDS", "place_order.ACCEPT", "log.MOVE", "outbox.FOLLOWING"} <= found.keys()


async def test_they_do_in_a_shop_where_nearly_all_has_ended(database: Database) -> None:
    """Of what is open there is next to nothing then, and reading all of it would seem cheap."""
    async with database.transaction() as tx:
        await _ended_reservations(tx, 20_000)
        await tx.execute("ANALYZE reservations")
        found = {name: plans.read_whole(plan) for name, plan in (await plans.of_all(tx)).items()}
    assert {name: whole for name, whole in found.items() if whole} == {}


async def test_no_hot_statement_starts_processes_of_its_own(database: Database) -> None:
    """Of a young shop nothing is known yet, and its tables seem worth it."""
    async with database.transaction() as tx:
        await _ended_reservations(tx, 5_000)
        await tx.execute(
            "INSERT INTO outbox (id, type, aggregate_type, aggregate_id, payload)"
            " SELECT uuid_v7(), 'OrderCreated', 'order', uuid_v7(), '{}' FROM generate_series(1, 30000)"
        )
        found = await plans.of_all(tx)
    assert [name for name, plan in found.items() if "Gather" in plan] == []


def test_an_index_without_a_condition_is_read_whole() -> None:
    assert plans.read_whole(FULL_INDEX) == ["reservations_one_for_an_order"]
    assert plans.read_whole("Seq Scan on orders  (cost=0.00..1.00 rows=1 width=1)") == ["orders"]
