"""What operators do to sagas by hand, and work that costs workers their lives."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from comanda.audit import acts
from comanda.saga import Done, Failed, Later, Refused, Saga, log, verbs
from comanda.saga.batch import Result
from comanda.saga.engine import Engine
from comanda.saga.verbs import Acted, Verb
from saga_stage import AT_ONCE, LEASE, A, B, C, Stage, by_hand, called, engine, pump, stage
from shop import until

__all__ = ["stage"]

BROKEN = Failed("the printer is on fire")


async def act(stage: Stage, saga: Saga, verb: Verb, *subjects: object) -> list[Acted]:
    async with stage.database.transaction() as tx:
        acted, _ = await verbs.act(tx, by_hand(saga), subjects, verb, actor="ana", reason="seen to")  # type: ignore[arg-type]
    return acted


async def stuck(stage: Stage, saga: Saga) -> object:
    """A saga whose `two` can't be undone."""
    stage.answers["three", "forward"] = lambda _: Refused("NO")
    stage.answers["two", "backward"] = lambda _: BROKEN
    (subject,) = await stage.begin(saga)
    await pump(engine(stage, saga))
    assert (await stage.saga(subject))["state"] == "COMPENSATION_FAILED"
    return subject


@pytest.mark.parametrize(
    ("verb", "effects"),
    [("skip", ["one", "two", "-one"]), ("resolve", ["one", "two"]), ("retry", ["one", "two", "-two", "-one"])],
)
async def test_a_stuck_saga_ends_as_undone_by_each_verb(stage: Stage, verb: Verb, effects: list[str]) -> None:
    saga = Saga("s", [stage.local("one"), stage.local("two"), stage.local("three")])
    subject = await stuck(stage, saga)
    stage.answers["two", "backward"] = lambda _: Done()
    (acted,) = await act(stage, saga, verb, subject)
    assert (acted.was, acted.refusal) == ("stuck at two (undoing)", None)
    await pump(engine(stage, saga))
    row = await stage.saga(subject)  # type: ignore[arg-type]
    assert (row["state"], row["reason"]) == ("COMPENSATED", "NO")
    assert await stage.effects(subject) == effects  # type: ignore[arg-type]
    async with stage.database.connection() as tx:
        (told,) = await acts.listed(tx)
        letters = await stage.ask("SELECT redriven_by, reason FROM dead_letters")
    assert (told["actor"], told["act"], told["subject"], told["reason"]) == (
        "ana",
        f"saga.{verb}",
        str(row["id"]),
        "seen to",
    )
    assert [tuple(letter) for letter in letters] == [("ana", f"{verb}: seen to")]
    assert ("two", "backward", 0, "operator") in await stage.history(subject)  # type: ignore[arg-type]


async def test_who_redrives_a_letter_waits_for_who_acts_on_its_saga_and_then_finds_it_closed(stage: Stage) -> None:
    saga = Saga("s", [stage.local("one"), stage.local("two"), stage.local("three")])
    await stuck(stage, saga)
    ((letter, saga_id),) = await stage.ask("SELECT id, saga_id FROM dead_letters")

    async def redrive() -> tuple[list[Acted], set[UUID]]:
        async with stage.database.transaction() as tx:
            acted, were_open, _ = await verbs.redrive(
                tx, by_hand(saga), [letter], actor="luis", reason="me too", limit=1
            )
            return acted, were_open

    blocked = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with stage.database.transaction() as tx:
        await log.claim_named(tx, [saga_id])  # as the first thing that every verb does
        second = asyncio.ensure_future(redrive())
        await until(partial(stage.ask, blocked))
        await verbs.act(tx, by_hand(saga), [saga_id], "retry", actor="ana", reason="seen to")
    assert await second == ([], set())
    assert [tuple(row) for row in await stage.ask("SELECT redriven_by, reason FROM dead_letters")] == [
        ("ana", "retry: seen to")
    ]


async def test_a_letter_stays_open_whose_saga_this_release_can_not_retry(stage: Stage) -> None:
    saga = Saga("s", [stage.local("one"), stage.local("two"), stage.local("three")])
    await stuck(stage, saga)
    async with stage.database.transaction() as tx:
        (acted,), were_open, _ = await verbs.redrive(tx, by_hand(), None, actor="ana", reason="?", limit=10)
    assert "does not know s version 1" in str(acted.refusal)
    assert [row["id"] for row in await stage.ask("SELECT id FROM dead_letters WHERE redriven_at IS NULL")] == [
        *were_open
    ]


async def test_the_definition_is_told_that_it_was_undone_by_hand(stage: Stage) -> None:
    told = []

    async def undone(_tx: object, subjects: object, reasons: object) -> tuple[()]:
        told.append((subjects, reasons))
        return ()

    saga = Saga("s", [stage.local("one"), stage.local("two"), stage.local("three")], undone=undone)
    subject = await stuck(stage, saga)
    await act(stage, saga, "resolve", subject)
    assert told == [([subject], ["NO"])]


