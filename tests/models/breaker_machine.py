"""The breaker against a list of what happened: its rules alone, and the one row that all workers share."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant

from comanda.db import Tx
from comanda.payments.breaker import SharedBreaker, is_open
from comanda.resilience.breaker import Breaker, Rule, State, admitted, after, probing
from steps import Ground, Machine, Tally, step

THRESHOLD = 5
PAUSE = timedelta(seconds=5)
START = datetime(2026, 1, 1, tzinfo=UTC)
Event = Literal["answer", "failure", "probe"]
ANSWERS = st.one_of(
    st.lists(st.just(value=False), min_size=1, max_size=5), st.lists(st.booleans(), min_size=1, max_size=3)
)


@dataclass
class Diary:
    """Everything that happened, with its time. What may go out is read from there, each time anew."""

    pause: timedelta
    events: list[tuple[datetime, Event]] = field(default_factory=list)

    def write(self, now: datetime, *events: Event) -> None:
        self.events += [(now, one) for one in events]

    @property
    def since_the_last_answer(self) -> list[tuple[datetime, Event]]:
        last = max((n for n, (_, what) in enumerate(self.events) if what == "answer"), default=-1)
        return self.events[last + 1 :]

    @property
    def failures(self) -> int:
        return sum(what == "failure" for _, what in self.since_the_last_answer)

    @property
    def state(self) -> State:
        if self.failures < THRESHOLD:
            return State.CLOSED
        return State.HALF_OPEN if self.events[-1][1] == "probe" else State.OPEN

    def passes(self, wanted: int, now: datetime) -> int:
        if self.state is State.CLOSED:
            return wanted
        return min(wanted, 1) if now >= self.events[-1][0] + self.pause else 0


class BreakerMachine(Machine):
    """Calls go out and come back late, in any order, while time passes."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self.breaker = Breaker()
        self.rule = Rule(THRESHOLD, PAUSE)
        self.diary = Diary(PAUSE)
        self.now = START
        self.out = 0
        self.probes: list[datetime] = []

    @step(seconds=st.integers(0, 9))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @step(failures=st.integers(1, 8))
    def many_go_out_and_fail(self, failures: int) -> None:
        count = self._go_out(failures)
        self.out -= count
        self._come_back([False] * count)

    @step(wanted=st.integers(0, 6))
    def calls_want_to_go_out(self, wanted: int) -> None:
        self._go_out(wanted)

    def _go_out(self, wanted: int) -> int:
        count = admitted(self.breaker, wanted, self.now)
        assert count == self.diary.passes(wanted, self.now)
        self.out += count
        if count and self.breaker.state is not State.CLOSED:
            self.breaker = probing(self.breaker, self.rule, self.now)
            self.diary.write(self.now, "probe")
            assert not self.probes or self.now - self.probes[-1] >= PAUSE, "one probe in a pause, never more"
            self.probes.append(self.now)
            self.saw("probe")
        return count

    @step(answers=ANSWERS)
    def some_come_back(self, answers: list[bool]) -> None:
        told = answers[: self.out]
        self.out -= len(told)
        self._come_back(told)

    def _come_back(self, told: list[bool]) -> None:
        self.breaker = after(self.breaker, told, self.rule, self.now)
        self.diary.write(self.now, *("answer" if one else "failure" for one in told))
        if told and told[-1]:
            assert self.breaker == Breaker(), "any answer closes it"

    @invariant()
    def it_is_what_the_diary_says(self) -> None:
        assert self.breaker.state is self.diary.state
        assert self.breaker.failures == self.diary.failures
        self.saw(self.breaker.state)


