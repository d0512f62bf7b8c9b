"""Where categories stand below each other."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from comanda.catalog import tree

A, B, C, D = (UUID(int=n) for n in range(1, 5))
TREE = {A: None, B: A, C: B, D: A}


def test_paths_and_descendants() -> None:
    assert tree.path(TREE, C) == [A, B, C]
    assert tree.below(TREE, A) == [B, D, C]
    assert tree.below(TREE, C) == []
    assert [tree.height(TREE, one) for one in (A, B, C)] == [3, 2, 1]
    assert tree.children_of({**TREE, D: UUID(int=9)})[None] == [A, D], "whose parent is gone is a root"


def test_a_ring_is_seen_before_it_is_made() -> None:
    assert tree.makes_a_ring(TREE, [(A, C)])
    assert tree.makes_a_ring(TREE, [(A, A)])
    assert not tree.makes_a_ring(TREE, [(C, D)])
    assert tree.makes_a_ring({A: None, B: None}, [(A, B), (B, A)]), "two moves that are harmless alone"


@given(moves=st.lists(st.tuples(st.integers(0, 7), st.one_of(st.none(), st.integers(0, 7))), max_size=40))
def test_whatever_is_moved_each_path_ends_at_a_root(moves: list[tuple[int, int | None]]) -> None:
    ids = [UUID(int=n + 1) for n in range(8)]
    parents: dict[UUID, UUID | None] = dict.fromkeys(ids)
    for child, parent in moves:
        move = (ids[child], None if parent is None else ids[parent])
        if not tree.makes_a_ring(parents, [move]):
            parents[move[0]] = move[1]
        for one in ids:
            above = tree.path(parents, one)
            assert parents[above[0]] is None
            assert all(one in tree.below(parents, other) for other in above[:-1])
