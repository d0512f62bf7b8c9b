"""The page docs/cli.md, out of the commands themselves and of the shapes of what they print.

python -m comanda.cli.reference > docs/cli.md
"""

import sys
import types
from collections.abc import Iterator
from datetime import datetime
from typing import Any, get_args, get_origin
from uuid import UUID

import msgspec
import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from comanda.cli import shapes
from comanda.cli.table import app

_HEAD = """# The command line

Made by `python -m comanda.cli.reference > docs/cli.md`; a test compares it with the commands, and with what they print.

Data goes to stdout, everything else (progress, logs, what went wrong and what to do next) to stderr. `--json` prints
NDJSON: one object a line, fields in camelCase, ids UUIDs, times RFC 3339 in UTC, amounts integers in minor units.
Fields may be added, none goes. Without it rows are tables: on a narrow terminal what does not fit a row stands
below it; in a pipe nothing is folded.

| exit code | means |
|---|---|
| 0 | fine |
| 1 | failed: there is no such thing, some of it was refused, or a defect |
| 2 | usage: an option, a setting or a folder is wrong, or nothing runs there |
| 3 | an invariant is broken (`doctor`, `chaos`) |
| 4 | PostgreSQL, Redis or the gateway does not answer |
| 130 | Ctrl-C (`up` and the processes drain and end with 0) |

`--data-dir` (`.comanda`) is that of a running `comanda up`; `COMANDA_DATABASE_URL` and `COMANDA_REDIS_URL` go before
what it says. `python -m comanda` is `comanda`.
"""

_NAMES: dict[Any, str] = {str: "text", int: "integer", float: "number", bool: "true or false", UUID: "id",
                          datetime: "time", type(None): "null", dict: "object"}  # fmt: skip


def page() -> str:
    """The whole page, as Markdown."""
    told, parts = dict[type[msgspec.Struct], str](), [_HEAD]
    for name, command in commands():
        parts.append(f"## comanda {name}\n\n{_sentence(command)}\n")
        if arguments := _parameters(command):
            parts.append("\n".join(["| argument, option | |", "|---|---|", *arguments]) + "\n")
        for line in shapes.OF.get(name, ()):
            if line in told:
                parts.append(
                    f"`--json`: {_title(line)}, as of [comanda {told[line]}](#comanda-{_anchor(told[line])}).\n"
                )
                continue
            told[line] = name
            rows = [f"| `{one.encode_name}` | {_type(one.type)} | {_meaning(one.type)} |" for one in _fields(line)]
            head = f"`--json`: {_title(line)}\n"
            parts.append("\n".join([head, "| field | type | |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def commands() -> Iterator[tuple[str, TyperCommand]]:
    """Every command that is shown, by its words after `comanda`, sorted."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    yield from _below(root, "")


def _below(group: TyperGroup, before: str) -> Iterator[tuple[str, TyperCommand]]:
    for word, command in sorted(group.commands.items()):
        if isinstance(command, TyperGroup):
            yield from _below(command, f"{before}{word} ")
        elif isinstance(command, TyperCommand) and not command.hidden:
            yield f"{before}{word}", command


def _sentence(command: TyperCommand) -> str:
    return " ".join((command.help or "").split())


def _parameters(command: TyperCommand) -> list[str]:
    rows = []
    for one in command.params:
        if one.name == "help":
            continue
        is_argument = isinstance(one, TyperArgument)
        shown = f"{one.name}".upper() if is_argument else ", ".join(one.opts)
        default = "" if one.default in (None, False, "", ()) or callable(one.default) else f" ({one.default})"
        needed = " Required." if one.required and not is_argument else ""
        rows.append(f"| `{shown}` | {_cell((getattr(one, 'help', None) or '') + default + needed)} |")
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _title(line: type[msgspec.Struct]) -> str:
    return (line.__doc__ or "").partition("\n")[0].rstrip(".")


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _fields(line: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(line)


def _type(annotation: Any) -> str:
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__)
    if isinstance(annotation, types.UnionType):
        return " or ".join(_type(one) for one in get_args(annotation))
    if get_origin(annotation) is list:
        return f"list of {_type(get_args(annotation)[0])}"
    return _NAMES[get_origin(annotation) or annotation]


def _meaning(annotation: Any) -> str:
    metadata = getattr(annotation, "__metadata__", ())
    return _cell(metadata[0].description or "") if metadata else ""


if __name__ == "__main__":
    sys.stdout.write(page())
