"""Remote steps: the intent before the call, the answer after it, and whoever dies between them."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from comanda import telemetry
from comanda.errors import DatabaseFault, GatewaySilent
from comanda.saga import Done, Outcome, Refused, Saga
from comanda.saga.engine import Engine
from saga_stage import LEASE, A, B, C, Outside, Stage, called, engine, pump, stage
from shop import until

__all__ = ["stage"]


async def test_the_intent_is_committed_before_the_call_and_nothing_is_open_during_it(stage: Stage) -> None:
    step, outside = stage.remote("pay")
    saga = Saga("s", [replace(step, under_way="PAYING"), stage.local("two")])
    (subject,) = await stage.begin(saga)
    seen: dict[str, Any] = {}

    async def reply(_: UUID, key: str) -> str:
        row = await stage.saga(subject)
        seen["row"] = (row["attempt"], row["token"], row["worker"], row["reached"], row["lease_until"] > row["clock"])
        seen["key"] = key == f"{row['id']}:pay:forward"
        seen["effects"] = await stage.effects(subject)
        seen["open"] = await stage.ask(
            "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND (state LIKE 'idle in transaction%' OR xact_start IS NOT NULL)"
        )
        return "fine"

    outside.reply = reply
    await pump(engine(stage, saga))
    assert seen == {"row": (1, 2, "first", "PAYING", True), "key": True, "effects": ["pay intended"], "open": []}
    row = await stage.saga(subject)
    assert (row["state"], row["lease_until"], row["worker"]) == ("COMPLETED", None, None)


@pytest.mark.parametrize("is_over", [True, False])
async def test_a_late_answer_is_refused_by_the_fencing_token(stage: Stage, *, is_over: bool) -> None:
    """It comes when all is over, or while the second attempt is still out."""
    step, outside = stage.remote("pay")
    saga = Saga("s", [step, stage.local("two", C)])
    (subject,) = await stage.begin(saga)
    gate = asyncio.Event()

    async def reply(_: UUID, _key: str) -> str:
        if len(outside.calls) == 1:
            await gate.wait()
        return "fine"

    outside.reply = reply
    frozen = engine(stage, saga, worker="frozen", lease=LEASE)
    late = asyncio.create_task(frozen.call(await called(frozen)))
    rescuer = engine(stage, saga, worker="rescuer")
    second = await called(rescuer)
    if is_over:
        await rescuer.call(second)
    before, lost = await stage.saga(subject), _lost()
    gate.set()
    assert (await late).onward == {}
    after = await stage.saga(subject)
    # All that a late worker may say is that it lives.
    assert {**after, "clock": None} == {**before, "clock": None, "claims": 0}
    assert _lost() - lost == 1
    if not is_over:
        await rescuer.call(second)
    after = await stage.saga(subject)
    assert (after["state"], after["token"], _lost() - lost) == ("COMPLETED", 4, 1)
    assert await stage.effects(subject) == ["pay intended", "pay intended", "pay", "two"]
    assert len({key for _, key in outside.calls}) == 1, "one key for every attempt, so the repeat was harmless outside"
    assert await stage.history(subject) == [
        ("pay", "forward", 1, "lost"), ("pay", "forward", 2, "done"), ("two", "forward", 1, "done"),
    ]  # fmt: skip


def _lost() -> float:
    return float(telemetry.LEASES_LOST._value.get())


async def test_an_engine_that_overtook_itself_keeps_only_its_newer_answer(stage: Stage) -> None:
    """Both answers of one saga in one batch of results, the stale one last."""
    step, outside = stage.remote("pay")
    saga = Saga("s", [step])
    (subject,) = await stage.begin(saga)
    gate = asyncio.Event()

    async def reply(_: UUID, _key: str) -> Any:
        mine = len(outside.calls)
        await gate.wait()
        return Refused("STALE") if mine == 1 else "fine"

    async def waiting(count: int) -> bool:
        return len(gate._waiters) == count

    outside.reply = reply
    one = engine(stage, saga, lease=LEASE)
    calls = []
    for number in (1, 2):
        calls.append(asyncio.create_task(one.call(await called(one))))
        await until(partial(waiting, number))
    gate._waiters.reverse()
    lost = _lost()
    gate.set()
    await asyncio.gather(*calls)
    assert (await stage.saga(subject))["state"] == "COMPLETED"
    assert _lost() - lost == 1


async def test_a_heartbeat_keeps_the_lease_of_a_long_call(stage: Stage) -> None:
    step, outside = stage.remote("pay")
    saga = Saga("s", [step])
    (subject,) = await stage.begin(saga)
    gate = asyncio.Event()

    async def reply(_: UUID, _key: str) -> bool:
        return await gate.wait()

    outside.reply = reply
    lease = timedelta(seconds=1)
    slow, other = engine(stage, saga, lease=lease), engine(stage, saga, worker="other")
    calling = asyncio.create_task(slow.call(await called(slow)))

    async def three_leases_over() -> bool:
        await slow.heartbeat()
        assert (await other.run(B, None, 10)).claimed == 0
        row = await stage.saga(subject)
        return bool(row["clock"] - row["since"] > 3 * lease)

    await until(three_leases_over)
    gate.set()
    await calling
    row = await stage.saga(subject)
    assert (row["state"], row["token"], len(outside.calls)) == ("COMPLETED", 2, 1)


async def test_the_heartbeat_waits_for_no_lock(stage: Stage) -> None:
    """A result that is being stored holds its saga; to wait for it would be half of a deadlock."""
    step, outside = stage.remote("pay")
    saga = Saga("s", [step])
    subjects = await stage.begin(saga, 3)
    one = engine(stage, saga, lease=timedelta(seconds=30))
    calling = await calls_that_hang(one, outside)
    before = {subject: (await stage.saga(subject))["lease_until"] for subject in subjects}
    async with stage.database.transaction() as tx:
        await tx.execute("SELECT 1 FROM sagas WHERE subject = $1 FOR UPDATE", subjects[1])
        async with asyncio.timeout(2):
            await one.heartbeat()
    prolonged = [(await stage.saga(subject))["lease_until"] > before[subject] for subject in subjects]
    assert prolonged == [True, False, True]
    calling.cancel()
    await asyncio.wait([calling])


async def calls_that_hang(one: Engine, outside: Outside) -> "asyncio.Future[Any]":
    """What is due is called, and nobody answers."""

    async def silence(_: UUID, _key: str) -> None:
        await asyncio.Event().wait()

    outside.reply = silence
    calls = (await one.run(B, None, 10)).calls
    calling = asyncio.gather(*(one.call(call) for call in calls))
    await until(lambda: asyncio.sleep(0, result=len(outside.calls) == len(calls)))
    return calling


async def test_a_call_that_nobody_begins_is_not_kept_alive(stage: Stage) -> None:
    """What a commit led to may be lost in the process: its lease has to run out."""
    step, _ = stage.remote("pay")
    saga = Saga("s", [step])
    (subject,) = await stage.begin(saga)
    one = engine(stage, saga, lease=timedelta(seconds=30))
    await one.run(B, None, 10)
    before = (await stage.saga(subject))["lease_until"]
    await one.heartbeat()
    assert (await stage.saga(subject))["lease_until"] == before


async def test_what_was_committed_before_postgresql_went_away_is_called(stage: Stage) -> None:
    """One by one, and the connection dies at the second: the first one's call is not forgotten."""
    step, _ = stage.remote("pay")
    saga = Saga("s", [step])
    first, second = await stage.begin(saga, 2)
    one = engine(stage, saga)
    prepared: list[UUID] = []

    def break_down(subject: UUID) -> Outcome:
        prepared.append(subject)
        if len(prepared) <= 2 and len(set(prepared)) == 2:
            raise RuntimeError("the batch raises, and its sagas are run one by one")
        if subject == second:
            raise DatabaseFault("gone")
        return Done()

    stage.answers["pay", "forward"] = break_down
    ids = [(await stage.saga(subject))["id"] for subject in (first, second)]
    result = await one.run(B, ids, 2)
    assert [call.job.subject for call in result.calls] == [first]
    assert result.onward == {(B, 1): [ids[1]]}, "the other one is hinted at again"