class SharedBreakerMachine(Machine):
    """Three workers and one row. A pause is an hour of PostgreSQL's, and passes when the row is told so."""

    PAUSE = timedelta(hours=1)

    def __init__(self, tally: Tally, ground: Ground) -> None:
        super().__init__(tally)
        self.ground = ground
        self.workers = [SharedBreaker(ground.database, Rule(THRESHOLD, self.PAUSE)) for _ in range(3)]
        self.failures = 0
        self.is_due = False
        self.is_probed = False
        self.is_ramping = False

    @initialize(failures=st.sampled_from([0, 3, 4, 5, 6]))
    def it_starts_closed_or_not(self, failures: int) -> None:
        async def closed(tx: Tx) -> None:
            await tx.execute("UPDATE breakers SET state = 'CLOSED', failures = 0, probe_at = NULL, ramp_since = NULL")

        self.ground.do(closed)
        self._count([False] * failures)

    @step(wishes=st.lists(st.integers(0, 4), max_size=3))
    def a_pause_passes_and_some_ask(self, wishes: list[int]) -> None:
        async def passed(tx: Tx) -> None:
            await tx.execute("UPDATE breakers SET probe_at = now() WHERE probe_at IS NOT NULL")

        self.ground.do(passed)
        self.is_due = True
        self._ask_at_once(wishes)

    async def _admit(self, tx: Tx, worker: int, wanted: int) -> int:
        count, waits = await self.workers[worker].admit(tx, wanted)
        assert 0 <= count <= wanted
        assert len(waits) == wanted - count
        assert all(timedelta(0) < wait <= self.PAUSE * 1.11 for wait in waits)
        return count

    def _expect(self, counts: Sequence[int], wishes: Sequence[int]) -> None:
        if self.failures < THRESHOLD:
            if self.is_ramping:  # at what pace is another test's business
                assert all(count <= wish for count, wish in zip(counts, wishes, strict=True))
            else:
                assert list(counts) == list(wishes)
            return
        assert sum(counts) == (1 if self.is_due and any(wishes) else 0), "one probe for all workers"
        if sum(counts):
            self.is_due, self.is_probed = False, True
            self.saw("probe")

    @step()
    def nobody_is_held_back_for_a_while(self) -> None:
        async def passed(tx: Tx) -> None:
            await tx.execute("UPDATE breakers SET ramp_held_at = ramp_held_at - interval '1 minute'")

        self.ground.do(passed)
        if self.failures < THRESHOLD:
            self.is_ramping = False
            self._expect([self.ground.do(lambda tx: self._admit(tx, 0, 3))], [3])

    @step(worker=st.integers(0, 2), wanted=st.integers(0, 6))
    def one_asks(self, worker: int, wanted: int) -> None:
        self._expect([self.ground.do(lambda tx: self._admit(tx, worker, wanted))], [wanted])

    @step(wishes=st.lists(st.integers(0, 4), min_size=2, max_size=3))
    def several_ask_at_once(self, wishes: list[int]) -> None:
        self._ask_at_once(wishes)

    def _ask_at_once(self, wishes: Sequence[int]) -> None:
        async def asked() -> list[int]:
            return await asyncio.gather(*(self._asking(worker, wanted) for worker, wanted in enumerate(wishes)))

        self._expect(self.ground.run(asked()), wishes)

    async def _asking(self, worker: int, wanted: int) -> int:
        return await self.ground.commit(lambda tx: self._admit(tx, worker, wanted))

    @step(worker=st.integers(0, 2))
    def who_asks_and_crashes_has_not_probed(self, worker: int) -> None:
        async def crashed() -> None:
            async with self.ground.database.connection() as tx:
                around = tx.transaction()
                await around.start()
                await self._admit(tx, worker, 1)
                await around.rollback()

        self.ground.run(crashed())

    @step(worker=st.integers(0, 2), answers=ANSWERS)
    def one_counts(self, worker: int, answers: list[bool]) -> None:
        self._count(answers, worker)

    def _count(self, answers: Sequence[bool], worker: int = 0) -> None:
        async def counted() -> None:
            await asyncio.gather(*(self.workers[worker].count(is_answer=one) for one in answers))

        self.ground.run(counted())
        self._hear(answers)

    @step(answers=st.lists(st.sampled_from([True, False, False]), min_size=2, max_size=3))
    def several_count_at_once(self, answers: list[bool]) -> None:
        """In any order: what stands after it tells in which, and no failure is lost."""

        async def counted() -> None:
            counting = zip(self.workers, answers, strict=False)
            await asyncio.gather(*(worker.count(is_answer=one) for worker, one in counting))

        self.ground.run(counted())
        failed = answers.count(False)
        (row,) = self.ground.ask("SELECT failures FROM breakers")
        if failed == len(answers):
            self._hear(answers)
        else:
            assert 0 <= row["failures"] <= failed, "there was an answer: only failures after it stand"
            self._hear([False] * (failed - row["failures"]) + [True] + [False] * row["failures"])

    @step(worker=st.integers(0, 2), wanted=st.integers(1, 4), is_answer=st.booleans())
    def one_asks_while_another_counts(self, worker: int, wanted: int, is_answer: bool) -> None:
        """The question comes before or after: nothing in between passes."""

        async def both() -> int:
            counting = self.workers[worker - 1].count(is_answer=is_answer)
            count, _ = await asyncio.gather(self._asking(worker, wanted), counting)
            return count

        count = self.ground.run(both())
        was_open = self.failures >= THRESHOLD
        opens = not was_open and not is_answer and self.failures + 1 == THRESHOLD
        before = (1 if self.is_due else 0) if was_open else wanted
        later = wanted if is_answer or not (was_open or opens) else 0
        is_ramping = self.is_ramping or (was_open and is_answer)
        # While the other one has the row, nobody waits for it.
        assert count in {before, later} or (was_open and not count) or (is_ramping and count <= max(before, later))
        self._hear([is_answer])

    def _hear(self, answers: Sequence[bool]) -> None:
        for is_answer in answers:
            was_open = self.failures >= THRESHOLD
            self.failures = 0 if is_answer else self.failures + 1
            if was_open or self.failures >= THRESHOLD:
                self.is_due = self.is_probed = False
                self.is_ramping = is_answer
                self.saw("closed" if is_answer else "opened")

    @invariant()
    def the_row_says_so(self) -> None:
        (row,) = self.ground.ask("SELECT state, failures, probe_at <= now() AS is_due FROM breakers")
        is_closed = self.failures < THRESHOLD
        assert row["state"] == (State.CLOSED if is_closed else State.HALF_OPEN if self.is_probed else State.OPEN)
        assert row["failures"] == self.failures
        assert is_closed or row["is_due"] == self.is_due
        assert self.ground.do(is_open) == (not is_closed and not self.is_due), (
            "nobody waits: a probe that is due is free"
        )
