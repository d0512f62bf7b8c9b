"""Partitions by time: made ahead, dropped when old.

Either shuts everybody out of the parent for a moment, and is waited for by all who write events while somebody reads it
for long: so each is tried for a tenth of a second and otherwise left for the next time, a minute later.
"""

from comanda import telemetry
from comanda.db.database import Tx
from comanda.db.statements import twin

_sql = twin(__file__)
MISSING = _sql["missing"]
MAKE = _sql["make"]
OLD = _sql["old"]
DROP = _sql["drop"]

_log = telemetry.log("partitions")


async def keep_partitions(tx: Tx, audit_days: int) -> list[str]:
    """Make the partitions of the coming weeks; drop those older than so many days (0: keep all). What was dropped.

    `tx` is a connection without a transaction: each table has one of its own, so that its locks last no longer.
    """
    await make_partitions(tx)
    return await _drop_partitions(tx, audit_days) if audit_days else []


async def make_partitions(tx: Tx) -> None:
    """Make those of the coming weeks, as far as nobody is in the way."""
    awaited: set[str] = set()
    for one in await MISSING.rows(tx):
        if one["parent"] in awaited:
            continue
        came = "held" if one["is_held"] else await MAKE.value(tx, one["parent"], one["week"])
        if came == "held":
            _log.warning("a week has no partition: the rest has rows of it, and keeps those to come", table=one["name"])
        elif came == "awaited":
            awaited.add(one["parent"])
            _log.warning("somebody reads a table for long: its next partition is made later", table=one["parent"])


async def _drop_partitions(tx: Tx, days: int) -> list[str]:
    dropped: list[str] = []
    awaited: set[str] = set()
    for one in await OLD.rows(tx, days):
        if one["parent"] in awaited:  # the oldest goes first
            continue
        if await DROP.value(tx, one["name"]) == "awaited":
            awaited.add(one["parent"])
            _log.warning("somebody reads a table for long: its old partitions are dropped later", table=one["parent"])
        else:
            dropped.append(one["name"])
    return dropped
