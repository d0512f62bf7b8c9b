"""Objectives are counted as the rules of Prometheus count them, and their budgets are spent by what went wrong."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from comanda import telemetry
from comanda.objectives import Budget, Objective, Seen, objectives
from comanda.settings import Settings

RULES = (Path(__file__).parents[2] / "deploy" / "prometheus" / "recording.yml").read_text()


def test_they_are_those_of_the_rules() -> None:
    accept, confirmed, webhook = objectives(Settings())
    assert set(re.findall(r'method="POST",le="([\d.]+)"', RULES)) == {f"{accept.seconds:g}"}
    assert set(re.findall(r'kind="order",state="COMPLETED",le="([\d.]+)"', RULES)) == {f"{confirmed.seconds:.1f}"}
    assert set(re.findall(r'kind="webhook",state="COMPLETED",le="([\d.]+)"', RULES)) == {f"{webhook.seconds:.1f}"}
    assert f'{{slo="accept"}} / {1 - accept.share:.3g}' in RULES
    assert f'{{slo=~"confirmed|webhook"}} / {1 - confirmed.share:.2g}' in RULES
    assert webhook.share == confirmed.share


def test_what_was_late_or_failed_is_counted_once_told() -> None:
    seen = Seen(objectives(Settings()))
    assert seen.news() == {}
    requests = telemetry.REQUESTS.labels("/api/v1/orders", "POST")
    for seconds in (0.01, 0.09, 0.3):
        requests.observe(seconds)
    telemetry.REQUESTS.labels("/api/v1/orders", "GET").observe(3)
    telemetry.RESPONSES.labels("/api/v1/orders", "POST", "503").inc()
    telemetry.RESPONSES.labels("/api/v1/orders", "POST", "202").inc(2)
    for state, seconds in (("COMPLETED", 1), ("COMPLETED", 31), ("COMPENSATED", 300)):
        telemetry.SAGAS.labels("order", state).observe(seconds)
    for state, seconds in (("COMPLETED", 1), ("COMPLETED", 61), ("COMPENSATED", 1)):
        telemetry.SAGAS.labels("webhook", state).observe(seconds)
    news = seen.news()
    assert news == {"accept": (3, 2), "confirmed": (2, 1), "webhook": (3, 2)}
    assert seen.news() == news, "until it is written down"
    seen.told(news)
    assert seen.news() == {}


@pytest.mark.parametrize(
    ("total", "bad", "left", "word"),
    [
        (0, 0, None, "unknown"),
        (10_000, 0, 1, "kept"),
        (10_000, 5, 0.5, "kept"),
        (10_000, 8, 0.2, "budget low"),
        (10_000, 10, 0, "budget spent"),
        (10_000, 30, -2, "budget spent"),
    ],
)
def test_a_budget_is_spent_by_what_went_wrong(total: int, bad: int, left: float | None, word: str) -> None:
    budget = Budget(Objective("accept", 0.999, 0.1), total, bad)
    assert budget.left == (None if left is None else pytest.approx(left, abs=1e-9))
    assert budget.word == word


def test_an_objective_is_set_by_share_and_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMANDA_SLO_ACCEPT", "99.5/0.25")
    assert objectives(Settings())[0] == Objective("accept", 0.995, 0.25)
    for wrong in ("100/0.1", "0/0.1", "99.9", "99.9/0.2", "x"):
        monkeypatch.setenv("COMANDA_SLO_ACCEPT", wrong)
        with pytest.raises(ValidationError):
            Settings()
