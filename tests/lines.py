"""Lines of `--json`, read as the shapes that docs/cli.md says."""

import msgspec

from comanda.cli import shapes


def told(name: str, lines: list[str]) -> list[msgspec.Struct]:
    """Each line of that command (`saga list`) as one of its shapes, no field unknown, missing or of another type."""
    found = []
    for line in lines:
        fits = [one for kind in shapes.OF[name] if (one := _read(kind, line)) is not None]
        assert fits, (name, line)
        found.append(fits[0])
    return found


def _read(kind: type[msgspec.Struct], line: str) -> msgspec.Struct | None:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.ValidationError:
        return None
