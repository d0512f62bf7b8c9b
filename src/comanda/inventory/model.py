"""Who gets what of the stock: a pure rule over a batch."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

Place = tuple[UUID, str]
"""A product at a location."""


class Demand(msgspec.Struct, frozen=True):
    """What one order needs: units of each product."""

    order_id: UUID
    quantities: Mapping[UUID, int]


class Share(msgspec.Struct, frozen=True):
    """Units of a product that an order gets from one location."""

    order_id: UUID
    product_id: UUID
    location: str
    quantity: int


def allocate(free: Mapping[Place, int], demands: Sequence[Demand]) -> dict[UUID, list[Share] | None]:
    """Decide as if the orders had come one by one, in the order given: all of an order, or nothing of it.

    What an earlier neighbour gets is gone for the later ones; a neighbour who is refused has taken nothing. Locations
    are emptied in the order of their names.

    Args:
        free: units that nobody holds, by product and location.
        demands: what each order needs, in order of arrival.

    Returns:
        For each order its shares, or None when it can't have everything.
    """
    left = dict(free)
    places: dict[UUID, list[Place]] = {}
    for place in sorted(left, key=lambda place: (place[0], place[1])):
        places.setdefault(place[0], []).append(place)
    decided: dict[UUID, list[Share] | None] = {}
    for demand in demands:
        shares = _shares(left, places, demand)
        decided[demand.order_id] = shares
        for share in shares or []:
            left[share.product_id, share.location] -= share.quantity
    return decided


def _shares(left: Mapping[Place, int], places: Mapping[UUID, list[Place]], demand: Demand) -> list[Share] | None:
    shares = []
    for product_id, wanted in demand.quantities.items():
        missing = wanted
        for place in places.get(product_id, []):
            taken = min(missing, left[place])
            if taken > 0:
                shares.append(Share(demand.order_id, product_id, place[1], taken))
                missing -= taken
            if missing == 0:
                break
        if missing:
            return None
    return shares
