"""The processes that a shop is made of: which are there, what the relay saw last, how far the replica is."""

import asyncio
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.multiprocess import MultiProcessCollector

from comanda import clock
from comanda.db import Replica, Tx, twin

_sql = twin(__file__)
CONNECTED = _sql["connected"]

LATE = 15.0  # seconds that the relay may have measured nothing: it does every two


@dataclass(frozen=True, slots=True)
class Copy:
    """The replica, as this process sees it. `behind`: seconds at the most; None: not known."""

    is_used: bool
    behind: int | None


@dataclass(frozen=True, slots=True)
class Processes:
    """Those connected. `silent`: seconds since the relay measured, where that is late; `is_measured`: it is known."""

    apis: int = 0
    workers: int = 0
    relays: int = 0
    is_measured: bool = False
    silent: float | None = None
    copy: Copy | None = None

    @property
    def are_well(self) -> bool:
        is_carried_on = self.workers > 0 and self.relays > 0 and self.silent is None
        return is_carried_on and (self.copy is None or self.copy.is_used)


async def look(tx: Tx, replica: Replica | None) -> Processes:
    """Which are there right now."""
    row = await CONNECTED.row(tx)
    assert row is not None
    measured_at = await asyncio.to_thread(_measured_at)
    silent = None if measured_at is None else clock.now().timestamp() - measured_at
    return Processes(
        **row,
        is_measured=measured_at is not None,
        silent=silent if silent is not None and silent > LATE else None,
        copy=None if replica is None else _copy(replica),
    )


def violations() -> dict[str, int] | None:
    """Rows that break an invariant, by check, as the relay last saw them; None: nobody watches."""
    found = {one.labels["check"]: int(one.value) for one in _of_the_relay("comanda_invariant_violations")}
    return found or None


def _measured_at() -> float | None:
    """When the relay last measured, where it runs on this machine."""
    return next((one.value for one in _of_the_relay("relay_last_measured_timestamp_seconds") if one.value), None)


def _of_the_relay(name: str) -> Iterable[Any]:
    """A metric that all processes of this machine share: whoever set it last is right."""
    families = REGISTRY.collect()
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        files = [str(path) for path in Path(folder).glob("gauge_mostrecent_*.db")]
        families = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
    return next((family.samples for family in families if family.name == name), [])


def _copy(replica: Replica) -> Copy:
    behind = replica.behind
    return Copy(replica.is_fresh, math.ceil(behind) if math.isfinite(behind) else None)
