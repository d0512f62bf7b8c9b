"""How a process is declared: a table of steps, each an action and its compensation.

What is stored (the saga's name, its steps' names, their marks) is named by hand: a refactoring can't orphan rows.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable
from uuid import UUID

import msgspec

from comanda.errors import DefinitionFault
from comanda.resilience.backoff import Policy

if TYPE_CHECKING:  # the rules run without a database
    from comanda.db import Tx
    from comanda.messaging.dead_letters import DeadLetter

Direction = Literal["forward", "backward"]


class Due(msgspec.Struct, frozen=True):
    """A saga that is due, as a hint names it."""

    id: UUID
    queue: str
    priority: int


class Done(msgspec.Struct, frozen=True):
    """It happened. `started`: the sagas that it started, so that they are hinted at after the commit.

    `rest`: what the step's `finish` is given for it. `is_by_hand`: an operator says so, and no handler has recorded it.
    """

    started: tuple[Due, ...] = ()
    rest: Any = None
    is_by_hand: bool = False


class Refused(msgspec.Struct, frozen=True):
    """It did not happen and never will; the steps before it are undone. `reason` is a stable code.

    `is_unsure`: an attempt before this one was never accounted for, so the step itself is undone too.
    """

    reason: str
    is_unsure: bool = False


class Later(msgspec.Struct, frozen=True):
    """Not tried: no attempt is counted, until the step's patience is over."""

    reason: str
    after: timedelta


class Failed(msgspec.Struct, frozen=True):
    """Tried, and not known to have happened: tried again by policy, then undone as if it had.

    `code` becomes the saga's reason if this was the last attempt.
    """

    error: str
    code: str = "STEP_FAILED"


Outcome = Done | Refused | Later | Failed
DONE = Done()


class Job(msgspec.Struct, frozen=True):
    """One subject at one remote step.

    `key` is the same for every attempt; `attempt` is 1 for the first; `since`: when it came to this step, in
    Unix time.
    """

    saga_id: UUID
    subject: UUID
    key: str
    attempt: int
    since: float


class Passage(msgspec.Struct, frozen=True):
    """That a subject passed a point of its process; told to `Saga.follow` in the transaction that moves it on.

    `exhausted`: its patience is over, and it is undone; `stuck`: it stands there until an operator says how it goes on.
    `is_by_hand`: it is done, says an operator.
    """

    subject: UUID
    step: str
    direction: Direction
    event: Literal["begun", "done", "refused", "exhausted", "stuck"]
    reason: str | None = None
    is_by_hand: bool = False


LocalAction = Callable[["Tx", Sequence[UUID]], Awaitable[Sequence[Outcome]]]
Finish = Callable[["Tx", Sequence[Any]], Awaitable[None]]
Ending = Callable[["Tx", Sequence[UUID], Sequence[str]], Awaitable[Sequence[Due]]]
Following = Callable[["Tx", Sequence[Passage]], Awaitable[None]]
Alarm = Callable[["Tx", Sequence["DeadLetter"]], Awaitable[Sequence[Due]]]


class RemoteAction(Protocol):
    """An action outside. Whatever it does there must be harmless when repeated under the same key."""

    async def prepare(self, tx: "Tx", jobs: Sequence[Job]) -> Sequence[Any | Outcome]:
        """Store the intent of each; what `call` will be given, or an outcome that needs no call."""

    async def call(self, request: Any, key: str) -> Any:
        """Do it, with no transaction open. Raises a `Fault` when there is no answer."""

    async def record(self, tx: "Tx", jobs: Sequence[Job], answers: Sequence[Any]) -> Sequence[Outcome]:
        """Store the result of each; an answer is what `call` returned, or the exception that it raised."""


@runtime_checkable
class Findable(Protocol):
    """An action outside that can be looked for afterwards."""

    async def is_done(self, key: str) -> bool:
        """Whether it was carried out under this key. Raises a `Fault` when there is no answer."""


