"""From the first start to the last: a first order, SIGTERM, a dead supervisor, and starts that fail."""

import asyncio
import os
import re
import signal
import socket
from pathlib import Path

import aiohttp
import pytest

from up import Reply, Up, Visitor, basket, captures, comanda, eventually, is_alive, running

COFFEE = "00000000-0000-7000-8000-000000000001"
FIRST_LOGIN = re.compile(r"First login +(\S+) +(\S+)")
REFUSED = (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)  # no answer at all


async def gone(pids: set[int], seconds: float) -> None:
    await eventually(lambda: not [pid for pid in pids if is_alive(pid)], seconds)


async def test_a_first_order_and_a_drain_that_loses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "data", "--demo", ADMIN_PASSWORD="") as up:
        await eventually(lambda: FIRST_LOGIN.search(up.printed()))
        shown = FIRST_LOGIN.search(up.printed())
        assert shown
        admin = await up.signed_in(shown[1], shown[2])
        reply = await admin.ask("POST", "/orders", basket(COFFEE), Idempotency_Key="first")
        assert reply.status == 202
        first = reply.body["orderId"]
        (end,) = await admin.ended(first)
        assert (end["status"], await admin.stock(COFFEE)) == ("CONFIRMED", (999, 0, 999))

        slow = await admin.order(COFFEE, method="pm_slow_2000")
        await eventually(lambda: stands_at(admin, slow, "PAYMENT_PROCESSING"))
        pids = up.pids()
        buying = [asyncio.ensure_future(admin.ask("POST", "/orders", basket(COFFEE))) for _ in range(50)]
        await buying[0]
        code = await asyncio.to_thread(up.terminate)
        answers = await asyncio.gather(*buying, return_exceptions=True)
        assert code == 0, up.printed()
        assert not [pid for pid in pids if is_alive(pid)]
        assert not (up.folder / "up.json").exists()
        heard = [one for one in answers if isinstance(one, Reply)]
        assert {type(one) for one in answers} <= {Reply, *REFUSED}, answers
        assert {one.status for one in heard} == {202}
        accepted = [one.body["orderId"] for one in heard]
        await up.leave()

        await asyncio.to_thread(up.again)
        admin = await up.signed_in(shown[1], shown[2])
        assert (await admin.status(first))["status"] == "CONFIRMED"
        # What was under way was finished by the drain, so that nobody had to ask the gateway twice.
        assert (await admin.status(slow))["currentStep"] not in {"STOCK_RESERVED", "PAYMENT_PROCESSING"}
        ends = await admin.ended(slow, *accepted)
        assert {end["status"] for end in ends} == {"CONFIRMED"}
        assert {one["orderId"] for one in await admin.orders()} == {first, slow, *accepted}
        assert captures((await up.ledger())[slow]) == 1
        left = 1000 - 2 - len(accepted)
        assert await admin.stock(COFFEE) == (left, 0, left)
        replay = await admin.ask("POST", "/orders", basket(COFFEE), Idempotency_Key="first")
        assert (replay.body["orderId"], replay.headers["Idempotent-Replayed"]) == (first, "true")


async def stands_at(admin: Visitor, order: str, step: str) -> bool:
    return bool((await admin.status(order))["currentStep"] == step)


async def test_kill_9_of_the_supervisor_takes_all_with_it_and_the_next_start_ends_the_orders(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as up:
        admin = await up.signed_in()
        product = await admin.product(stock=100)
        orders = [await admin.order(product, method="pm_slow_1000") for _ in range(20)]
        pids = up.pids()
        os.kill(up.process.pid, signal.SIGKILL)
        await asyncio.to_thread(up.process.wait)
        await gone(pids, 40)
        await up.leave()

        await asyncio.to_thread(up.again)
        admin = await up.signed_in()
        ends = await admin.ended(*orders)
        assert {end["status"] for end in ends} == {"CONFIRMED"}
        ledger = await up.ledger()
        assert {captures(ledger[order]) for order in orders} == {1}
        assert await admin.stock(product) == (80, 0, 80)


async def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = await comanda("up", "--port", port, "--data-dir", str(tmp_path / "data"))
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert port in ran.err


async def test_a_database_that_is_not_there_is_4(tmp_path: Path) -> None:
    nowhere = "postgresql://me:hidden@127.0.0.1:1/x"
    ran = await comanda("up", "--port", "0", "--data-dir", str(tmp_path / "data"), DATABASE_URL=nowhere)
    assert ran.code == 4
    assert "COMANDA_DATABASE_URL" in ran.err.splitlines()[-1]
    assert "hidden" not in ran.err


@pytest.mark.parametrize(
    ("name", "value"),
    [("GATEWAY_LATENCY_MS", "abc"), ("GATEWAY_OUTCOMES", "50/50/50"), ("SECRET_KEY", "short"), ("LEASE_SECONDS", "0")],
)
async def test_a_setting_that_is_wrong_is_named(tmp_path: Path, name: str, value: str) -> None:
    ran = await comanda("up", "--port", "0", "--data-dir", str(tmp_path / "data"), **{name: value})
    assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran.err
    assert f"COMANDA_{name}" in ran.err


@pytest.mark.parametrize("where", ["{}/file", "{}/file/below", "/proc/comanda"])
async def test_a_data_folder_that_can_not_be_is_2(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    folder = where.format(tmp_path)
    ran = await comanda("up", "--port", "0", "--data-dir", folder)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran.err
    assert folder in ran.err


async def test_a_folder_is_for_one_instance(up: Up) -> None:
    pids = up.pids()
    ran = await comanda("up", "--port", "0", "--data-dir", str(up.folder))
    assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran.err
    assert str(up.folder) in ran.err
    assert pids <= up.pids()
    assert (await up.comanda("queue", "list")).code == 0
