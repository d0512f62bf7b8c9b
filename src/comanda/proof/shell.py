"""Commands as an operator pastes them into a shell."""

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from comanda.db import Statement

_SPECIAL = frozenset('"$`\\!')  # to a shell, between double quotes


def psql(statement: Statement, *values: Any) -> str:
    """One statement, on the database of the environment."""
    return psql_of(filled(statement, *values))


def filled(statement: Statement, *values: Any) -> str:
    """The statement with its values in their places."""
    lines = (line for line in statement.text.splitlines() if not line.startswith("--"))
    text = " ".join(" ".join(lines).split()).rstrip(";")
    return re.sub(r"\$(\d+)", lambda found: _literal(values[int(found[1]) - 1]), text)


def _literal(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case int():
            return f"({value})" if value < 0 else str(value)
        case _:
            text = str(value).replace("'", "''")
            return f" E'{text.replace(chr(92), chr(92) * 2)}'" if chr(92) in text else f"'{text}'"


def psql_of(statement: str) -> str:
    """The same of a text."""
    # SQL is full of single quotes: between double ones it stays readable.
    quoted = f'"{statement}"' if _SPECIAL.isdisjoint(statement) else shlex.quote(statement)
    return f'psql "$COMANDA_DATABASE_URL" -c {quoted}'


def post(path: str, body: Mapping[str, Any]) -> str:
    """A request to the gateway of the environment."""
    return (
        f'curl -sS "$COMANDA_GATEWAY_URL{path}" -H "Content-Type: application/json" -d {shlex.quote(json.dumps(body))}'
    )


def api(path: str, body: Mapping[str, Any]) -> str:
    """A request to the API as the admin: `$TOKEN` is that of `POST /api/v1/auth/login`."""
    return (
        f'curl -sS "$COMANDA_API/api/v1{path}" -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" '
        f"-d {shlex.quote(json.dumps(body))}"
    )
