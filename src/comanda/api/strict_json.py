"""JSON, and nothing that only looks like it: no repeated names, no NaN, no numbers of thousands of digits."""

import json
from typing import Any

from comanda.api.problems import FieldError, Problem

_DIGITS = 25


class _Refused(ValueError):
    """Well-formed, but not a document that Comanda reads."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise _Refused("a name stands twice in one object")
    return read


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise _Refused("a number has too many digits")
    return int(text)


def _constant(name: str) -> Any:
    raise _Refused(f"{name} is no number")


def read(body: bytes) -> Any:
    """Parse a body.

    Raises:
        Problem: MALFORMED_BODY, or VALIDATION_FAILED for what is JSON but refused.
    """
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_constant=_constant,
        )
    except _Refused as refused:
        raise Problem("VALIDATION_FAILED", errors=[FieldError("", str(refused))]) from None
    except RecursionError:
        raise Problem("VALIDATION_FAILED", errors=[FieldError("", "it is nested too deeply")]) from None
    except ValueError:
        raise Problem("MALFORMED_BODY") from None
