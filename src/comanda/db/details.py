"""Lines below a row (of a parcel, of a refund): columns when they are stored, mappings when they are read."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from comanda.db.statements import Record


def spread(owners: Sequence[UUID], units: Sequence[Mapping[UUID, int]]) -> tuple[list[UUID], list[UUID], list[int]]:
    """Three columns, a line in each row: whose it is, of what, how many."""
    lines = [(owner, what, count) for owner, some in zip(owners, units, strict=True) for what, count in some.items()]
    return [owner for owner, _, _ in lines], [what for _, what, _ in lines], [count for _, _, count in lines]


def gathered(owners: Iterable[UUID], lines: Iterable[Record]) -> dict[UUID, dict[UUID, int]]:
    """What `spread` took apart, from rows of those three columns; also for owners without lines."""
    units: dict[UUID, dict[UUID, int]] = {owner: {} for owner in owners}
    for owner, what, count in lines:
        units[owner][what] = count
    return units
