"""What the processes see of the objectives is added up by the hour, and shown in the overview."""

import asyncio
from datetime import timedelta
from html import unescape

from test_console_access import browser

from api_client import Client
from comanda import clock, objectives, telemetry
from comanda.db import Database
from comanda.settings import Settings


async def budgets(database: Database) -> dict[str, tuple[int, int]]:
    async with database.connection() as tx:
        return {one.objective.name: (one.total, one.bad) for one in await objectives.budgets(tx, Settings())}


async def test_each_process_adds_what_it_has_seen(database: Database) -> None:
    stop = asyncio.Event()
    keeping = [asyncio.create_task(objectives.keep(database, Settings(), stop)) for _ in range(2)]
    await asyncio.sleep(0)  # both have begun to look
    telemetry.SAGAS.labels("order", "COMPLETED").observe(0.2)
    telemetry.SAGAS.labels("order", "COMPLETED").observe(45)
    stop.set()
    await asyncio.gather(*keeping)
    # Both look at the metrics of this one process.
    assert await budgets(database) == {"accept": (0, 0), "confirmed": (4, 2), "webhook": (0, 0)}


async def test_they_are_of_thirty_days(database: Database) -> None:
    async with database.transaction() as tx:
        await objectives.add(tx, {"accept": (10, 1)})
        await objectives.add(tx, {"accept": (10, 0), "webhook": (5, 5)})
        for days in (29, 31):
            await tx.execute(
                "INSERT INTO objective_hours VALUES ('accept', $1, 1000, 0)", clock.now() - timedelta(days=days)
            )
    assert await budgets(database) == {"accept": (1020, 1), "confirmed": (0, 0), "webhook": (5, 5)}


async def test_the_overview_shows_what_is_left_as_a_picture_and_a_word(api: Client) -> None:
    async with api.database.transaction() as tx:
        await objectives.add(tx, {"accept": (10_000, 5), "webhook": (100, 7)})
    async with browser(api, "viewer") as one:
        page = unescape((await one.get("/admin")).text)
        assert "50% of the error budget left" in page
        assert '<rect width="50.0" height="6">' in page
        assert "99.95%" in page
        assert 'aria-label="error budget left: -600%"' in page
        for word in ("kept", "budget spent", "unknown"):
            assert f">{word}</span>" in page
        spanish = (await one.get("/admin", **{"Accept-Language": "es"})).text
        assert "presupuesto agotado" in spanish
