"""The saga engine, usable without the shop: declare a process as a table, and workers carry it to one of its ends."""

from comanda.saga.definition import (
    Done,
    Failed,
    Job,
    Later,
    Outcome,
    Passage,
    Refused,
    RemoteAction,
    Saga,
    Step,
    local,
    nothing,
    remote,
)
from comanda.saga.log import Start, start

__all__ = [
    "Done",
    "Failed",
    "Job",
    "Later",
    "Outcome",
    "Passage",
    "Refused",
    "RemoteAction",
    "Saga",
    "Start",
    "Step",
    "local",
    "nothing",
    "remote",
    "start",
]
