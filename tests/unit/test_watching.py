"""What a client that polls an order's status is told to be new."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args
from uuid import UUID

from comanda.api.watching import _tag
from comanda.orders.reads import State, Status

NOBODY = UUID(int=0)


def test_whatever_a_status_shows_has_another_tag_though_it_bears_the_same_time() -> None:
    """A parcel that was begun before the saga's last step, and is committed after it, bears that step's time."""
    confirmed = Status(NOBODY, NOBODY, "CONFIRMED", "COMPLETED", "CONFIRMED", None, datetime(2026, 11, 30, tzinfo=UTC))
    others = [replace(confirmed, state=state) for state in get_args(State) if state != "CONFIRMED"]
    others += [replace(confirmed, saga_state="COMPENSATED"), replace(confirmed, reached="STOCK_VERIFIED")]
    assert len({_tag(one) for one in [confirmed, *others]}) == 1 + len(others)
