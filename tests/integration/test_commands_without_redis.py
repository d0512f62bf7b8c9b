"""What operators do while Redis is away is done, and they are told so."""

import asyncio
import os
import sys
from typing import Any
from uuid import UUID

import msgspec
import pytest

from comanda.messaging.queues import QUEUES
from shop import Shop, shop

NOWHERE = "redis://127.0.0.1:1/0"
BECAUSE = ("--reason", "seen to", "--json")


async def comanda(database_url: str, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """The exit code, what stands on stdout in JSON, and what on stderr."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("COMANDA_")}
    environment = {**known, "COMANDA_DATABASE_URL": database_url, "COMANDA_REDIS_URL": NOWHERE}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "comanda", *arguments, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, [msgspec.json.decode(line) for line in out.splitlines()], err.decode()


async def stuck(here: Shop) -> UUID:
    """An order that an operator has to look at."""
    order_id = await here.order({(await here.sells(apple=10))["apple"]: 1})
    async with here.database.transaction() as tx:
        await tx.execute("UPDATE sagas SET state = 'COMPENSATION_FAILED'")
        await tx.execute(
            "INSERT INTO dead_letters (id, saga_id, queue, step, direction, error, payload)"
            " SELECT uuid_v7(), id, queue, step, direction, 'broken', '{}' FROM sagas"
        )
    return order_id


@pytest.mark.parametrize("verb", ["saga retry", "dead-letters redrive --all"])
async def test_an_act_is_done_and_said(database_url: str, redis_url: str, verb: str) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        order_id = await stuck(here)
        named = [] if "--all" in verb else [str(order_id)]
        code, (row,), said = await comanda(database_url, *verb.split(), *named, *BECAUSE)
        assert (code, row["refusal"]) == (0, None)
        assert "no hint could be given" in said
        assert await here.value("SELECT state FROM sagas WHERE subject = $1", order_id) == "RUNNING"
        assert await here.value("SELECT count(*) FROM dead_letters WHERE redriven_at IS NULL") == 0


async def test_what_waits_is_shown(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        await here.order({(await here.sells(apple=10))["apple"]: 1})
        code, rows, said = await comanda(database_url, "queue", "list", "--json")
        assert code == 0
        assert "not known" in said
        assert {row["queue"] for row in rows} == set(QUEUES)
        assert sum(row["ready"] for row in rows) == 1
        assert {row["completed"] for row in rows} == {None}
