"""The schedule of the nemesis: the seed decides."""

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from comanda.proof.chaos import demand
from comanda.proof.chaos.faults import BY_NAME, FAULTS, KINDS
from comanda.proof.chaos.schedule import LAST, LEAD, Kind, draw

seeds = st.integers(0, 10**6)
durations = st.floats(5, 600)
counts = st.integers(1, 120)


@settings(deadline=None)
@given(seeds, durations, counts)
def test_the_same_seed_gives_the_same_schedule(seed: int, duration: float, count: int) -> None:
    once = draw(KINDS, seed=seed, duration=duration, count=count)
    assert once == draw(KINDS, seed=seed, duration=duration, count=count)
    assert [planned.number for planned in once] == list(range(1, count + 1))


def test_another_seed_gives_another_schedule() -> None:
    drawn = {tuple(map(str, draw(KINDS, seed=seed, duration=60, count=20))) for seed in range(50)}
    assert len(drawn) == 50


@settings(deadline=None)
@given(seeds, durations, counts)
def test_as_many_kinds_as_there_can_be(seed: int, duration: float, count: int) -> None:
    kinds = Counter(planned.kind for planned in draw(KINDS, seed=seed, duration=duration, count=count))
    assert len(kinds) >= min(count, len(KINDS))


@settings(deadline=None)
@given(seeds, durations, counts)
def test_faults_are_spread_over_the_duration(seed: int, duration: float, count: int) -> None:
    times = [planned.at for planned in draw(KINDS, seed=seed, duration=duration, count=count)]
    step = (LAST - LEAD) * duration / count
    assert times == sorted(times)
    assert times[0] >= LEAD * duration - 0.01
    assert times[-1] <= LAST * duration
    assert all(later - earlier <= 2 * step + 0.01 for earlier, later in pairwise(times))


@settings(deadline=None)
@given(seeds)
def test_no_part_is_hurt_twice_at_once_where_there_is_room(seed: int) -> None:
    kinds = [Kind("a", "one", 1.0), Kind("b", "two", 1.0), Kind("c", "three", 1.0), Kind("d", "four", 0.0)]
    planned = draw(kinds, seed=seed, duration=200, count=4)
    for part in {one.kind.part for one in planned}:
        of_part = [one for one in planned if one.kind.part == part]
        assert all(one.until <= other.at for one, other in pairwise(of_part))


@settings(deadline=None)
@given(seeds)
def test_what_lasts_too_long_for_the_end_comes_earlier(seed: int) -> None:
    kinds = [Kind("long", "one", 30.0), *(Kind(f"blow {n}", "two", 0.0) for n in range(9))]
    (long,) = [one for one in draw(kinds, seed=seed, duration=60, count=10) if one.kind.name == "long"]
    assert long.until <= LAST * 60


def test_each_kind_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(FAULTS) >= 20


@settings(deadline=None)
@given(seeds)
def test_the_demand_is_known_and_exceeds_what_is_scarce(seed: int) -> None:
    wanted = demand.made_up(seed=seed, orders=300)
    assert wanted == demand.made_up(seed=seed, orders=300)
    asked = Counter[str]()
    for one in wanted.orders:
        asked.update(dict(one.lines))
    scarce = [sku for sku, units in wanted.units.items() if units < asked[sku]]
    assert len(scarce) == 3
    assert wanted.probed not in scarce
    assert len({one.key for one in wanted.orders}) == 300
    assert any(one.is_doubled for one in wanted.orders)
