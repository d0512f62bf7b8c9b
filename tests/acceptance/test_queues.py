"""The operator's switches, by the command line, while everything runs."""

import asyncio
import time

import pytest

from up import Up, Visitor, eventually

QUEUES = {"order-processing", "payment-processing", "inventory-management", "notification-sending"}


async def stands_at(admin: Visitor, order: str, step: str) -> bool:
    return bool((await admin.status(order))["currentStep"] == step)


async def burst(admin: Visitor, product: str, count: int = 15) -> float:
    """Seconds that so many orders take, all together."""
    began = time.monotonic()
    ends = await admin.ended(*await asyncio.gather(*(admin.order(product) for _ in range(count))))
    assert {end["status"] for end in ends} == {"CONFIRMED"}
    return time.monotonic() - began


async def test_a_limit_slows_a_queue_and_is_lifted_while_it_runs(up: Up, admin: Visitor) -> None:
    product = await admin.product()
    try:
        assert (await up.comanda("queue", "limit", "order-processing", "5", "--reason", "a test")).code == 0

        async def is_slow() -> bool:
            # Its two steps in that queue make thirty jobs, of which the first five may go at once.
            return await burst(admin, product) >= (30 - 5 - 1) / 5

        await eventually(is_slow)
        assert (await up.comanda("queue", "limit", "order-processing", "1", "--reason", "a test")).code == 0
        began = time.monotonic()
        waiting = asyncio.ensure_future(burst(admin, product, 30))
        assert (await up.comanda("queue", "limit", "order-processing", "0", "--reason", "a test")).code == 0
        assert await waiting < 40, "59 s under the limit"
        assert time.monotonic() - began < 45
    finally:
        await up.comanda("queue", "limit", "order-processing", "0", "--reason", "a test")
    assert await burst(admin, product) < 30


async def test_a_queue_that_is_paused_keeps_its_orders_and_goes_on_when_it_is_resumed(up: Up, admin: Visitor) -> None:
    product, waiting = await admin.product(), ""
    try:
        assert (await up.comanda("queue", "pause", "inventory-management", "--reason", "a test")).code == 0

        async def is_held() -> bool:
            nonlocal waiting
            waiting = await admin.order(product)
            try:
                await admin.ended(waiting, seconds=2)
            except TimeoutError:
                return True
            return False

        await eventually(is_held)
        last = await admin.order(product)
        await eventually(lambda: stands_at(admin, last, "STOCK_VERIFIED"))
        rows = {row["queue"]: row for row in (await up.comanda("queue", "list", "--json")).rows}
        assert [name for name, row in rows.items() if row["paused"]] == ["inventory-management"]
        assert rows["inventory-management"]["ready"] >= 1
        jobs = (await up.comanda("queue", "jobs", "inventory-management", "--json")).rows
        assert {waiting, last} <= {job["subject"] for job in jobs}
        end = await admin.status(last)
        assert (end["sagaStatus"], end["currentStep"]) == ("RUNNING", "STOCK_VERIFIED")
    finally:
        assert (await up.comanda("queue", "resume", "inventory-management", "--reason", "a test")).code == 0
    assert {end["status"] for end in await admin.ended(waiting, last)} == {"CONFIRMED"}


async def test_all_four_queues_work_and_count(up: Up, admin: Visitor) -> None:
    async def completed() -> dict[str, int]:
        return {row["queue"]: row["completed"] for row in (await up.comanda("queue", "list", "--json")).rows}

    before = await completed()
    assert before.keys() == QUEUES
    await admin.ended(await admin.order(await admin.product()))

    async def all_grew() -> bool:
        after = await completed()
        return all(after[name] > before[name] for name in QUEUES)

    await eventually(all_grew)


async def test_a_queue_that_is_not_there_is_named(up: Up) -> None:
    ran = await up.comanda("queue", "pause", "no-such-queue", "--reason", "a test")
    assert (ran.code, ran.out) == (2, "")
    assert "no-such-queue" in ran.err


async def test_the_story_of_an_order_is_told(up: Up, admin: Visitor) -> None:
    order_id = await admin.order(await admin.product(), method="pm_flaky_1")
    await admin.ended(order_id)
    rows = (await up.comanda("saga", "show", order_id, "--json")).rows
    assert (rows[0]["kind"], rows[0]["state"], rows[0]["subject"]) == ("order", "COMPLETED", order_id)
    attempts = [(row["step"], row["attempt"]) for row in rows if "outcome" in row]
    steps = ["verify_stock", "reserve_inventory", "process_payment", "process_payment", "confirm_reservation"]
    assert [step for step, _ in attempts] == [*steps, "send_confirmation", "complete_order"]
    assert (await up.comanda("saga", "show", "00000000-0000-7000-8000-00000000dead")).code == 1


@pytest.mark.parametrize("arguments", [("dead-letters", "list"), ("saga", "list", "--stuck")])
async def test_nothing_was_given_up_on(up: Up, arguments: tuple[str, ...]) -> None:
    ran = await up.comanda(*arguments, "--json")
    assert (ran.code, ran.out) == (0, "")
