"""Metrics of several processes together."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from comanda.api import health

COUNTS = """
from comanda import telemetry
telemetry.POOL.labels("main", "used").set(3)
telemetry.POOL_USED.labels("main").set(0.5)
telemetry.LEASES_LOST.inc(2)
print("counted", flush=True)
input()
"""


def test_processes_count_together_and_what_a_dead_one_had_at_hand_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    command = [sys.executable, "-c", COUNTS]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)) for _ in range(2)
    ]
    try:
        for one in both:
            assert one.stdout is not None
            assert one.stdout.readline() == b"counted\n"
        scraped = health._scrape().decode().splitlines()
        assert 'database_pool_connections{pool="main",state="used"} 6.0' in scraped
        assert 'database_pool_used_ratio{pool="main"} 0.5' in scraped
        assert "saga_leases_lost_total 4.0" in scraped
        both[0].kill()
        both[0].wait()
        scraped = health._scrape().decode().splitlines()
        assert 'database_pool_connections{pool="main",state="used"} 3.0' in scraped
        assert "saga_leases_lost_total 4.0" in scraped, "what it counted stays counted"
    finally:
        for one in both:
            one.kill()
            one.communicate()
