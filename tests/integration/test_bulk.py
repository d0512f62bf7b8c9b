"""Acts on many: exactly what a filter showed, once each, whatever happens meanwhile."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from comanda.bulk import bulks, chunks, filters, selection
from comanda.bulk.bulks import Bulk
from comanda.bulk.chunks import Pace, Rehearsal, Worked
from comanda.bulk.filters import BulkVerb, Filter
from comanda.clock import new_id
from comanda.errors import DatabaseFault
from comanda.messaging import switches
from comanda.messaging.dead_letters import DeadLetter, bury
from comanda.messaging.queues import QUEUES
from comanda.saga import Done, Failed, Refused, Saga, verbs
from comanda.sentences import Sentence
from overtaken import Overtaken
from saga_stage import A, Stage, by_hand, engine, pump, stage

__all__ = ["stage"]

FAST = Pace(rate=1000, crowd=100_000)
ALL: Mapping[str, str] = {}


def saga(stage: Stage) -> Saga:
    """One whose `two` can't be undone until it is mended."""
    stage.answers["three", "forward"] = lambda _: Refused("NO")
    stage.answers["two", "backward"] = lambda _: Failed("the printer is on fire")
    return Saga("s", [stage.local("one"), stage.local("two"), stage.local("three")])


async def stuck(stage: Stage, definition: Saga, count: int) -> list[UUID]:
    subjects = await stage.begin(definition, count)
    await pump(engine(stage, definition))
    assert (await stage.states())["COMPENSATION_FAILED"] >= count
    return subjects


def read(of: str, asked: Mapping[str, str] = ALL) -> Filter:
    found = filters.read(of, asked)
    assert isinstance(found, Filter), found
    return found


async def begun(
    stage: Stage,
    verb: BulkVerb = "retry",
    of: str = "stuck",
    asked: Mapping[str, str] = ALL,
    bulk_id: UUID | None = None,
) -> Bulk | None:
    async with stage.database.transaction() as tx:
        selected = await selection.select(tx, read(of, asked), await selection.moment(tx))
        return await bulks.begin(
            tx, bulk_id or new_id(), verb, read(of, asked), selected, actor="ana", reason="seen to"
        )


async def advanced(stage: Stage, definition: Saga, pace: Pace = FAST) -> Worked | None:
    return await chunks.advance(stage.database, lambda _: by_hand(definition), pace)


async def chunk(stage: Stage, definition: Saga) -> Worked:
    """The next one, as soon as it is due."""
    while (worked := await advanced(stage, definition)) is None:
        await asyncio.sleep(0.01)
    return worked


async def worked_off(stage: Stage, definition: Saga, pace: Pace = FAST) -> None:
    while not await stage.ask("SELECT 1 FROM bulk_acts WHERE state = 'ENDED'"):
        await advanced(stage, definition, pace)


async def outcomes(stage: Stage) -> Counter[Any]:
    return Counter(row["outcome"] for row in await stage.ask("SELECT outcome FROM bulk_items"))


async def acts_of(stage: Stage) -> Counter[str]:
    """How often each saga was acted on."""
    rows = await stage.ask("SELECT subject FROM audit WHERE act LIKE 'saga.%'")
    return Counter(row["subject"] for row in rows)


async def test_all_that_are_stuck_are_retried_once_each_in_chunks(stage: Stage) -> None:
    definition = saga(stage)
    await stuck(stage, definition, 250)
    one = await begun(stage)
    assert one is not None
    assert (one.items, one.state) == (250, "RUNNING")
    stage.answers["two", "backward"] = lambda _: Done()
    counts, is_over = [], False
    while not is_over:
        worked = await chunk(stage, definition)
        counts.append(worked.counts["done"])
        assert sum(len(ids) for ids in worked.onward.values()) == worked.counts["done"]
        is_over = worked.standing.state == "ENDED"
    assert await advanced(stage, definition) is None
    assert counts == [100, 100, 50]
    await pump(engine(stage, definition))
    assert await stage.states() == {"COMPENSATED": 250}
    (row,) = await stage.ask("SELECT * FROM bulk_acts")
    assert (row["state"], row["done"], row["refused"], row["failed"]) == ("ENDED", 250, 0, 0)
    assert set((await acts_of(stage)).values()) == {1}
    (told,) = await stage.ask(
        "SELECT count(*) AS count, min(actor) AS actor, min(reason) AS reason, min(detail->>'bulk') AS bulk FROM audit"
        " WHERE act = 'saga.retry' AND detail->>'bulk' = $1", str(one.id)
    )  # fmt: skip
    assert (told["count"], told["actor"], told["reason"]) == (250, "ana", "seen to")
    (line,) = await stage.ask("SELECT * FROM audit WHERE act = 'bulk.start'")
    assert (line["subject"], line["reason"]) == (str(one.id), "seen to")
    async with stage.database.connection() as tx:
        results = await bulks.results(tx, one.id, limit=1000)
        assert [item.position for item in results] == list(range(1, 251))
        assert {item.stands for item in results} == {"COMPENSATING at two (undoing)"}


