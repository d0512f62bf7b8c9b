"""Numbered SQL files, applied once each, in order. Several processes may try at once: one does it, the others wait."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import comanda
from comanda.db.database import connect, translated
from comanda.db.partitions import make_partitions
from comanda.errors import MigrationFault
from comanda.failpoints import Boundary

MIGRATE = Boundary("migrations.apply")

# Any number will do, as long as nobody else takes an advisory lock on it in this database.
_LOCK = 0x636F6D616E6461


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def folder() -> Path:
    """`migrations/` of the checkout, or the copy that an installed package carries."""
    package = Path(comanda.__file__).parent
    packaged = package / "migrations"
    return packaged if packaged.is_dir() else package.parents[1] / "migrations"


def stored(path: Path | None = None) -> list[Migration]:
    """The files `NNNN_name.sql`, in order.

    Raises:
        MigrationFault: when a number is missing or stands twice.
    """
    found = []
    for file in sorted((path or folder()).glob("*.sql")):
        match = re.fullmatch(r"(\d{4})_([a-z_]+)\.sql", file.name)
        if match is None:
            raise MigrationFault(f"{file.name}: a migration is named like 0001_accounts.sql")
        found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationFault("the migrations' numbers must run from 0001 without a gap")
    return found


async def apply(url: str, path: Path | None = None) -> list[Migration]:
    """Bring the schema to where this code needs it; the migrations that had to run.

    Raises:
        DatabaseFault: nobody answers there, or a lock was not had in time.
        MigrationFault: a migration that ran here was edited afterwards, or the database is newer than this code.
    """
    wanted = stored(path)
    connection = await connect(url, name="comanda-migrate")
    ran = []
    try:
        with translated():
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
            await connection.execute("SET lock_timeout = '5s'")
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS migrations (number int PRIMARY KEY, name text NOT NULL,"
                " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            known = {row["number"]: row for row in await connection.fetch("SELECT * FROM migrations")}
            if known and max(known) > len(wanted):
                raise MigrationFault(
                    f"the database is at migration {max(known)}, this code knows {len(wanted)}: install a newer Comanda"
                )
            for migration in wanted:
                row = known.get(migration.number)
                if row is not None:
                    if row["checksum"] != migration.checksum:
                        raise MigrationFault(
                            f"migration {migration.number:04} was edited after it ran here: write a new one instead"
                        )
                    continue
                async with connection.transaction():
                    await connection.execute(migration.text)
                    await connection.execute(
                        "INSERT INTO migrations (number, name, checksum) VALUES ($1, $2, $3)",
                        migration.number,
                        migration.name,
                        migration.checksum,
                    )
                    MIGRATE.before()
                MIGRATE.after()
                ran.append(migration)
            await make_partitions(connection)
    finally:
        await connection.close()
    return ran
