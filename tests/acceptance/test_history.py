"""What happened to an order, and who did what about it, outlives everything but the database."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

import servers
from scene import BROKEN, STAFF, Stage, staged
from up import PASSWORD, eventually

WHY = "The gateway is back: incident 2291"
HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')
STORY = re.compile(r'<ol class="story">.*?</ol>', re.DOTALL)
ROWS = re.compile(r"<tbody>.*?</tbody>", re.DOTALL)


@asynccontextmanager
async def console(stage: Stage) -> AsyncIterator[aiohttp.ClientSession]:
    """An operator who has signed in at the console."""
    jar, headers = aiohttp.CookieJar(unsafe=True), {"Origin": stage.up.api}
    async with aiohttp.ClientSession(stage.up.api, cookie_jar=jar, headers=headers) as session:
        form = {"email": STAFF["operator"], "password": PASSWORD}
        async with session.post("/admin/login", data=form, allow_redirects=False) as answer:
            assert answer.status == 303
        yield session


async def retry(stage: Stage, order_id: str) -> None:
    """As an operator does it, with a reason."""
    ((saga_id,),) = await stage.ask("SELECT id FROM sagas WHERE subject = $1", order_id)
    async with console(stage) as session:
        path = f"/admin/sagas/{saga_id}/retry"
        async with session.get(path) as answer:
            form = dict(HIDDEN.findall(await answer.text())) | {"reason": WHY}
        async with session.post(path, data=form, allow_redirects=False) as answer:
            assert answer.status == 303, await answer.text()


async def shown(stage: Stage, path: str, part: re.Pattern[str]) -> str:
    async with console(stage) as session, session.get(path) as answer:
        assert answer.status == 200
        found = part.search(await answer.text())
        assert found is not None, path
        return found[0]


async def told(stage: Stage, order_id: str) -> dict[str, Any]:
    """All that Comanda says of an order's past, in every place where it says it."""
    explained = await stage.up.comanda("explain", order_id, "--json")
    audit = await stage.up.comanda("audit", "list", "--json")
    assert (explained.code, audit.code) == (0, 0), explained.err + audit.err
    return {
        "story": await shown(stage, f"/admin/orders/{order_id}", STORY),
        "audit": await shown(stage, "/admin/audit", ROWS),
        "explain": explained.rows,
        "audit list": audit.rows,
    }


async def test_the_story_of_an_order_and_the_audit_outlive_everything_but_the_database(
    tmp_path: Path, urls: dict[str, str]
) -> None:
    async with staged(tmp_path, **urls) as stage:
        admin, customer = await stage.admin(), await stage.up.registered()
        names = {"firstName": "Lucia", "lastName": "Ferrer"}
        await admin.made("/users", {"email": STAFF["operator"], "password": PASSWORD, "role": "operator", **names})
        stage.link.fail("*", body=BROKEN)
        order_id = await customer.order(await admin.product())
        await stage.stuck(order_id)
        stage.link.fail()
        await retry(stage, order_id)
        assert [one["status"] for one in await admin.ended(order_id)] == ["CANCELLED"]
        await eventually(_all_is_done(stage))

        before = await told(stage, order_id)
        for place, said in before.items():
            assert WHY in str(said), place
            assert STAFF["operator"] in str(said), place
        assert BROKEN["message"] in before["story"]

        await servers.empty(stage.up.facts["redisUrl"])
        old = set(stage.up.processes.values())
        assert await stage.up.stop() == 0
        stage.up.again()
        assert not old & set(stage.up.processes.values())
        assert await told(stage, order_id) == before


def _all_is_done(stage: Stage) -> Any:
    async def is_so() -> bool:
        return not (await stage.ask("SELECT count(*) FROM sagas WHERE ended_at IS NULL"))[0][0]

    return is_so