async def test_a_worker_that_dies_in_a_call_is_followed_by_a_second_attempt(stage: Stage) -> None:
    step, outside = stage.remote("pay")
    saga = Saga("s", [step])
    (subject,) = await stage.begin(saga)

    async def reply(_: UUID, _key: str) -> str:
        if len(outside.calls) == 1:
            await asyncio.Event().wait()
        return "fine"

    outside.reply = reply
    dead = engine(stage, saga, worker="dead", lease=LEASE)
    dying = asyncio.create_task(dead.call(await called(dead)))
    await until(lambda: asyncio.sleep(0, result=outside.calls))
    dying.cancel()
    await asyncio.wait([dying])
    await dead.heartbeat()  # nobody speaks for the dead
    rescuer = engine(stage, saga, worker="rescuer")
    await rescuer.call(await called(rescuer))
    assert await stage.history(subject) == [("pay", "forward", 1, "lost"), ("pay", "forward", 2, "done")]
    who = await stage.ask("SELECT worker, outcome FROM saga_attempts ORDER BY outcome")
    assert [tuple(row) for row in who] == [("rescuer", "done"), ("dead", "lost")]
    assert [job.attempt for job in outside.jobs] == [1, 2]


async def test_a_call_that_kills_every_worker_is_given_up_and_undone(stage: Stage) -> None:
    step, outside = stage.remote("pay")
    saga = Saga("s", [stage.local("one"), step])
    (subject,) = await stage.begin(saga)
    await engine(stage, saga, serves=[A]).run(A, None, 1)
    for number in range(3):
        assert (
            await called(engine(stage, saga, worker=f"victim-{number}", lease=timedelta(0)))
        ).job.attempt == number + 1
    await pump(engine(stage, saga))
    row = await stage.saga(subject)
    assert (row["state"], outside.calls) == ("COMPENSATED", [])
    assert (await stage.effects(subject))[-2:] == ["-pay", "-one"], "it may have happened, so it is undone too"
    assert [outcome for _, _, _, outcome in await stage.history(subject)] == [
        "done",
        "lost",
        "lost",
        "lost",
        "failed",
        "done",
        "done",
    ]


