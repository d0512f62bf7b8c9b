"""Partitions by time: made ahead, dropped when old."""

from comanda.db.database import Tx
from comanda.db.statements import twin

_sql = twin(__file__)
ENSURE = _sql["ensure"]
DROP = _sql["drop"]


async def keep_partitions(tx: Tx, audit_days: int) -> list[str]:
    """Make the partitions of the coming weeks; drop those older than so many days (0: keep all). What was dropped."""
    await ENSURE.run(tx)
    if audit_days == 0:
        return []
    return [row["name"] for row in await DROP.rows(tx, audit_days)]
