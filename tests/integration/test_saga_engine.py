"""The engine without the shop: small sagas, driven by hand, so that each crash has its moment."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, get_args
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comanda.db import Tx
from comanda.resilience.backoff import Policy
from comanda.saga import Done, Failed, Later, Outcome, Refused, Saga, Start, start, verbs
from comanda.saga.definition import Direction
from saga_stage import A, Answer, B, C, Stage, by_hand, engine, pump, stage

__all__ = ["stage"]


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
        acted, closed, result = await verbs.redrive(tx, by_hand(saga), None, actor="ana", reason="repaired", limit=10)
    assert closed == {letter["id"]}
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
