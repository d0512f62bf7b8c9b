"""Our payments against the gateway's: both agree to the cent, or it is said where they don't and what to do."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from html import unescape
from uuid import UUID, uuid4

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from test_console_access import browser
from test_console_pages import scene
from test_doctor import Books, busy_shop

from api_client import running_api, served
from comanda import clock
from comanda.cli.reconcile import reconcile as command
from comanda.console.render import words_of
from comanda.db import Database
from comanda.errors import DependencyFault, GatewayFault
from comanda.payments.gateway import InstantGateway
from comanda.proof.reconcile import ADVICE, Reconciliation, Span, reconcile
from comanda.settings import Settings
from shop import FakeGateway, shop, until


@asynccontextmanager
async def gateway_of(books: Books, hangs: asyncio.Event | None = None) -> AsyncIterator[str]:
    """Where it shows its ledger. `hangs`: until then it answers nobody."""

    async def ledger(request: Request) -> JSONResponse:
        if hangs is not None:
            await hangs.wait()
        after, limit = int(request.query_params["after"]), int(request.query_params["limit"])
        return JSONResponse(books.lines[after : after + limit])

    async with served(Starlette(routes=[Route("/ledger", ledger)])) as url:
        try:
            yield url
        finally:
            if hangs is not None:
                hangs.set()


async def compared(database: Database, books: Books, span: Span = Span()) -> Reconciliation:  # noqa: B008
    made = await reconcile(database, books, span)  # type: ignore[arg-type]
    assert made is not None
    return made


def sums(made: Reconciliation) -> tuple[int, ...]:
    (one,) = made.sums.values()
    return one.ours_captured, one.ours_refunded, one.theirs_captured, one.theirs_refunded, one.difference


async def test_a_shop_and_its_gateway_agree_to_the_cent(database_url: str, redis_url: str, database: Database) -> None:
    books = await busy_shop(database_url, redis_url)
    made = await compared(database, books)
    captured, back = [
        sum(line["amount"] for line in books.lines if line["type"] == kind) for kind in ("capture", "refund")
    ]
    assert sums(made) == (captured, back, captured, back, 0)
    assert (made.is_even, made.under_way, made.differences) == (True, 0, [])
    assert made.payments == len({line["orderId"] for line in books.lines}) + 2, "declined and unavailable ones too"


BREAKS = [
    ("captured", "UPDATE payments SET captured = 0, state = 'FAILED' WHERE id = $1", 1),
    ("not_captured", "SELECT $1::uuid", -1),
    ("twice", "SELECT $1::uuid", 1),
    ("refunded", "SELECT $1::uuid", -1),
    ("not_refunded", "UPDATE payments SET refunded = captured, state = 'REFUNDED' WHERE id = $1", 1),
    ("no_payment", "DELETE FROM payments WHERE id = $1", 1),
    ("currency", "UPDATE payments SET currency = 'EUR' WHERE id = $1", 0),
]


@pytest.mark.parametrize(("what", "breaks", "sign"), BREAKS)
async def test_each_difference_is_found_and_summed_up(
    database: Database, database_url: str, redis_url: str, what: str, breaks: str, sign: int
) -> None:
    async with shop(database_url, redis_url) as here:
        coffee = (await here.sells(coffee=5))["coffee"]
        orders = [await here.order({coffee: 1}, "pm_success") for _ in range(2)]
        await here.ended(*orders)
        books, broken = Books.of(here.gateway), orders[0]
    payment = await here_payment(database, broken)
    async with database.transaction() as tx:
        await tx.execute(breaks, payment)
    if what == "not_captured":
        books.lines = [line for line in books.lines if line["orderId"] != str(broken)]
    elif what in {"twice", "refunded"}:
        books.add("capture" if what == "twice" else "refund", broken, 1000)
    made = await compared(database, books)
    (one,) = made.differences
    assert (one.what, one.order_id, one.amount, made.count) == (what, broken, sign * 1000, 1)
    assert sum(of.difference for of in made.sums.values()) == one.amount
    assert one.advice == ADVICE[what]


async def here_payment(database: Database, order_id: UUID) -> UUID:
    async with database.connection() as tx:
        found: UUID = await tx.fetchval("SELECT id FROM payments WHERE order_id = $1", order_id)
    return found


async def test_what_is_under_way_differs_in_nothing_and_what_is_stuck_does(
    database: Database, database_url: str, redis_url: str
) -> None:
    """The gateway has captured, and nobody here knows it yet; then it can't be called off either."""
    gateway = FakeGateway(gate=asyncio.Event())
    async with shop(database_url, redis_url, gateway=gateway) as here:
        coffee = (await here.sells(coffee=5))["coffee"]
        order_id = await here.order({coffee: 1}, "pm_success")

        async def is_out() -> bool:
            return bool(gateway.calls)

        await until(is_out)
        books = Books()
        books.add("capture", order_id, 1000)
        made = await compared(database, books)
        assert (made.is_even, made.under_way, sums(made)) == (True, 1, (0, 0, 0, 0, 0))
        assert made.sums["USD"].under_way == 1000
        async with database.transaction() as tx:
            await tx.execute("UPDATE sagas SET state = 'COMPENSATION_FAILED' WHERE subject = $1", order_id)
        made = await compared(database, books)
        assert [(one.what, one.amount) for one in made.differences] == [("stuck", 1000)]
        async with database.transaction() as tx:
            await tx.execute("UPDATE sagas SET state = 'RUNNING' WHERE subject = $1", order_id)
        assert gateway.gate is not None
        gateway.gate.set()
        await here.ended(order_id)
        assert (await compared(database, books)).is_even