async def nothing(_tx: "Tx", subjects: Sequence[UUID]) -> Sequence[Outcome]:
    """For a step that leaves nothing behind."""
    return [DONE] * len(subjects)


async def unheard(_tx: "Tx", _letters: Sequence["DeadLetter"]) -> Sequence[Due]:
    """Nobody wants to be called about dead letters: log and metric have to do."""
    return ()


async def _no_ending(_tx: "Tx", _subjects: Sequence[UUID], _reasons: Sequence[str]) -> Sequence[Due]:
    return ()


async def _no_following(_tx: "Tx", _passages: Sequence[Passage]) -> None:
    return


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the table.

    `reached` is the mark that stands once the action is done; `under_way` the one while a remote action is out.
    `retry` bounds the action, `undo_retry` its compensation.
    """

    name: str
    action: LocalAction | RemoteAction
    compensate: LocalAction | RemoteAction
    queue: str
    reached: str
    is_remote: bool
    retry: Policy = Policy()
    undo_retry: Policy = Policy(attempts=7)
    under_way: str | None = None
    # Runs in the transaction that prepares a remote action, and may refuse it before anything goes out.
    alongside: LocalAction | None = None
    # The rest of a local action, as the last thing before the commit: what it locks there, others wait for.
    finish: Finish | None = None
    # What it locks rows of, for one group of sagas in one order. Two groups that lock the same don't share a
    # transaction: together they would lock it in two orders, and deadlock with another worker.
    locks: str | None = None
    # Where an action that ran out of attempts leads: undo everything, or wait for an operator.
    exhausted: Literal["undo", "stuck"] = "undo"

    def acts_remotely(self, direction: Direction) -> bool:
        return not callable(self.action if direction == "forward" else self.compensate)

    def handler(self, direction: Direction) -> Any:
        return self.action if direction == "forward" else self.compensate

    def policy(self, direction: Direction) -> Policy:
        return self.retry if direction == "forward" else self.undo_retry


def local(name: str, action: LocalAction, compensate: LocalAction, *, queue: str, reached: str, **more: Any) -> Step:
    """A step inside the transaction that also moves the saga on: a crash leaves nothing."""
    return Step(name, action, compensate, queue, reached, is_remote=False, **more)


def remote(
    name: str, action: RemoteAction, compensate: LocalAction | RemoteAction, *, queue: str, reached: str, **more: Any
) -> Step:
    """A step outside: the intent is committed first, then the call, then the result."""
    return Step(name, action, compensate, queue, reached, is_remote=True, **more)


@dataclass(frozen=True)
class Saga:
    """A process as a table.

    Args:
        name: as it is stored.
        steps: in order; undone in reverse.
        version: running sagas stay with the version that they started under.
        undone: told, in the same transaction, about those whose last compensation is done, and why; may start sagas.
        follow: told about each passage (see `Passage`).
        started: the mark before the first step.
        is_for_good: what went out can't be called back: it is called off only once it is stuck, and where the other
            side says that it was never carried out; so a remote action that is its first step is `Findable`.
    """

    name: str
    steps: Sequence[Step]
    version: int = 1
    undone: Ending = _no_ending
    follow: Following = _no_following
    started: str = "STARTED"
    is_for_good: bool = False
    _positions: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positions = {step.name: index for index, step in enumerate(self.steps)}
        if not self.steps or len(positions) != len(self.steps):
            raise DefinitionFault(f"saga {self.name}: a saga has steps, and each a name of its own")
        if late := [step.name for step in self.steps if step.is_remote and step.finish is not None]:
            raise DefinitionFault(f"saga {self.name}: {', '.join(late)}: what a remote step leaves is in its `record`")
        object.__setattr__(self, "_positions", positions)

    def __getitem__(self, step: str) -> Step:
        return self.steps[self.position(step)]

    def position(self, step: str) -> int:
        try:
            return self._positions[step]
        except KeyError:
            raise DefinitionFault(f"saga {self.name} v{self.version} has no step named {step}") from None

    @property
    def first(self) -> Step:
        return self.steps[0]
