"""PostgreSQL: connections, statements in twin files, shared commits, migrations. The only user of the driver."""

from comanda.db.batcher import Batcher
from comanda.db.database import Database, Tx
from comanda.db.replica import Replica
from comanda.db.statements import Record, Statement, literally, twin

__all__ = ["Batcher", "Database", "Record", "Replica", "Statement", "Tx", "literally", "twin"]
