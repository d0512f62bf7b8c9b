"""Carries a schedule out, and remembers what happened and when."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from comanda.proof.chaos.faults import BY_NAME, Happening
from comanda.proof.chaos.schedule import Hurt, Planned
from comanda.proof.chaos.stage import Stage

_TRIES = 2
# What always finds something to hurt.
_STAND_INS = ("backends terminated", "worker killed -9", "redis killed -9", "immediate restart")


class Nemesis:
    """One for each run.

    Args:
        stage: what is hurt.
        schedule: what is done to it.
        changed: told whenever a fault begins or ends.
    """

    def __init__(self, stage: Stage, schedule: Sequence[Planned], changed: Callable[[], None]) -> None:
        self._stage = stage
        self._schedule = schedule
        self._changed = changed
        self.hurts: list[Hurt] = []

    @property
    def now_on(self) -> list[str]:
        """Names of the faults that last."""
        return [hurt.planned.kind.name for hurt in self.hurts if hurt.until is None]

    async def run(self) -> None:
        """All of the schedule, counted from now; returns when the last fault is over."""
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as faults:
            for planned in self._schedule:
                await asyncio.sleep(max(0.0, began + planned.at - asyncio.get_running_loop().time()))
                faults.create_task(self._hurt(planned))

    async def _hurt(self, planned: Planned) -> None:
        """A fault that missed is tried once more; then another one stands in for it."""
        stand_in = replace(planned, kind=BY_NAME[_STAND_INS[int(planned.chance * len(_STAND_INS))]].kind)
        for one in (*[planned] * _TRIES, stand_in):
            hurt = Hurt(one, time.time())
            self.hurts.append(hurt)
            await self._try(hurt)
            if hurt.has_happened:
                return

    async def _try(self, hurt: Hurt) -> None:
        kind = hurt.planned.kind
        what = Happening(hurt.planned.chance)
        self._changed()
        try:
            async with BY_NAME[kind.name].hurt(self._stage, what):
                if kind.seconds:
                    await asyncio.sleep(kind.seconds)
                else:
                    # A blow is over when it has been dealt, even if it was waited for.
                    hurt.until = time.time()
        except Exception as fault:  # noqa: BLE001 - whatever kept one fault from happening, the others go on
            hurt.why_not = str(fault) or repr(fault)
        hurt.until = hurt.until or time.time()
        hurt.what = "; ".join(what.told)
        self._changed()