async def test_only_orders_of_the_span_are_compared(database: Database, database_url: str, redis_url: str) -> None:
    books = await busy_shop(database_url, redis_url)
    now = clock.now()
    books.add("capture", clock.new_id(), 5)
    assert [one.what for one in (await compared(database, books, Span(now - timedelta(days=1)))).differences]
    later = await compared(database, Books(), Span(now + timedelta(hours=1)))
    assert (later.payments, later.is_even) == (0, True)
    earlier = await compared(database, Books(), Span(until=now - timedelta(days=1)))
    assert (earlier.payments, earlier.is_even) == (0, True)


async def test_a_gateway_without_a_ledger_is_asked_by_key(
    database: Database, database_url: str, redis_url: str
) -> None:
    async with shop(database_url, redis_url, patience=0.2) as here:
        coffee = (await here.sells(coffee=9))["coffee"]
        paid, partly, whole = [await here.order({coffee: 2}, "pm_success") for _ in range(3)]
        others = [await here.order({coffee: 1}, method) for method in ("pm_decline_NO", "pm_timeout_after_capture")]
        await here.ended(paid, partly, whole, *others)
        await here.refund(partly, 300)
        await here.refund(whole)
        await until(lambda: here.value("SELECT bool_and(ended_at IS NOT NULL) FROM sagas"))
        made = await reconcile(database, here.gateway, Span())
        assert made is not None
        assert (made.by, made.is_even, made.payments, made.is_whole) == ("keys", True, 5, True)
        # On a busy machine the one that timed out is given up, and given back.
        assert sums(made) in {(7000, back, 7000, back, 0) for back in (2300, 3300)}
        (key,) = [key for key, of in here.gateway.order_of.items() if of == paid]
        del here.gateway.captures[key]
        made = await reconcile(database, here.gateway, Span())
        assert made is not None
        assert [(one.what, one.order_id, one.amount) for one in made.differences] == [("not_captured", paid, -2000)]
        here.gateway.is_down = True
        with pytest.raises(GatewayFault):
            await reconcile(database, here.gateway, Span())
    assert await reconcile(database, InstantGateway(), Span()) is None


async def test_the_page_tells_how_far_it_is_and_what_came_of_it(database_url: str, redis_url: str) -> None:
    books, hangs = await busy_shop(database_url, redis_url), asyncio.Event()
    path = "/admin/payments/reconciliation"
    async with (
        gateway_of(books, hangs) as url,
        running_api(database_url, redis_url, gateway="mock", gateway_url=url) as api,
        browser(api, "viewer") as one,
        browser(api, "viewer") as other,
    ):
        assert 'class="progress"' not in (await one.get(path)).text
        async with one.session.get(f"{api.url}{path}?span=day") as response:
            told = b""
            while b'class="progress"' not in told:
                told += await response.content.readany()
            busy = await other.get(f"{path}?span=day")
            assert (busy.status, "Somebody compares right now" in busy.text) == (409, True)
            hangs.set()
            told += await response.content.read()
        page = unescape(told.decode())
        assert "Both sides agree" in page
        assert re.search(r"= difference</dt><dd[^>]*>\$0\.00</dd>", page)
        assert page.rstrip().endswith("</html>")
        books.add("capture", clock.new_id(), 700)
        page = unescape((await one.get(f"{path}?span=all")).text)
        assert "1 orders differ" in page
        assert re.search(r"= difference</dt><dd[^>]*>\$7\.00</dd>", page)
        assert ADVICE["no_payment"] in page


