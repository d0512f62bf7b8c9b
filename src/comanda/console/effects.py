"""What an act on a saga leads to, in sentences (English: the pages translate them). Pure."""

from collections.abc import Mapping
from typing import Any

from comanda.saga.batch import key_of
from comanda.saga.definition import Saga
from comanda.saga.verbs import Verb

Sentence = tuple[str, dict[str, str]]

_SAME_KEY = (
    "The other side is asked with the same key as before ({key}): what it has done already it does not do twice."
)


def of(verb: Verb, saga: Mapping[str, Any], definition: Saga) -> list[Sentence]:
    """What will happen when `verb` is done to a saga that stands as its row says."""
    step = definition[saga["step"]]
    names = {"step": step.name, "key": key_of(saga["id"], step.name, saga["direction"]), "queue": step.queue}
    is_remote = step.acts_remotely(saga["direction"])
    match verb:
        case "retry" if is_remote:
            return [
                ("{step} is tried again by a worker of {queue}, with all attempts before it.", names),
                (_SAME_KEY, names),
            ]
        case "retry":
            return [
                ("{step} is tried again by a worker of {queue}, with all attempts before it.", names),
                ("The step runs in one transaction: what an earlier attempt began has left nothing behind.", names),
            ]
        case "skip":
            return [
                ("{step} counts as done, without being done: nothing is called and nothing is booked.", names),
                (
                    "If that is not so in truth, money, stock or a message will be missing: `comanda doctor` finds it.",
                    names,
                ),
            ]
        case "compensate":
            done = [one.name for one in definition.steps[: definition.position(step.name)]]
            undone = ", ".join(reversed(done)) or "—"
            return [
                ("What is done is undone in reverse: {undone}.", {"undone": undone}),
                ("An order ends CANCELLED; its stock is let go, its money given back, and the customer is told.", {}),
            ]
        case _:
            return [
                ("It ends as undone. Nothing more is called or booked: you have undone the rest by hand.", {}),
            ]
