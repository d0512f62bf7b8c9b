"""The engine without the shop: small sagas on a real database, driven by hand, so that each crash has its moment."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, get_args
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from comanda import telemetry
from comanda.db import Database, Tx
from comanda.errors import DatabaseFault, GatewaySilent
from comanda.messaging import dead_letters, switches
from comanda.messaging.streams import Streams, stream_of
from comanda.resilience.backoff import Policy
from comanda.saga import (
    Done,
    Failed,
    Job,
    Later,
    Outcome,
    Refused,
    Saga,
    Start,
    Step,
    local,
    remote,
    start,
    verbs,
)
from comanda.saga.batch import Call, Result
from comanda.saga.definition import Direction, unheard
from comanda.saga.engine import Engine
from comanda.saga.settling import Settling
from comanda.worker import Worker
from shop import until

A, B, C = "order-processing", "payment-processing", "inventory-management"
AT_ONCE = Policy(attempts=3, base=timedelta(0))
LEASE = timedelta(seconds=0.2)

pytestmark = pytest.mark.usefixtures("_logs")

Answer = Callable[[UUID], Outcome]


def _done(_: UUID) -> Outcome:
    return Done()


@dataclass
class Stage:
    """What steps answer, and what they have done: in a table, so that what is rolled back has not happened."""

    database: Database
    answers: dict[tuple[str, Direction], Answer] = field(default_factory=dict)
    batches: list[tuple[str, Direction, list[UUID]]] = field(default_factory=list)

    def local(self, name: str, queue: str = A, **more: Any) -> Step:
        more = {"retry": AT_ONCE, "undo_retry": AT_ONCE, **more}
        forward, backward = self._act(name, "forward"), self._act(name, "backward")
        return local(name, forward, backward, queue=queue, reached=name.upper(), **more)

    def remote(self, name: str, queue: str = B, **more: Any) -> tuple[Step, "Outside"]:
        outside = Outside(self, name)
        more = {"retry": AT_ONCE, "undo_retry": AT_ONCE, **more}
        step = remote(name, outside, self._act(name, "backward"), queue=queue, reached=name.upper(), **more)
        return step, outside

    def _act(self, name: str, direction: Direction) -> Callable[[Tx, Sequence[UUID]], Awaitable[Sequence[Outcome]]]:
        async def act(tx: Tx, subjects: Sequence[UUID]) -> Sequence[Outcome]:
            self.batches.append((name, direction, list(subjects)))
            told = [self.answers.get((name, direction), _done)(subject) for subject in subjects]
            done = [subject for subject, said in zip(subjects, told, strict=True) if isinstance(said, Done)]
            await self.note(tx, done, name, direction)
            return told

        return act

    async def note(self, tx: Tx, subjects: Sequence[UUID], what: str, direction: str) -> None:
        await tx.execute(
            "INSERT INTO effects (subject, what, direction) SELECT subject, $2, $3 FROM unnest($1::uuid[]) AS subject",
            subjects, what, direction,
        )  # fmt: skip

    async def begin(self, saga: Saga, count: int = 1, **more: Any) -> list[UUID]:
        """Sagas of new subjects; the subjects, in the order of the sagas."""
        subjects = [uuid4() for _ in range(count)]
        async with self.database.transaction() as tx:
            await start(tx, [Start.of(saga, subject, "test", **more) for subject in subjects])
        return subjects

    async def ask(self, statement: str, *arguments: Any) -> list[Any]:
        async with self.database.connection() as tx:
            return list(await tx.fetch(statement, *arguments))

    async def saga(self, subject: UUID) -> Any:
        return (await self.ask("SELECT *, clock_timestamp() AS clock FROM sagas WHERE subject = $1", subject))[0]

    async def states(self) -> Counter[str]:
        return Counter(row["state"] for row in await self.ask("SELECT state FROM sagas"))

    async def effects(self, subject: UUID) -> list[str]:
        """In order; `-pay` is the undoing of `pay`."""
        rows = await self.ask("SELECT what, direction FROM effects WHERE subject = $1 ORDER BY number", subject)
        return [row["what"] if row["direction"] == "forward" else f"-{row['what']}" for row in rows]

    async def history(self, subject: UUID) -> list[tuple[str, str, int, str]]:
        rows = await self.ask(
            "SELECT saga_attempts.step, saga_attempts.direction, saga_attempts.attempt, outcome FROM saga_attempts"
            " JOIN sagas ON sagas.id = saga_id WHERE subject = $1 ORDER BY at, saga_attempts.ctid", subject
        )  # fmt: skip
        return [tuple(row) for row in rows]


@dataclass
class Outside:
    """A remote action. `reply` is what the other side does; each call is remembered by its key."""

    stage: Stage
    name: str
    reply: Callable[[UUID, str], Awaitable[Any]] | None = None
    calls: list[tuple[UUID, str]] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    breaks_recording: bool = False

    async def prepare(self, tx: Tx, jobs: Sequence[Job]) -> Sequence[Any]:
        self.jobs += jobs
        await self.stage.note(tx, [job.subject for job in jobs], f"{self.name} intended", "forward")
        told = [self.stage.answers.get((self.name, "forward"), _done)(job.subject) for job in jobs]
        return [job.subject if isinstance(said, Done) else said for job, said in zip(jobs, told, strict=True)]

    async def call(self, request: UUID, key: str) -> Any:
        self.calls.append((request, key))
        return await self.reply(request, key) if self.reply else "fine"

    async def record(self, tx: Tx, jobs: Sequence[Job], answers: Sequence[Any]) -> Sequence[Outcome]:
        if self.breaks_recording:
            raise RuntimeError("can't be recorded")
        told = [self._outcome(answer) for answer in answers]
        done = [job.subject for job, said in zip(jobs, told, strict=True) if isinstance(said, Done)]
        await self.stage.note(tx, done, self.name, "forward")
        return told

    @staticmethod
    def _outcome(answer: Any) -> Outcome:
        if isinstance(answer, Exception):
            return Failed(str(answer), "SILENT")
        return answer if isinstance(answer, Refused | Later) else Done()


@pytest.fixture
async def stage(database: Database) -> Stage:
    async with database.transaction() as tx:
        await tx.execute(
            "CREATE TABLE effects (number bigserial PRIMARY KEY, subject uuid NOT NULL, what text NOT NULL,"
            " direction text NOT NULL, xid xid8 DEFAULT pg_current_xact_id(), at timestamptz DEFAULT clock_timestamp())"
        )
    return Stage(database)


def engine(
    stage: Stage,
    *sagas: Saga,
    worker: str = "first",
    lease: timedelta = timedelta(seconds=30),
    serves: Sequence[str] = (A, B, C),
) -> Engine:
    return Engine(stage.database, sagas, worker=worker, lease=lease, serves=serves.__contains__, room=lambda _: 100)


def by_hand(*sagas: Saga) -> Settling:
    """What settles what an operator decides."""
    return Settling(sagas, worker="ana", lease=LEASE, serves=lambda _: False, room=lambda _: 0, alarm=unheard)


async def pump(engine: Engine, *queues: str, limit: int = 100) -> Counter[str]:
    """Run queues, and the calls that come of it, until nothing is due there any more; how many went through each."""
    claimed: Counter[str] = Counter()
    is_busy = True
    while is_busy:
        is_busy = False
        for queue in queues or (A, B, C):
            waiting = [await engine.run(queue, None, limit)]
            claimed[queue] += waiting[0].claimed
            is_busy = is_busy or waiting[0].claimed > 0
            while waiting:
                result = waiting.pop()
                waiting += await asyncio.gather(*(engine.call(call) for call in result.calls))
    return claimed


# Batches


async def test_one_transaction_carries_a_batch_and_each_gets_its_own_answer(stage: Stage) -> None:
    saga = Saga("s", [stage.local("one"), stage.local("two")])
    subjects = await stage.begin(saga, 50)
    refused, waits = set(subjects[::3]), set(subjects[1::3])
    stage.answers["one", "forward"] = lambda subject: (
        Refused("NO") if subject in refused else Later("NOT_YET", timedelta(hours=1)) if subject in waits else Done()
    )
    result = await engine(stage, saga).run(A, None, 100)
    assert (result.claimed, result.completed[A], result.failed[A]) == (50, 50 - len(waits) + 16, 0)
    assert [(name, len(batch)) for name, _, batch in stage.batches] == [("one", 50), ("two", 16)]
    expected = {
        subject: "COMPENSATED" if subject in refused else "RUNNING" if subject in waits else "COMPLETED"
        for subject in subjects
    }
    rows = await stage.ask("SELECT subject, state, reason, ended_at FROM sagas")
    assert {row["subject"]: row["state"] for row in rows} == expected
    assert {row["reason"] for row in rows if row["state"] == "COMPENSATED"} == {"NO"}
    assert len(await stage.ask("SELECT DISTINCT xid FROM effects")) == 1


async def test_steps_of_other_queues_are_handed_on_and_resumed_there(stage: Stage) -> None:
    saga = Saga("s", [stage.local("one", A), stage.local("two", A), stage.local("three", C)])
    (subject,) = await stage.begin(saga, priority=2)
    row = await stage.saga(subject)
    result = await engine(stage, saga, serves=[A]).run(A, [row["id"]], 1)
    assert dict(result.onward) == {(C, 2): [row["id"]]}
    row = await stage.saga(subject)
    assert (row["step"], row["queue"], row["state"], row["reached"]) == ("three", C, "RUNNING", "TWO")
    # Another process, another release's objects: what is stored says where it goes on.
    await pump(engine(stage, Saga("s", list(saga.steps)), serves=[C]), C)
    assert await stage.effects(subject) == ["one", "two", "three"]
    assert (await stage.saga(subject))["state"] == "COMPLETED"
    assert len(await stage.ask("SELECT DISTINCT xid FROM effects")) == 2


async def test_the_rest_of_a_step_comes_last_and_only_for_those_who_are_done(stage: Stage) -> None:
    """After everything else of the transaction, once it is known of each that it is not refused or gone."""
    rests: list[tuple[list[Any], set[str]]] = []

    async def finish(tx: Tx, given: Sequence[Any]) -> None:
        rests.append((list(given), {row["state"] for row in await tx.fetch("SELECT state FROM sagas")}))
        await stage.note(tx, given, "rest", "forward")

    saga = Saga("s", [stage.local("one", finish=finish), stage.local("two")])
    subjects = await stage.begin(saga, 4)
    refused, without, *both = subjects
    told: dict[UUID, Outcome] = {refused: Refused("NO"), without: Done()}
    stage.answers["one", "forward"] = lambda subject: told.get(subject, Done(rest=subject))
    await engine(stage, saga).run(A, None, 10)
    assert rests == [(both, {"COMPLETED", "COMPENSATED"})]
    assert [await stage.effects(subject) for subject in subjects] == [
        [], ["one", "two"], *[["one", "two", "rest"]] * 2
    ]  # fmt: skip


async def test_a_rest_that_raises_takes_back_its_own_saga_alone(stage: Stage) -> None:
    async def finish(tx: Tx, given: Sequence[Any]) -> None:
        await stage.note(tx, given, "rest", "forward")
        if poisoned in given:
            raise ValueError("poisoned")

    saga = Saga("s", [stage.local("one", finish=finish)])
    poisoned, sound = await stage.begin(saga, 2)
    stage.answers["one", "forward"] = lambda subject: Done(rest=subject)
    await pump(engine(stage, saga), A)
    assert (await stage.saga(sound))["state"] == "COMPLETED"
    assert (await stage.saga(poisoned))["state"] == "COMPENSATED"
    assert (await stage.effects(sound), await stage.effects(poisoned)) == (["one", "rest"], [])


async def test_two_groups_that_lock_the_same_never_share_a_transaction(stage: Stage) -> None:
    saga = Saga("s", [stage.local("take", C, locks="stock"), stage.local("sell", C, locks="stock")])
    first = await stage.begin(saga, 3)
    assert (await engine(stage, saga).run(C, None, 100)).claimed == 3
    second = await stage.begin(saga, 3)
    result = await engine(stage, saga).run(C, None, 100)
    assert result.claimed == 6
    assert [name for name, _, _ in stage.batches] == ["take", "sell"], "the other group waits for the next transaction"
    assert len(result.onward[C, 1]) == 3
    await pump(engine(stage, saga), C)
    assert await stage.states() == {"COMPLETED": 6}
    for subject in first + second:
        assert await stage.effects(subject) == ["take", "sell"]


@pytest.mark.parametrize("is_hinted", [True, False])
async def test_a_claim_takes_what_nobody_holds_and_waits_for_nobody(stage: Stage, *, is_hinted: bool) -> None:
    saga = Saga("s", [stage.local("one")])
    held, free = await stage.begin(saga, 2)
    ids = [(await stage.saga(subject))["id"] for subject in (held, free)]
    async with stage.database.transaction() as tx:
        await tx.execute("SELECT 1 FROM sagas WHERE subject = $1 FOR UPDATE", held)
        async with asyncio.timeout(3):
            result = await engine(stage, saga).run(A, ids if is_hinted else None, 10)
        assert result.claimed == 1
        assert await stage.effects(free) == ["one"]
    assert await stage.effects(held) == []


async def test_a_poisoned_saga_fails_alone_and_is_undone_in_reverse(stage: Stage) -> None:
    saga = Saga("s", [stage.local("one"), stage.local("two", C), stage.local("three"), stage.local("four")])
    subjects = await stage.begin(saga, 20)
    poisoned = subjects[7]

    def three(subject: UUID) -> Outcome:
        if subject == poisoned:
            raise RuntimeError("poison")
        return Done()

    stage.answers["three", "forward"] = three
    await pump(engine(stage, saga))
    assert await stage.states() == {"COMPLETED": 19, "COMPENSATED": 1}
    assert await stage.effects(poisoned) == ["one", "two", "-two", "-one"]
    row = await stage.saga(poisoned)
    assert (row["reason"], row["ended_at"] is not None) == ("STEP_FAILED", True)
    assert await stage.history(poisoned) == [
        ("one", "forward", 1, "done"), ("two", "forward", 1, "done"),
        ("three", "forward", 1, "failed"), ("three", "forward", 2, "failed"), ("three", "forward", 3, "failed"),
        ("two", "backward", 1, "done"), ("one", "backward", 1, "done"),
    ]  # fmt: skip
    for subject in subjects:
        if subject != poisoned:
            assert await stage.effects(subject) == ["one", "two", "three", "four"], (
                "each once, however often it was repeated"
            )
    assert len(await stage.ask("SELECT 1 FROM saga_attempts WHERE outcome <> 'done' AND saga_id <> $1", row["id"])) == 0


async def test_the_neighbours_of_a_poisoned_saga_go_on_at_once(stage: Stage) -> None:
    saga = Saga("s", [stage.local("one")])
    poisoned, *others = await stage.begin(saga, 5)

    def poison(subject: UUID) -> Outcome:
        if subject == poisoned:
            raise RuntimeError("poison")
        return Done()

    stage.answers["one", "forward"] = poison
    ids = [(await stage.saga(subject))["id"] for subject in (poisoned, *others)]
    await engine(stage, saga).run(A, ids, 10)
    assert [await stage.effects(subject) for subject in (poisoned, *others)] == [[], *[["one"]] * 4]


async def test_a_compensation_that_fails_is_stuck_said_and_redriven(stage: Stage) -> None:
    saga = Saga("s", [stage.local("one"), stage.local("two"), stage.local("three")])
    stage.answers["three", "forward"] = lambda _: Refused("NO")
    stage.answers["two", "backward"] = lambda _: Failed("the printer is on fire")
    (subject,) = await stage.begin(saga)
    one = engine(stage, saga)
    await pump(one)
    row = await stage.saga(subject)
    assert (row["state"], row["step"], row["direction"], row["attempt"]) == (
        "COMPENSATION_FAILED",
        "two",
        "backward",
        3,
    )
    (letter,) = await stage.ask("SELECT * FROM dead_letters")
    assert (letter["saga_id"], letter["queue"], letter["step"], letter["direction"]) == (
        row["id"],
        A,
        "two",
        "backward",
    )
    assert letter["error"] == "the printer is on fire"
    assert await stage.effects(subject) == ["one", "two"], "nothing is skipped: `one` is not undone before `two`"
    assert (await pump(one)).total() == 0, "it is nobody's to take"
    stage.answers["two", "backward"] = lambda _: Done()
    async with stage.database.transaction() as tx:
        marked = await dead_letters.mark_redriven(tx, None, actor="ana", reason="repaired")
        assert list(marked.values()) == [row["id"]]
        acted, result = await verbs.act(tx, by_hand(saga), [row["id"]], "retry", actor="ana", reason="repaired")
    assert [(one.saga_id, one.refusal) for one in acted] == [(row["id"], None)]
    assert result.onward == {(A, 1): [row["id"]]}
    await pump(one)
    row = await stage.saga(subject)
    assert (row["state"], row["reason"]) == ("COMPENSATED", "NO")
    assert await stage.effects(subject) == ["one", "two", "-two", "-one"]
    assert await stage.history(subject) == [
        ("one", "forward", 1, "done"), ("two", "forward", 1, "done"), ("three", "forward", 1, "refused"),
        ("two", "backward", 1, "failed"), ("two", "backward", 2, "failed"), ("two", "backward", 3, "failed"),
        ("two", "backward", 3, "stuck"), ("two", "backward", 0, "operator"),
        ("two", "backward", 1, "done"), ("one", "backward", 1, "done"),
    ]  # fmt: skip


async def test_later_waits_and_counts_nothing_until_patience_is_over(stage: Stage) -> None:
    patient = Policy(attempts=1, patience=timedelta(minutes=10))
    step, outside = stage.remote("pay", retry=patient)
    saga = Saga("s", [stage.local("one"), step])
    stage.answers["pay", "forward"] = lambda _: Later("BREAKER_OPEN", timedelta(0))
    (subject,) = await stage.begin(saga)
    one = engine(stage, saga)
    assert (await one.run(A, None, 1)).calls == []
    for _ in range(5):
        assert (await one.run(B, None, 1)).claimed == 1
    row = await stage.saga(subject)
    assert (row["state"], row["attempt"], row["note"], row["lease_until"]) == ("RUNNING", 0, "BREAKER_OPEN", None)
    assert await stage.history(subject) == [("one", "forward", 1, "done"), ("pay", "forward", 0, "later")], "said once"
    await stage.ask("UPDATE sagas SET since = now() - interval '11 minutes' RETURNING 1")
    await pump(one)
    row = await stage.saga(subject)
    assert (row["state"], row["reason"], outside.calls) == ("COMPENSATED", "BREAKER_OPEN", [])
    assert (await stage.effects(subject))[-1] == "-one"
    assert "-pay" not in await stage.effects(subject), "nothing went out, so there is nothing to undo"


async def test_of_two_starts_for_a_subject_the_first_stands(stage: Stage) -> None:
    saga, other = Saga("s", [stage.local("one")]), Saga("t", [stage.local("one")])
    subject = uuid4()
    first, second, third = Start.of(saga, subject, "a"), Start.of(saga, subject, "b"), Start.of(other, subject, "c")
    async with stage.database.transaction() as tx:
        assert [due.id for due in await start(tx, [first])] == [first.id]
        assert [due.id for due in await start(tx, [second, third])] == [third.id]
    await pump(engine(stage, saga, other))
    assert await stage.states() == {"COMPLETED": 2}


@pytest.mark.parametrize("stranger", [{"version": 2}, {"kind": "unheard_of"}, {"step": "renamed"}])
async def test_what_another_release_started_is_left_alone_and_holds_up_nobody(
    stage: Stage, stranger: dict[str, Any]
) -> None:
    saga = Saga("s", [stage.local("one")])
    theirs = await stage.begin(saga, 10)
    ((column, value),) = stranger.items()
    await stage.ask(f"UPDATE sagas SET {column} = $1 RETURNING 1", value)
    ours = await stage.begin(saga, 3)
    before = await stage.ask("SELECT * FROM sagas WHERE subject = ANY($1) ORDER BY id", theirs)
    async with asyncio.timeout(10):
        await pump(engine(stage, saga), limit=5)
    assert {(await stage.saga(subject))["state"] for subject in ours} == {"COMPLETED"}
    ids = [row["id"] for row in before]
    assert (await engine(stage, saga).run(A, ids, 10)).claimed == 0
    assert await stage.ask("SELECT * FROM sagas WHERE subject = ANY($1) ORDER BY id", theirs) == before


# Remote steps


async def called(one: Engine, queue: str = B) -> Call:
    """The one call that is due in a queue, its intent committed."""
    result: Result = await until(lambda: _claimed(one, queue))
    (call,) = result.calls
    return call


async def _claimed(one: Engine, queue: str) -> Result | None:
    result = await one.run(queue, None, 10)
    return result if result.claimed else None


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


# Whatever steps answer

SAYS = st.sampled_from(["done", "done", "done", "refused", "failed", "later", "raises"])
NAMES = ["one", "two", "three", "four"]
Script = tuple[list[str], ...]


def answering(script: dict[tuple[UUID, str, Direction], list[str]], name: str, direction: Direction) -> Answer:
    """What is written for a subject, line by line; Done once that is used up."""

    def told(subject: UUID) -> Outcome:
        lines = script.get((subject, name, direction))
        match lines.pop(0) if lines else "done":
            case "refused":
                return Refused("NO")
            case "failed":
                return Failed("broken")
            case "later":
                return Later("NOT_YET", timedelta(0))
            case "raises":
                raise RuntimeError("raised")
        return Done()

    return told


@given(
    scripts=st.lists(st.tuples(*[st.lists(SAYS, max_size=4)] * 8), min_size=1, max_size=6),
    is_remote=st.tuples(*[st.booleans()] * 4),
    serves=st.sampled_from([(A, B, C), (A,), ()]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_saga_ends_done_or_undone_in_reverse_whatever_happens(
    stage: Stage, scripts: list[Script], is_remote: tuple[bool, ...], serves: Sequence[str]
) -> None:
    steps = [
        stage.remote(name, queue)[0] if out else stage.local(name, queue)
        for name, queue, out in zip(NAMES, [A, B, C, A], is_remote, strict=True)
    ]
    saga = Saga("s", steps)
    subjects = await stage.begin(saga, len(scripts))
    turns = [(name, direction) for name in NAMES for direction in get_args(Direction)]
    script = {
        (subject, *turn): list(lines)
        for subject, mine in zip(subjects, scripts, strict=True)
        for turn, lines in zip(turns, mine, strict=True)
    }
    stage.answers = {turn: answering(script, *turn) for turn in turns}
    await pump(engine(stage, saga, serves=serves))
    for subject in subjects:
        await ended_well(stage, subject)


async def ended_well(stage: Stage, subject: UUID) -> None:
    row = await stage.saga(subject)
    effects = [one for one in await stage.effects(subject) if not one.endswith(" intended")]
    forward = [one for one in effects if not one.startswith("-")]
    backward = [one.removeprefix("-") for one in effects if one.startswith("-")]
    assert effects == forward + [f"-{one}" for one in backward], "what is being undone never goes forward again"
    assert forward == NAMES[: len(forward)], "each step once, in order"
    assert set(backward) <= set(NAMES[: len(forward) + 1]), "nothing is undone that can't have happened"
    match row["state"]:
        case "COMPLETED":
            assert effects == NAMES
        case "COMPENSATED":
            assert [one for one in backward if one in forward] == forward[::-1], "all of it, in reverse"
            assert row["reason"]
        case "COMPENSATION_FAILED":
            assert len(await stage.ask("SELECT 1 FROM dead_letters WHERE saga_id = $1", row["id"])) == 1
        case other:
            raise AssertionError(f"{other} is no end")


# Workers


@asynccontextmanager
async def working(
    stage: Stage,
    redis_url: str,
    *sagas: Saga,
    queues: Sequence[str] = (A, B, C),
    in_flight: int = 200,
    gather: float = 0,
) -> AsyncIterator[Streams]:
    streams = Streams.open(redis_url, name="test", block=0.1)
    stop = asyncio.Event()
    lease = timedelta(seconds=0.5)
    worker = Worker(
        stage.database, streams, sagas, name="worker", queues=queues, lease=lease, in_flight=in_flight, gather=gather
    )
    try:
        async with asyncio.TaskGroup() as running:
            running.create_task(worker.run(stop))
            try:
                yield streams
            finally:
                stop.set()
    finally:
        await streams.close()


async def test_a_paused_queue_does_nothing_until_it_is_resumed(stage: Stage, redis_url: str) -> None:
    saga, other = Saga("s", [stage.local("one", A), stage.local("two", C)]), Saga("t", [stage.local("other", B)])
    async with stage.database.connection() as tx:
        await switches.set_paused(tx, A, is_paused=True, actor="ana")
    subjects = await stage.begin(saga, 5)
    streams = Streams.open(redis_url, name="test")
    row = [(await stage.saga(subject))["id"] for subject in subjects]
    await streams.offer(A, row)
    # What a dead worker had read, too: taking over is work.
    await streams._create_groups(A)
    await streams.read(A, "dead", 10)
    await streams.close()
    async with working(stage, redis_url, saga, other):
        # Others are served meanwhile, again and again: the worker has had its time to look.
        for _ in range(4):
            (free,) = await stage.begin(other)
            await until(partial(stage.effects, free))
        idle = await stage.saga(subjects[0])
        await until(
            lambda: stage.ask("SELECT 1 WHERE clock_timestamp() > $1::timestamptz + interval '1.2 s'", idle["clock"])
        )
        assert await stage.ask("SELECT 1 FROM effects WHERE what = 'one'") == []
        async with stage.database.connection() as tx:
            await switches.set_paused(tx, A, is_paused=False, actor="ana")
        await until(lambda: stage.ask("SELECT 1 FROM effects WHERE what = 'two' HAVING count(*) = 5"))


async def test_a_limit_holds_and_can_be_lifted_while_workers_run(stage: Stage, redis_url: str) -> None:
    saga = Saga("s", [stage.local("one")])
    rate = 10
    async with stage.database.connection() as tx:
        await switches.set_limit(tx, A, rate, actor="ana")
    await stage.begin(saga, 200)
    ((begun,),) = await stage.ask("SELECT clock_timestamp()")
    async with working(stage, redis_url, saga):
        ((count, took),) = await until(
            lambda: stage.ask(
                "SELECT count(*), extract(epoch FROM max(at) - $1)::float FROM effects HAVING count(*) >= 25", begun
            )
        )
        assert count <= rate + rate * took, "a burst of one second, then so many a second"
        async with stage.database.connection() as tx:
            await switches.set_limit(tx, A, None, actor="ana")
        ((last,),) = await until(lambda: stage.ask("SELECT max(at) FROM effects HAVING count(*) = 200"))
    assert (last - begun).total_seconds() < 15, "200 at the old limit would take 19 s"


async def test_an_unreadable_message_becomes_a_dead_letter_and_is_gone(stage: Stage, redis_url: str) -> None:
    saga = Saga("s", [stage.local("one")])
    redis = Redis.from_url(redis_url)
    (subject,) = await stage.begin(saga)
    await redis.xadd(stream_of(A, 1), {"ids": b"not sixteen bytes"})
    await redis.xadd(stream_of(A, 1), {"nonsense": b"x"})
    await redis.xadd(stream_of(A, 1), {"ids": (await stage.saga(subject))["id"].bytes})
    async with working(stage, redis_url, saga):
        letters = await until(
            lambda: stage.ask("SELECT * FROM dead_letters WHERE (SELECT count(*) FROM dead_letters) = 2")
        )
        await until(lambda: stage.effects(subject))
        await until(lambda: _is_empty(redis))
    assert {(letter["queue"], letter["step"], letter["error"]) for letter in letters} == {
        (A, "read", "unreadable message")
    }
    assert any("not sixteen bytes" in letter["payload"] for letter in letters)
    await redis.aclose()


async def _is_empty(redis: Redis) -> bool:
    return bool(await redis.xlen(stream_of(A, 1)) == 0)
