"""Where a saga goes after an outcome. Pure: no clock, no database, no chance of its own."""

from datetime import timedelta
from typing import Literal

import msgspec

from comanda.errors import DefinitionFault
from comanda.saga.definition import Direction, Done, Failed, Later, Outcome, Refused, Saga, Step

State = Literal["RUNNING", "COMPENSATING", "COMPLETED", "COMPENSATED", "COMPENSATION_FAILED"]
OPEN: tuple[State, ...] = ("RUNNING", "COMPENSATING")
ENDED: tuple[State, ...] = ("COMPLETED", "COMPENSATED")


class Standing(msgspec.Struct, frozen=True):
    """Where a saga stands: at `step`, in `direction`, with `attempt` attempts begun there since `waited`."""

    step: str
    direction: Direction
    attempt: int
    waited: timedelta
    reached: str
    reason: str | None


class Move(msgspec.Struct, frozen=True):
    """Where it goes. `wait` is None when it is due at once; `is_new_step` resets attempts and patience."""

    state: State
    step: str
    direction: Direction
    queue: str
    attempt: int
    wait: timedelta | None
    reached: str
    reason: str | None
    is_new_step: bool
    event: Literal["done", "refused", "exhausted", "stuck"] | None = None

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED

    @property
    def is_stuck(self) -> bool:
        return self.state == "COMPENSATION_FAILED"


def advance(saga: Saga, at: Standing, outcome: Outcome, chance: float) -> Move:
    """The one table of moves.

    forward:  done → the next step, or COMPLETED; refused → undo what came before; later → wait, nothing counted;
              failed → wait and try again, or, out of attempts: undo, this step included (it may have happened).
    backward: done → undo the step before, or COMPENSATED; later → wait;
              failed or refused → wait and try again, or, out of attempts: stuck. Never skipped.

    Args:
        saga: the definition.
        at: where it stands; `attempt` includes the one that this outcome ended.
        outcome: what the action or compensation answered.
        chance: a draw from [0, 1) for the jitter.
    """
    step = saga[at.step]
    policy = step.policy(at.direction)
    match at.direction, outcome:
        case "forward", Done():
            return _onward(saga, step, at)
        case "forward", Refused(reason, is_unsure):
            return _undo(saga, saga.position(step.name) - (0 if is_unsure else 1), at, reason, "refused")
        case "forward", Later(reason, after):
            if policy.patience is None or at.waited < policy.patience:
                return _again(step, at, after)
            # Nothing ever went out: it is as good as refused. Else it may have happened, and is undone too.
            last = saga.position(step.name) - (0 if at.attempt else 1)
            return _given_up(saga, step, at, last, reason)
        case "forward", Failed(_, code):
            if not policy.is_over(at.attempt, at.waited):
                return _again(step, at, policy.wait(at.attempt, chance))
            last = saga.position(step.name) - (0 if step.is_remote else 1)
            return _given_up(saga, step, at, last, code)
        case "backward", Done():
            return _undo(saga, saga.position(step.name) - 1, at, at.reason or "", "done")
        case "backward", Later(_, after):
            return _again(step, at, after)
        case "backward", (Failed() | Refused()):
            if not policy.is_over(at.attempt, at.waited):
                return _again(step, at, policy.wait(at.attempt, chance))
            return _stuck(step, at, at.reason)
    raise DefinitionFault(f"{saga.name}.{step.name}: {outcome!r} is no outcome")


def abandon(saga: Saga, at: Standing, reason: str) -> Move:
    """Where a saga goes that is not even tried any more: nowhere, until an operator says so."""
    return _stuck(saga[at.step], at, reason if at.direction == "forward" else at.reason)


def _onward(saga: Saga, step: Step, at: Standing) -> Move:
    following = saga.position(step.name) + 1
    if following == len(saga.steps):
        return Move("COMPLETED", step.name, "forward", step.queue, 0, None, step.reached, at.reason, True, "done")
    ahead = saga.steps[following]
    return Move("RUNNING", ahead.name, "forward", ahead.queue, 0, None, step.reached, at.reason, True, "done")


def _undo(saga: Saga, position: int, at: Standing, reason: str, event: Literal["done", "refused", "exhausted"]) -> Move:
    if position < 0:
        first = saga.first
        return Move("COMPENSATED", first.name, "backward", first.queue, 0, None, at.reached, reason, True, event)
    step = saga.steps[position]
    return Move("COMPENSATING", step.name, "backward", step.queue, 0, None, at.reached, reason, True, event)


def _given_up(saga: Saga, step: Step, at: Standing, last: int, reason: str) -> Move:
    if step.exhausted == "stuck":
        return _stuck(step, at, reason)
    return _undo(saga, last, at, reason, "exhausted")


def _again(step: Step, at: Standing, wait: timedelta) -> Move:
    state: State = "RUNNING" if at.direction == "forward" else "COMPENSATING"
    reached = at.reached
    return Move(state, step.name, at.direction, step.queue, at.attempt, wait, reached, at.reason, False)


def _stuck(step: Step, at: Standing, reason: str | None) -> Move:
    return Move(
        "COMPENSATION_FAILED",
        step.name,
        at.direction,
        step.queue,
        at.attempt,
        None,
        at.reached,
        reason,
        False,
        "stuck",
    )