async def test_silence_is_tried_again_and_undone_in_the_end(stage: Stage) -> None:
    step, outside = stage.remote("pay")
    saga = Saga("s", [stage.local("one"), step, stage.local("two")])
    heals, silent, refused = await stage.begin(saga, 3)

    async def reply(subject: UUID, _key: str) -> Any:
        tries = sum(called == subject for called, _ in outside.calls)
        if subject == refused:
            return Refused("DECLINED")
        if subject == silent or tries < 3:
            raise GatewaySilent("no answer")
        return "fine"

    outside.reply = reply
    await pump(engine(stage, saga))
    intents = ["pay intended"] * 3
    assert await stage.effects(heals) == ["one", *intents, "pay", "two"]
    assert await stage.effects(silent) == ["one", *intents, "-pay", "-one"], "it may have happened, so it is undone too"
    assert await stage.effects(refused) == ["one", "pay intended", "-one"], "it did not happen"
    rows = [await stage.saga(subject) for subject in (heals, silent, refused)]
    assert [(row["state"], row["reason"]) for row in rows] == [
        ("COMPLETED", None), ("COMPENSATED", "SILENT"), ("COMPENSATED", "DECLINED"),
    ]  # fmt: skip


async def test_a_step_that_raises_after_a_call_is_not_the_calls_fault(stage: Stage) -> None:
    step, outside = stage.remote("pay")
    saga = Saga("s", [step, stage.local("two", C)])

    def two(_: UUID) -> Outcome:
        raise RuntimeError("poison")

    stage.answers["two", "forward"] = two
    (subject,) = await stage.begin(saga)
    await pump(engine(stage, saga))
    assert len(outside.calls) == 1
    assert await stage.effects(subject) == ["pay intended", "pay", "-pay"]
    assert [(step, outcome) for step, _, _, outcome in await stage.history(subject)] == [
        ("pay", "done"), ("two", "failed"), ("two", "failed"), ("two", "failed"), ("pay", "done"),
    ]  # fmt: skip


async def test_an_answer_that_cannot_be_recorded_is_a_failed_attempt(stage: Stage) -> None:
    step, outside = stage.remote("pay")
    outside.breaks_recording = True
    saga = Saga("s", [step])
    (subject,) = await stage.begin(saga)
    await pump(engine(stage, saga))
    assert [(step, outcome) for step, _, _, outcome in await stage.history(subject)] == [
        ("pay", "failed"), ("pay", "failed"), ("pay", "failed"), ("pay", "done"),
    ]  # fmt: skip
    assert (await stage.saga(subject))["state"] == "COMPENSATED"


async def test_two_engines_on_the_same_queues_do_each_step_once(stage: Stage) -> None:
    step, outside = stage.remote("pay")
    saga = Saga("s", [stage.local("one"), step, stage.local("two", C), stage.local("three")])
    await stage.begin(saga, 300)
    engines = [engine(stage, saga, worker=f"worker-{number}") for number in range(2)]
    hinted = [row["id"] for row in await stage.ask("SELECT id FROM sagas")]
    calls = await asyncio.gather(
        *(one.run(A, hinted[:100], 100) for one in engines), engines[0].run(A, hinted[50:], 300)
    )
    await asyncio.gather(
        *(one.call(call) for one, result in zip([*engines, engines[0]], calls, strict=True) for call in result.calls),
        *(pump(one, *queues, limit=20) for one in engines for queues in ((A, B, C), (C, B, A))),
    )
    assert await stage.states() == {"COMPLETED": 300}
    assert Counter(row["what"] for row in await stage.ask("SELECT what FROM effects")) == dict.fromkeys(
        ["one", "pay intended", "pay", "two", "three"], 300
    )
    assert len(await stage.ask("SELECT 1 FROM effects GROUP BY subject, what HAVING count(*) > 1")) == 0
    assert max(Counter(outside.calls).values()) == 1
    assert len(await stage.ask("SELECT DISTINCT worker FROM saga_attempts")) == 2, "both had their share"