async def test_what_waits_is_undone_from_where_it_stands(stage: Stage) -> None:
    step, outside = stage.remote("pay")
    saga = Saga("s", [stage.local("one"), step])
    stage.answers["pay", "forward"] = lambda _: Later("BREAKER_OPEN", timedelta(hours=1))
    (subject,) = await stage.begin(saga)
    await pump(engine(stage, saga))
    (acted,) = await act(stage, saga, "compensate", subject)
    assert (acted.was, acted.now, acted.refusal) == ("RUNNING at pay", "COMPENSATING at one (undoing)", None)
    await pump(engine(stage, saga))
    row = await stage.saga(subject)
    assert (row["state"], row["reason"], outside.calls) == ("COMPENSATED", "CANCELLED_BY_OPERATOR", [])
    assert await stage.effects(subject) == ["one", "pay intended", "-one"], "nothing went out, so it is not undone"


async def test_a_call_that_went_out_is_undone_too(stage: Stage) -> None:
    step, outside = stage.remote("pay", retry=AT_ONCE.__class__(attempts=3, base=timedelta(hours=1)))
    saga = Saga("s", [stage.local("one"), step])

    async def reply(_: object, _key: str) -> None:
        raise TimeoutError("no answer")

    outside.reply = reply
    (subject,) = await stage.begin(saga)
    await pump(engine(stage, saga))
    await act(stage, saga, "compensate", subject)
    await pump(engine(stage, saga))
    assert await stage.effects(subject) == ["one", "pay intended", "-pay", "-one"]


async def test_an_answer_that_comes_after_an_operator_has_decided_is_refused(stage: Stage) -> None:
    """Nobody has called again, so its fencing token still stands: but not its lease."""
    step, _ = stage.remote("pay")
    saga = Saga("s", [stage.local("one"), step, stage.local("two", C)])
    (subject,) = await stage.begin(saga)
    frozen = engine(stage, saga, lease=LEASE)
    (call,) = (await frozen.run(A, None, 10)).calls
    await until(lambda: stage.ask("SELECT 1 FROM sagas WHERE lease_until < now()"))
    assert (await act(stage, saga, "compensate", subject))[0].now == "COMPENSATING at pay (undoing)"
    before = await stage.saga(subject)
    assert (await frozen.call(call)).onward == {}
    assert {**await stage.saga(subject), "clock": None} == {**before, "clock": None}
    await pump(engine(stage, saga))
    assert await stage.effects(subject) == ["one", "pay intended", "-pay", "-one"]


async def test_what_waits_can_be_hurried_with_its_attempts_as_they_are(stage: Stage) -> None:
    saga = Saga("s", [stage.local("one", retry=AT_ONCE.__class__(attempts=3, base=timedelta(hours=1)))])
    stage.answers["one", "forward"] = lambda _: BROKEN
    (subject,) = await stage.begin(saga)
    await pump(engine(stage, saga))
    stage.answers["one", "forward"] = lambda _: Done()
    assert (await act(stage, saga, "retry", subject))[0].refusal is None
    await pump(engine(stage, saga))
    assert await stage.history(subject) == [
        ("one", "forward", 1, "failed"), ("one", "forward", 0, "operator"), ("one", "forward", 2, "done"),
    ]  # fmt: skip


async def test_what_can_not_be_done_says_why_and_what_can(stage: Stage) -> None:
    step, _ = stage.remote("pay")
    saga = Saga("s", [stage.local("one"), step])
    ended, out, due = await stage.begin(saga, 3)
    one = engine(stage, saga)
    rows = {subject: (await stage.saga(subject))["id"] for subject in (ended, out, due)}
    await pump(one, A, B)  # all have ended
    (out,) = await stage.begin(saga)
    await one.run(A, [(await stage.saga(out))["id"]], 1)
    (due,) = await stage.begin(saga)
    unknown = uuid4()
    asked: list[tuple[str, Verb, UUID]] = [
        ("ended", "skip", rows[ended]),
        ("out", "compensate", out),
        ("due", "retry", due),
        ("due for nobody to skip", "skip", due),
        ("unknown", "retry", unknown),
    ]
    said = {name: (await act(stage, saga, verb, subject))[0].refusal or "" for name, verb, subject in asked}
    assert "ended as COMPLETED" in said["ended"]
    assert "a call is out" in said["out"]
    assert "due already" in said["due"]
    assert "due already" in said["due for nobody to skip"], "only what is stuck or waits"
    assert "no such saga" in said["unknown"]
    async with stage.database.connection() as tx:
        assert await acts.listed(tx) == [], "what was refused was not done"


