"""The overview tells of each kind of process whether it is there, and what nobody carries on without it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from html import unescape

import pytest
from test_console_access import Browser, browser

from api_client import Client
from comanda import clock, telemetry
from comanda.console.processes import LATE
from comanda.db import Database
from shop import until

WELL = "Nothing. Everything moves on by itself."
NO_WORKER = "No worker is connected: orders are accepted, and wait"
NO_RELAY = "No relay is connected"


@asynccontextmanager
async def connected(database_url: str, *names: str) -> AsyncIterator[None]:
    """Connections as processes of these names have them."""
    async with AsyncExitStack() as open_ones:
        for name in names:
            database = await Database.open(database_url, name=f"comanda-{name}", size=1)
            open_ones.push_async_callback(database.close)
        yield


@pytest.fixture(autouse=True)
def _unmeasured() -> Iterator[None]:
    """What is set here of the relay's metric is nobody else's, and what others have set is not this one's."""
    telemetry.MEASURED.set(0)
    yield
    telemetry.MEASURED.set(0)


async def overview(one: Browser, *wanted: str, **headers: str) -> str:
    """The page, once it says all of this; a look may be half a second old."""

    async def shown() -> str | None:
        text = unescape((await one.get("/admin", **headers)).text)
        return text if all(said in text for said in wanted) else None

    page: str = await until(shown)
    return page


async def test_a_shop_that_nobody_carries_on_is_not_well(api: Client, database_url: str) -> None:
    async with browser(api, "viewer") as one:
        page = await overview(one, NO_WORKER, NO_RELAY)
        assert WELL not in page
        async with connected(database_url, "worker-1", "worker-1-lists", "relay-1-listen"):
            page = await overview(one, NO_RELAY, 'workers</a></dt><dd><span class="state good" data-mark="●">1</span>')
            assert NO_WORKER not in page
        async with connected(database_url, "worker-1", "worker-2", "relay-1"):
            page = await overview(one, WELL)
            assert 'workers</a></dt><dd><span class="state good" data-mark="●">2</span>' in page
            assert 'API processes</dt><dd><span class="state good" data-mark="●">1</span>' in page
        spanish = await overview(one, "No hay ningún proceso de trabajo conectado", **{"Accept-Language": "es"})
        assert "El relay no está conectado" in spanish


async def test_a_relay_that_is_connected_and_does_nothing_is_seen(api: Client, database_url: str) -> None:
    async with browser(api, "viewer") as one, connected(database_url, "worker-1", "relay-1"):
        assert "measured just now" not in await overview(one, WELL), "nobody knows here what it does"
        telemetry.MEASURED.set_to_current_time()
        await overview(one, WELL, "measured just now")
        telemetry.MEASURED.set(clock.now().timestamp() - LATE - 100)
        page = await overview(one, "The relay is connected, but has measured nothing for 2 minutes")
        assert "silent for 2 minutes" in page
        assert WELL not in page
