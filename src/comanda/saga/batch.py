"""One transaction's work in memory, and what it led to."""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from comanda.messaging.dead_letters import DeadLetter
from comanda.saga.definition import Direction, Finish, Job, Later, Outcome, Passage, Refused, Saga, Step
from comanda.saga.log import Attempt, Claimed, Moved
from comanda.saga.transitions import State


class Call(msgspec.Struct, frozen=True):
    """A remote step whose intent is committed and whose lease we hold."""

    saga: Saga
    step: Step
    direction: Direction
    job: Job
    request: Any
    token: int
    correlation_id: str
    traceparent: str | None


class Answered(msgspec.Struct, frozen=True):
    call: Call
    answer: Any
    duration_ms: float
    began: float = msgspec.field(default_factory=time.time)


@dataclass
class Result:
    """What a transaction led to, for after its commit."""

    claimed: int = 0
    calls: list[Call] = field(default_factory=list)
    onward: dict[tuple[str, int], list[UUID]] = field(default_factory=lambda: defaultdict(list))
    completed: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    # Left out of a batch: workers may have died of them.
    suspects: list[UUID] = field(default_factory=list)

    def add(self, other: "Result") -> None:
        """With what another transaction led to."""
        self.claimed += other.claimed
        self.calls += other.calls
        for target, some in other.onward.items():
            self.onward[target] += some
        self.completed += other.completed
        self.failed += other.failed

    def hint(self, queue: str, priority: int, saga_id: UUID) -> None:
        """Somebody has to be told that this saga is due there."""
        self.onward[queue, priority].append(saga_id)


@dataclass
class Batch:
    """One transaction's work in memory; written at its end in one statement for the rows and one for the history."""

    frontier: list[Claimed]
    is_chained: bool
    # Which steps it carries, for failpoints: `step:order.process_payment.forward`.
    about: list[str] = field(default_factory=list)
    moves: dict[UUID, Moved] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    passages: dict[tuple[str, int], list[Passage]] = field(default_factory=lambda: defaultdict(list))
    letters: list[DeadLetter] = field(default_factory=list)
    ended: list[tuple[str, State, UUID]] = field(default_factory=list)
    # Remote calls of each queue that this transaction has room reserved for.
    bound: Counter[str] = field(default_factory=Counter)
    locked: set[str] = field(default_factory=set)
    rests: list[tuple[Finish, list[Any]]] = field(default_factory=list)
    result: Result = field(default_factory=Result)
    # When the transaction began, and when the calls did whose answers it records; in Unix time.
    began: float = field(default_factory=time.time)
    called_at: dict[tuple[UUID, str, Direction], float] = field(default_factory=dict)


def key_of(saga_id: UUID, step: str, direction: Direction) -> str:
    """The name of an effect outside: the same for every attempt."""
    return f"{saga_id}:{step}:{direction}"


def attempted(saga_id: UUID, step: str, direction: Direction, since: float, attempt: int) -> tuple[object, ...]:
    """What names an attempt in its trace; after an operator's retry they are counted anew, from another moment on."""
    return saga_id, step, direction, since, attempt


def unsure(one: Claimed, outcome: Outcome) -> Outcome:
    """A refusal before the call says nothing of the calls that went out earlier: those are undone as well."""
    return msgspec.structs.replace(outcome, is_unsure=True) if isinstance(outcome, Refused) and one.attempt else outcome


def counted(one: Claimed, outcome: Outcome) -> int:
    """The attempts with this one. *Later* is none: nothing was tried."""
    return one.attempt if isinstance(outcome, Later) else one.attempt + 1


@dataclass(frozen=True, slots=True)
class Unrecordable:
    """An answer whose recording raised: the attempt counts as failed."""

    error: str

    def __str__(self) -> str:
        return f"its result could not be recorded: {self.error}"