async def test_two_that_work_on_it_at_once_do_nothing_twice(stage: Stage) -> None:
    definition = saga(stage)
    await stuck(stage, definition, 300)
    await begun(stage)
    await asyncio.gather(*(worked_off(stage, definition, Pace(1000, 100_000)) for _ in range(4)))
    assert await outcomes(stage) == {"done": 300}
    assert Counter((await acts_of(stage)).values()) == {1: 300}


async def test_a_chunk_that_is_lost_is_done_again_whole(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process dies before the commit: nothing of it has happened, neither an act nor an outcome."""
    definition = saga(stage)
    await stuck(stage, definition, 150)
    await begun(stage)
    await advanced(stage, definition)
    settle = bulks.settle

    async def dies(*arguments: Any, **more: Any) -> Bulk:
        await settle(*arguments, **more)
        raise DatabaseFault("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(bulks, "settle", dies)
        with pytest.raises(DatabaseFault):
            await chunk(stage, definition)
    assert await outcomes(stage) == {"done": 100, None: 50}
    assert len(await acts_of(stage)) == 100
    await worked_off(stage, definition)
    assert Counter((await acts_of(stage)).values()) == {1: 150}


async def test_what_was_not_shown_is_not_acted_on(stage: Stage) -> None:
    definition = saga(stage)
    shown = await stuck(stage, definition, 3)
    wanted = read("stuck")
    async with stage.database.connection() as tx:
        seen_at = await selection.moment(tx)
    await stuck(stage, definition, 2)  # after the look
    (moved,) = await stage.ask("SELECT id FROM sagas WHERE subject = $1", shown[0])
    async with stage.database.transaction() as tx:  # stuck again since
        await verbs.act(tx, by_hand(definition), [moved["id"]], "retry", actor="luis", reason="me too")
    await pump(engine(stage, definition))
    async with stage.database.connection() as tx:
        again = await selection.select(tx, wanted, seen_at)
    assert [one.subject for one in again] == shown[1:]


async def test_what_began_before_a_look_and_was_committed_after_it_was_not_shown(stage: Stage) -> None:
    async with stage.database.transaction() as open_one:
        await bury(open_one, [DeadLetter(A, "a", "forward", "late")])
        async with stage.database.connection() as tx:
            seen_at = await selection.moment(tx)
            assert await selection.select(tx, read("letters"), seen_at) == []
    async with stage.database.connection() as tx:
        assert await selection.select(tx, read("letters"), seen_at) == []
        assert len(await selection.select(tx, read("letters"), await selection.moment(tx))) == 1


async def test_one_that_has_moved_on_since_is_left_alone(stage: Stage) -> None:
    """A step that is skipped twice would be another step."""
    definition = saga(stage)
    subjects = await stuck(stage, definition, 3)
    await begun(stage, "skip")
    (first,) = await stage.ask("SELECT id FROM sagas WHERE subject = $1", subjects[0])
    async with stage.database.transaction() as tx:
        await verbs.act(tx, by_hand(definition), [first["id"]], "skip", actor="luis", reason="me too")
    await worked_off(stage, definition)
    async with stage.database.connection() as tx:
        ((bulk,),) = await stage.ask("SELECT id FROM bulk_acts")
        (left,) = await bulks.results(tx, bulk, limit=10, without_done=True)
    assert (left.subject, left.outcome) == (subjects[0], "refused")
    assert left.said == "it has moved on since it was looked at, as stuck at two (undoing): look again"
    assert await outcomes(stage) == {"done": 2, "refused": 1}
    assert Counter((await acts_of(stage)).values()) == {1: 3}


async def test_the_same_form_sent_twice_is_one_act(stage: Stage) -> None:
    definition, bulk_id = saga(stage), new_id()
    await stuck(stage, definition, 2)
    assert await begun(stage, "skip", bulk_id=bulk_id) is not None
    assert await begun(stage, "skip", bulk_id=bulk_id) is None
    ((acts,), (items,)) = await stage.ask("SELECT count(*) FROM bulk_acts UNION ALL SELECT count(*) FROM bulk_items")
    assert (acts, items) == (1, 2)


async def test_one_that_raises_has_failed_and_holds_no_other(stage: Stage) -> None:
    definition = saga(stage)
    subjects = await stuck(stage, definition, 5)
    await begun(stage)
    async with stage.database.transaction() as tx:
        await tx.execute(
            "CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'poison'; END $$"
        )
        await tx.execute(
            "CREATE TRIGGER stumble BEFORE UPDATE ON sagas FOR EACH ROW"
            f" WHEN (OLD.subject = '{subjects[1]}' AND NEW.state = 'COMPENSATING') EXECUTE FUNCTION stumble()"
        )
    await worked_off(stage, definition)
    assert await outcomes(stage) == {"done": 4, "failed": 1}
    rows = await stage.ask("SELECT subject, said FROM bulk_items WHERE outcome = 'failed'")
    assert [row["subject"] for row in rows] == [subjects[1]]
    assert "poison" in rows[0]["said"]
    (left,) = await stage.ask("SELECT state FROM sagas WHERE subject = $1", subjects[1])
    assert left["state"] == "COMPENSATION_FAILED"
    assert Counter((await acts_of(stage)).values()) == {1: 4}


async def test_an_item_has_failed_only_while_it_is_the_next(stage: Stage) -> None:
    definition = saga(stage)
    await stuck(stage, definition, 150)
    await begun(stage)
    async with stage.database.transaction() as tx:
        await tx.execute("ALTER TABLE sagas ADD CONSTRAINT poison CHECK (state <> 'COMPENSATING')")

    async def other() -> None:
        """Whatever it was is over, and a chunk is done."""
        async with stage.database.transaction() as tx:
            await tx.execute("ALTER TABLE sagas DROP CONSTRAINT poison")
        await advanced(stage, definition)

    database: Any = Overtaken(stage.database, other)
    await chunks.advance(database, lambda _: by_hand(definition), FAST)
    await worked_off(stage, definition)
    assert await outcomes(stage) == {"done": 150}


async def test_it_keeps_its_pace(stage: Stage) -> None:
    definition = saga(stage)
    await stuck(stage, definition, 5)
    await begun(stage)
    slow = Pace(rate=2, crowd=100_000)
    first = await advanced(stage, definition, slow)
    assert first is not None
    assert first.counts.total() == 2
    (row,) = await stage.ask("SELECT extract(epoch FROM due_at - created_at)::float AS after FROM bulk_acts")
    assert row["after"] == pytest.approx(1), "two items are a second's worth"


async def test_it_holds_back_while_workers_have_enough_to_do(stage: Stage) -> None:
    definition = saga(stage)
    await stuck(stage, definition, 5)
    await stage.begin(definition, 3)
    await begun(stage)
    held = await advanced(stage, definition, Pace(rate=100, crowd=3))
    assert held is not None
    assert (held.standing.is_held_back, held.standing.worked) == (True, 0)
    assert await advanced(stage, definition, Pace(rate=100, crowd=4)) is None, "not before its pause is over"
    async with stage.database.transaction() as tx:
        await tx.execute("UPDATE bulk_acts SET due_at = now()")
        await switches.set_paused(tx, A, is_paused=True, actor="ana")
    on = await advanced(stage, definition, Pace(rate=100, crowd=3))
    assert on is not None
    assert (on.standing.is_held_back, on.standing.worked) == (False, 5), "what nobody takes keeps nobody busy"


async def test_acts_are_worked_off_in_their_order_but_for_those_that_are_stopped(stage: Stage) -> None:
    definition = saga(stage)
    await stuck(stage, definition, 2)
    first, second = await begun(stage), await begun(stage)
    assert first is not None
    assert second is not None
    async with stage.database.transaction() as tx:
        assert await bulks.resume(tx, [first.id], actor="ana", reason="it runs") == [None]
        (stopped,) = await bulks.stop(tx, [first.id], actor="ana", reason="not yet")
        assert await bulks.stop(tx, [first.id], actor="ana", reason="again") == [None]
    assert stopped is not None
    worked = await advanced(stage, definition)
    assert worked is not None
    assert (worked.standing.id, worked.standing.state) == (second.id, "ENDED")
    assert await advanced(stage, definition) is None
    async with stage.database.transaction() as tx:
        await bulks.resume(tx, [first.id], actor="ana", reason="now")
    worked = await advanced(stage, definition)
    assert worked is not None
    assert (worked.standing.id, dict(worked.counts)) == (first.id, {"refused": 2}), "the second had retried them"
    told = await stage.ask("SELECT act, reason FROM audit WHERE subject = $1 ORDER BY id", str(first.id))
    assert [tuple(row) for row in told] == [
        ("bulk.start", "seen to"), ("bulk.stop", "not yet"), ("bulk.resume", "now"),
    ]  # fmt: skip


async def rehearsed(stage: Stage, definition: Saga, verb: BulkVerb, of: str, asked: Mapping[str, str]) -> Rehearsal:
    return await chunks.rehearse(
        stage.database, stage.database, lambda _: by_hand(definition), read(of, asked), verb, actor="ana"
    )


async def test_a_rehearsal_says_what_would_come_of_it_and_changes_nothing(stage: Stage) -> None:
    definition = saga(stage)
    await stuck(stage, definition, 7)
    everything = (
        "SELECT md5(string_agg(t::text, '' ORDER BY t::text)) AS sum FROM"
        " (SELECT sagas::text AS t FROM sagas UNION ALL SELECT dead_letters::text FROM dead_letters"
        "  UNION ALL SELECT audit::text FROM audit UNION ALL SELECT saga_attempts::text FROM saga_attempts) AS t"
    )
    before = await stage.ask(everything)
    seen = await rehearsed(stage, definition, "compensate", "stuck", {})
    assert (seen.total, seen.looked) == (7, 7)
    assert dict(seen.refused) == {"it is being undone already: retry, skip or resolve it": 7}
    seen = await rehearsed(stage, definition, "skip", "stuck", {"step": "two"})
    assert dict(seen.stands) == {"COMPENSATING at one (undoing)": 7}
    assert [(one.step, one.direction, count) for one, count in seen.groups] == [("two", "backward", 7)]
    seen = await rehearsed(stage, definition, "redrive", "letters", {"error": "ON FIRE"})
    assert dict(seen.stands) == {"COMPENSATING at two (undoing)": 7}
    assert (await rehearsed(stage, definition, "retry", "stuck", {"step": "three"})).total == 0
    assert await stage.ask(everything) == before


async def test_of_many_a_rehearsal_tries_some_of_all(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "SAMPLE", 10)
    definition = saga(stage)
    await stuck(stage, definition, 35)
    seen = await rehearsed(stage, definition, "retry", "stuck", {})
    assert (seen.total, seen.looked, seen.stands.total()) == (35, 10, 10)


async def test_letters_are_closed_with_their_sagas_and_those_that_nobody_could_read_alone(stage: Stage) -> None:
    definition = saga(stage)
    await stuck(stage, definition, 3)
    async with stage.database.transaction() as tx:
        await bury(tx, [DeadLetter(A, "read", "forward", "unreadable message")])
    await begun(stage, "redrive", "letters")
    (taken,) = await stage.ask("SELECT id, saga_id FROM dead_letters WHERE saga_id IS NOT NULL ORDER BY id LIMIT 1")
    async with stage.database.transaction() as tx:
        await verbs.redrive(tx, by_hand(definition), [taken["id"]], actor="luis", reason="me too", limit=1)
    await worked_off(stage, definition)
    rows = await stage.ask("SELECT letter_id, outcome, said, stands FROM bulk_items ORDER BY position")
    assert Counter(row["outcome"] for row in rows) == {"done": 3, "refused": 1}
    (refused,) = [row for row in rows if row["outcome"] == "refused"]
    assert (refused["letter_id"], refused["said"]) == (taken["id"], "somebody else has taken care of this letter")
    assert await stage.ask("SELECT 1 FROM dead_letters WHERE redriven_at IS NULL") == []
    assert Counter((await acts_of(stage)).values()) == {1: 3}


def test_a_filter_that_can_not_be_read_is_refused_and_never_widened() -> None:
    refused = [
        ("everything", {}), ("orders", {}), ("orders", {"queue": "a"}), ("orders", {"age": "-1"}),
        ("orders", {"age": "ten"}), ("orders", {"age": "²"}), ("orders", {"state": "nearly"}),
        ("letters", {"state": "stuck"}), ("stuck", {"age": "1e3"}), ("stuck", {"q": "x"}),
        ("letters", {"queue": "nope"}),
    ]  # fmt: skip
    assert [isinstance(filters.read(of, asked), str) for of, asked in refused] == [True] * len(refused)
    said = filters.read("letters", {"queue": "nope"})
    assert said == f"There is no such queue: choose from {', '.join(QUEUES)}."
    assert isinstance(said, Sentence), "told in Spanish too"
    assert read("orders", {"state": "stuck", "error": " ", "age": "5"}).plain() == {
        "of": "orders", "state": "stuck", "age": "5",
    }  # fmt: skip
    assert filters.verb_of("letters", "skip") is None
    assert filters.verb_of("stuck", "redrive") is None
