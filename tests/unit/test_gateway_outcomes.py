import random

import pytest

from comanda.gateway.outcomes import DECLINE_CODES, Plan, plan

ALWAYS = (100, 0, 0)


def _plan(method: str | None, *, outcomes: tuple[int, int, int] = ALWAYS, seed: int = 1) -> Plan:
    return plan(method, latency_ms=(20, 30), outcomes=outcomes, draw=random.Random(seed))


@pytest.mark.parametrize(
    ("method", "verdicts"),
    [
        ("pm_success", ["capture", "capture"]),
        ("pm_decline_STOLEN_CARD", ["decline", "decline"]),
        ("pm_flaky_0", ["capture"]),
        ("pm_flaky_2", ["busy", "busy", "capture", "capture"]),
        ("pm_unavailable", ["busy"] * 5),
        ("pm_timeout_after_capture", ["capture"]),
        ("pm_slow_5", ["capture"]),
    ],
)
def test_a_named_method_answers_by_its_name(method: str, verdicts: list[str]) -> None:
    planned = _plan(method, outcomes=(0, 0, 100))
    assert [planned.verdict(attempt) for attempt in range(1, len(verdicts) + 1)] == verdicts


@pytest.mark.parametrize("method", ["pm_success", "pm_decline_X", "pm_flaky_1", "pm_unavailable", None, "pm_card_visa"])
def test_every_method_waits_for_the_configured_latency(method: str | None) -> None:
    assert all(20 <= _plan(method, seed=seed).wait_ms <= 30 for seed in range(50))


def test_only_a_slow_one_brings_its_own() -> None:
    assert _plan("pm_slow_1234").wait_ms == 1234


def test_only_a_lost_answer_is_lost() -> None:
    assert _plan("pm_timeout_after_capture").loses_answer
    assert not _plan("pm_success").loses_answer


@pytest.mark.parametrize("method", [None, "", "pm_card_visa", "pm_flaky_", "pm_flaky_x", "pm_decline_", "pm_slow_-1"])
def test_what_has_no_name_is_left_to_chance(method: str | None) -> None:
    assert _plan(method, outcomes=(100, 0, 0)).verdict(1) == "capture"
    assert _plan(method, outcomes=(0, 100, 0)).verdict(99) == "busy"
    declined = _plan(method, outcomes=(0, 0, 100))
    assert declined.verdict(1) == "decline"
    assert declined.decline_code in DECLINE_CODES


def test_a_seed_repeats_itself() -> None:
    draws = [random.Random(3), random.Random(3)]
    first, second = (
        [plan(None, latency_ms=(0, 9), outcomes=(50, 30, 20), draw=draw) for _ in range(50)] for draw in draws
    )
    assert first == second
    assert len(set(first)) > 5
