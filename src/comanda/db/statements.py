"""SQL in twin files: `stock.py` says what, `stock.sql` says how.

A twin file is a row of statements, each under a line `-- name: reserve`. They are looked up when the module is
imported, so a misspelt name fails there and not at three in the morning.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg

from comanda.db.database import Tx, translated
from comanda.errors import DefinitionFault

Record = asyncpg.Record
_NAME = re.compile(r"^-- name: ([a-z_]+)[ \t]*$", re.MULTILINE)


class Statement:
    """One named statement. The transaction comes first; everything else in the order of `$1`, `$2`, …."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text

    def __repr__(self) -> str:
        return f"Statement({self.name!r})"

    async def rows(self, tx: Tx, *arguments: Any) -> list[Record]:
        with translated():
            return await tx.fetch(self.text, *arguments)

    async def row(self, tx: Tx, *arguments: Any) -> Record | None:
        with translated():
            return await tx.fetchrow(self.text, *arguments)

    async def value(self, tx: Tx, *arguments: Any) -> Any:
        with translated():
            return await tx.fetchval(self.text, *arguments)

    async def run(self, tx: Tx, *arguments: Any) -> int:
        """Execute; the number of rows that it touched."""
        with translated():
            tag = await tx.execute(self.text, *arguments)
        count = tag.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0


class Twin(Mapping[str, Statement]):
    """The statements of one file, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        pieces = _NAME.split(path.read_text(encoding="utf-8"))
        self._statements = {
            name: Statement(name, text.strip()) for name, text in zip(pieces[1::2], pieces[2::2], strict=True)
        }

    def __getitem__(self, name: str) -> Statement:
        try:
            return self._statements[name]
        except KeyError:
            raise DefinitionFault(f"{self.path.name} has no statement named {name}") from None

    def __iter__(self) -> Any:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)


def twin(module_file: str) -> Twin:
    """Read the statements beside a module; each module does it once, when it is imported, with its `__file__`."""
    return Twin(Path(module_file).with_suffix(".sql"))


def literally(text: str) -> str:
    """As a pattern of LIKE that means nothing but itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
