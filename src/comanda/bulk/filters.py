"""What an operator asked for, by the names that the console and the command line share. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from comanda.messaging.queues import QUEUES
from comanda.orders.model import OrderState
from comanda.saga.verbs import Verb
from comanda.sentences import choose

Target = Literal["orders", "stuck", "letters"]
BulkVerb = Literal["retry", "skip", "compensate", "resolve", "redrive"]

FIELDS: Mapping[Target, Sequence[str]] = {
    "orders": ("q", "product", "error", "state", "step", "age"),
    "stuck": ("kind", "step", "error", "age"),
    "letters": ("fingerprint", "error", "queue", "step", "age"),
}
VERBS: Mapping[Target, Sequence[BulkVerb]] = {
    "orders": get_args(Verb),
    "stuck": get_args(Verb),
    "letters": ("redrive",),
}
STATES = ("stuck", "open", *(one for one in OrderState))
OLDEST = 60 * 24 * 365
"""Minutes: an age beyond this is this."""


@dataclass(frozen=True, slots=True)
class Filter:
    """`asked`: the fields that were set, by name; all of them hold."""

    of: Target
    asked: Mapping[str, str]

    def get(self, name: str) -> str | None:
        """A field; None where it was not set."""
        return self.asked.get(name)

    @property
    def age(self) -> int | None:
        """Minutes that it has been there at least."""
        found = self.asked.get("age")
        return None if found is None else min(int(found), OLDEST)

    def plain(self) -> dict[str, str]:
        """As it is stored."""
        return {"of": self.of, **self.asked}


def read(of: str, given: Mapping[str, str]) -> Filter | str:
    """The filter that these fields say (empty ones say nothing), or what is wrong with it.

    Nothing is passed over: what could not be read would widen the filter.
    """
    if of not in FIELDS:
        return "A filter is of orders, stuck or letters."
    target = cast("Target", of)
    asked = {name: value.strip() for name, value in given.items() if value.strip()}
    if set(asked) - set(FIELDS[target]):
        return choose("There is no such field to filter by: choose from {choices}.", FIELDS[target])
    age, state = asked.get("age"), asked.get("state")
    if age is not None and not (age.isascii() and age.isdigit() and len(age) < 9):
        return "An age is a number of minutes."
    if state is not None and state not in STATES:
        return choose("There is no such state: choose from {choices}.", STATES)
    if asked.get("queue") not in {None, *QUEUES}:
        return choose("There is no such queue: choose from {choices}.", QUEUES)
    if target == "orders" and not asked:
        return "Say which orders: a filter has at least one field."
    return Filter(target, asked)


def verb_of(target: Target, verb: str) -> BulkVerb | None:
    """The verb, where it can be done to these."""
    return next((one for one in VERBS[target] if one == verb), None)
