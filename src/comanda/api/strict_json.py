"""JSON, and nothing that only looks like it: no repeated names, no NaN, no numbers of thousands of digits."""

import json
from typing import Any

from comanda.api.problems import Problem
from comanda.field_errors import FieldError
from comanda.sentences import Sentence

_DIGITS = 25


class _Refused(ValueError):
    """Well-formed, but not a document that Comanda reads."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise _Refused("A name stands twice in one object")
    return read


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise _Refused("This number has too many digits")
    return int(text)


def _constant(name: str) -> Any:
    raise _Refused(Sentence("{name} is no number", name=name))


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
        raise Problem("VALIDATION_FAILED", errors=[FieldError("", refused.args[0])]) from None
    except RecursionError:
        raise Problem("VALIDATION_FAILED", errors=[FieldError("", "This is nested too deeply", "TOO_DEEP")]) from None
    except ValueError:
        raise Problem("MALFORMED_BODY") from None
