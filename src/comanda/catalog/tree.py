"""Where categories stand below each other. Pure: over all that are there, which are few."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

Parents = Mapping[UUID, UUID | None]


def path(parents: Parents, category_id: UUID) -> list[UUID]:
    """From the root down to the category itself."""
    above: list[UUID] = []
    at: UUID | None = category_id
    while at is not None and at in parents and at not in above:
        above.append(at)
        at = parents[at]
    return above[::-1]


def below(parents: Parents, category_id: UUID) -> list[UUID]:
    """All descendants, each after the one that it stands below; in the order of `parents`."""
    children = children_of(parents)
    found: list[UUID] = []
    level = [category_id]
    while level:
        level = [child for one in level for child in children[one] if child not in found]
        found += level
    return found


def height(parents: Parents, category_id: UUID) -> int:
    """How many levels it takes up: 1 where nothing stands below it."""
    children = children_of(parents)
    level, levels, seen = [category_id], 0, {category_id}
    while level:
        level = [child for one in level for child in children[one] if child not in seen]
        seen.update(level)
        levels += 1
    return levels


def children_of(parents: Parents) -> dict[UUID | None, list[UUID]]:
    """By parent, in the order of `parents`; those whose parent is not there count as roots."""
    children: dict[UUID | None, list[UUID]] = defaultdict(list)
    for one, parent in parents.items():
        children[parent if parent in parents else None].append(one)
    return children


def makes_a_ring(parents: Parents, moves: Sequence[tuple[UUID, UUID | None]]) -> bool:
    """Whether somebody would stand below itself after these moves."""
    moved = {**parents, **dict(moves)}
    for start, _ in moves:
        seen: set[UUID] = set()
        at: UUID | None = start
        while at is not None:
            if at in seen:
                return True
            seen.add(at)
            at = moved.get(at)
    return False