async def test_a_local_step_that_kills_its_workers_is_a_dead_letter_and_its_neighbours_go_on(stage: Stage) -> None:
    saga = Saga("s", [stage.local("one"), stage.local("two")])
    subjects = await stage.begin(saga, 5)
    poison, deaths = subjects[2], 0
    doomed = engine(stage, saga)

    class Death(BaseException):
        """kill -9: nothing that runs in the process learns of it."""

    def kills(subject: object) -> Done:
        if subject == poison:
            raise Death
        return Done()

    stage.answers["one", "forward"] = kills
    hinted = [row["id"] for row in await stage.ask("SELECT id FROM sagas ORDER BY id")]
    with pytest.raises(Death):
        await doomed.run(A, hinted, 10)
    for _ in range(10):
        try:
            if (await engine(stage, saga, lease=timedelta(0)).run_again(A, None, 10)).claimed == 0:
                break
        except Death:
            deaths += 1
    assert 1 <= deaths <= 4, "with the first one, no more than five claims"
    states = {subject: (await stage.saga(subject))["state"] for subject in subjects}
    assert states == {one: "COMPENSATION_FAILED" if one == poison else "COMPLETED" for one in subjects}
    (letter,) = await stage.ask("SELECT * FROM dead_letters")
    assert (letter["saga_id"], letter["error"]) == ((await stage.saga(poison))["id"], "its workers were lost")
    assert (await stage.saga(poison))["reason"] == "WORKERS_LOST"
    await act(stage, saga, "compensate", poison)
    assert (await stage.saga(poison))["state"] == "COMPENSATED"


async def test_workers_that_look_at_the_same_moment_are_not_lost(stage: Stage) -> None:
    """One has marked it and is about to run it while others look for what is due: nobody has died."""
    saga, gate = Saga("s", [stage.local("one")]), asyncio.Event()

    class Slow(Engine):
        async def _transact(self, *arguments: Any, **more: Any) -> Result:
            await gate.wait()
            return await super()._transact(*arguments, **more)

    def worker(number: int) -> Slow:
        return Slow(
            stage.database, [saga], worker=f"worker-{number}", lease=timedelta(seconds=30),
            serves=lambda _: True, room=lambda _: 100,
        )  # fmt: skip

    (subject,) = await stage.begin(saga)
    async with asyncio.TaskGroup() as running:
        running.create_task(worker(0).run(A, None, 10))
        await until(lambda: stage.ask("SELECT 1 FROM sagas WHERE claims = 1"))
        others = [running.create_task(worker(number).run(A, None, 10)) for number in range(1, 5)]
        # Whoever thinks that it is due has counted it again, and waits at the gate.
        await until(lambda: _ended_or_counted(stage, others))
        gate.set()
    assert (await stage.saga(subject))["state"] == "COMPLETED"
    assert await stage.effects(subject) == ["one"]
    assert [one.result().claimed for one in others] == [0] * 4


async def _ended_or_counted(stage: Stage, others: Sequence["asyncio.Task[Result]"]) -> bool:
    ((claims,),) = await stage.ask("SELECT claims FROM sagas")
    return bool(sum(one.done() for one in others) + claims - 1 == len(others))


async def test_a_call_without_a_limit_that_kills_its_workers_is_a_dead_letter(stage: Stage) -> None:
    patient = AT_ONCE.__class__(attempts=None, patience=timedelta(hours=1), base=timedelta(0))
    step, _ = stage.remote("pay", retry=patient)
    saga = Saga("s", [step])
    (subject,) = await stage.begin(saga)
    calls = 0
    for _ in range(10):
        result = await engine(stage, saga, lease=timedelta(0)).run_again(B, None, 10)
        calls += len(result.calls)
        if (await stage.saga(subject))["state"] == "COMPENSATION_FAILED":
            break
    assert calls == 4
    assert (await stage.saga(subject))["note"] == "its workers were lost"


async def test_a_worker_that_only_comes_late_counts_as_alive(stage: Stage) -> None:
    step, _ = stage.remote("pay", retry=AT_ONCE.__class__(attempts=None, patience=timedelta(hours=1)))
    saga = Saga("s", [step])
    (subject,) = await stage.begin(saga)
    for _ in range(5):
        late = engine(stage, saga, lease=timedelta(0))
        call = await called(late)
        await called(engine(stage, saga, worker="other", lease=timedelta(0)))
        assert (await stage.saga(subject))["claims"] >= 1
        await late.call(call)
        assert (await stage.saga(subject))["claims"] == 0


async def test_postgresql_going_away_is_nobodys_fault(stage: Stage) -> None:
    saga = Saga("s", [stage.local("one")])
    (subject,) = await stage.begin(saga)
    stage.answers["one", "forward"] = lambda _: Done()
    one = engine(stage, saga)
    for _ in range(6):
        async with stage.database.transaction() as tx:
            await tx.execute("LOCK TABLE effects IN ACCESS EXCLUSIVE MODE")
            running = asyncio.create_task(one.run_again(A, None, 10))
            waiting = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            # On another connection: within a transaction the view shows what it showed first.
            await until(partial(stage.ask, waiting))
        with pytest.raises(Exception, match="PostgreSQL"):
            await running
    row = await stage.saga(subject)
    assert (row["claims"], row["lease_until"] > row["clock"]) == (1, True), (
        "it is not known yet whether its worker lives"
    )
    await one.run_again(A, None, 10)
    assert (await stage.saga(subject))["state"] == "COMPLETED"