async def test_the_page_never_hangs_and_says_when_the_gateway_is_down(database_url: str, redis_url: str) -> None:
    path = "/admin/payments/reconciliation?span=day"
    async with (
        gateway_of(Books(), asyncio.Event()) as url,
        running_api(database_url, redis_url, gateway="mock", gateway_url=url, reconcile_seconds=0.2) as api,
        browser(api, "viewer") as one,
    ):
        assert "Time is up after 0.2 s" in (await one.get(path)).text
    async with (
        running_api(database_url, redis_url, gateway="mock", gateway_url="http://127.0.0.1:9") as api,
        browser(api, "viewer") as one,
    ):
        assert "The gateway does not answer" in (await one.get(path)).text
    async with running_api(database_url, redis_url) as api, browser(api, "viewer") as one:
        assert "keeps nothing that could be compared" in (await one.get(path)).text


async def test_the_command_says_the_same_by_its_exit_code_and_as_a_document(
    database_url: str, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    books = await busy_shop(database_url, redis_url)
    async with gateway_of(books) as url:
        settings = Settings(database_url=database_url, gateway_url=url)
        options = {"data_dir": None, "since_hours": 24, "until_hours": 0, "patience": 30}
        assert await command(settings, json=True, **options) == 0  # type: ignore[arg-type]
        document = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (document["isEven"], document["sums"][0]["difference"], document["differences"]) == (True, 0, [])
        stranger = clock.new_id()
        books.add("capture", stranger, 700)
        assert await command(settings, json=True, **{**options, "since_hours": 0}) == 3  # type: ignore[arg-type]
        (one,) = json.loads(capsys.readouterr().out.splitlines()[-1])["differences"]
        assert (one["orderId"], one["amount"], one["what"]) == (str(stranger), 700, "no_payment")
        assert await command(settings, json=False, **{**options, "since_hours": 0}) == 3  # type: ignore[arg-type]
        assert "$7.00" in capsys.readouterr().out
    async with gateway_of(books, asyncio.Event()) as url:
        settings = Settings(database_url=database_url, gateway_url=url)
        with pytest.raises(DependencyFault):
            await command(settings, json=True, **{**options, "patience": 0.2})  # type: ignore[arg-type]


async def test_payments_are_found_by_state_and_by_whatever_names_them(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url, role="viewer") as (_, open_shop, one):
        coffee = (await open_shop.sells(coffee=90))["coffee"]
        paid = [await open_shop.order({coffee: 1}, "pm_success") for _ in range(52)]
        declined = await open_shop.order({coffee: 1}, "pm_decline_NO_FUNDS")
        await open_shop.ended(*paid, declined)
        refund = await open_shop.refund(paid[0], 100)
        assert refund is not None
        (row,) = await open_shop.ask("SELECT id, key, gateway_id FROM payments WHERE order_id = $1", paid[0])
        for name in (paid[0], row["id"], row["key"], row["gateway_id"], refund.id):
            page = (await one.get(f"/admin/payments?q={name}")).text
            assert re.findall(r'href="/admin/orders/([0-9a-f-]{36})"', page) == [str(paid[0])], name
        assert "No payment here matches" in (await one.get(f"/admin/payments?q={uuid4()}")).text
        page = (await one.get("/admin/payments?state=FAILED")).text
        assert re.findall(r'href="/admin/orders/([0-9a-f-]{36})"', page) == [str(declined)]
        assert "NO_FUNDS" in page
        seen, path = list[str](), "/admin/payments?state="
        while path:
            text = (await one.get(path)).text
            seen += re.findall(r'href="/admin/orders/([0-9a-f-]{36})"', text)
            more = re.search(r'rel="next" href="([^"]+)"', text)
            path = unescape(more[1]) if more else ""
        assert sorted(seen) == sorted(str(order_id) for order_id in (*paid, declined))


def test_every_advice_is_spoken_in_spanish() -> None:
    assert set(ADVICE.values()) <= words_of("es").keys()
