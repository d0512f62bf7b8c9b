"""What can be wrong with a field, by stable codes, in our own words: those of the libraries change with them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from comanda.sentences import Sentence

MOST = 20
INVALID = "INVALID"
_LONGEST_NAME = 100

_TEXT = ("NOT_A_TEXT", "A text is needed")
_INTEGER = ("NOT_AN_INTEGER", "A whole number is needed")
_NUMBER = ("NOT_A_NUMBER", "A number is needed")
_FINITE = ("NOT_FINITE", "A number has to be finite")
_BOOLEAN = ("NOT_A_BOOLEAN", "true or false is needed")
_LIST = ("NOT_A_LIST", "A list is needed")
_OBJECT = ("NOT_AN_OBJECT", "An object is needed")
_UUID = ("NOT_A_UUID", "A UUID is needed")
_TIME = ("NOT_A_TIME", "A time is needed, such as 2030-01-01T00:00:00Z")
_MISSING = ("MISSING", "This field is required")
_UNKNOWN = ("UNKNOWN_FIELD", "This field is not known")
_LEAST = ("TOO_SMALL", "{ge} is the least")
_MOST = ("TOO_LARGE", "{le} is the most")

# Pydantic's type of an error, or one of our own: our code, our words.
KINDS: dict[str, tuple[str, str]] = {
    "missing": _MISSING,
    "extra_forbidden": _UNKNOWN,
    "string_type": _TEXT,
    "string_unicode": ("NOT_STORABLE", "This text can't be stored"),
    "string_too_short": ("TOO_SHORT", "At least {min_length} characters are needed"),
    "string_too_long": ("TOO_LONG", "At most {max_length} characters are allowed"),
    "string_pattern_mismatch": ("WRONG_FORM", "This has to match {pattern}"),
    "int_type": _INTEGER,
    "int_parsing": _INTEGER,
    "int_from_float": _INTEGER,
    "int_parsing_size": ("TOO_LARGE", "This number has too many digits"),
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _FINITE,
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
    "list_type": _LIST,
    "iterable_type": _LIST,
    "tuple_type": _LIST,
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "too_short": ("TOO_FEW", "At least {min_length} are needed"),
    "too_long": ("TOO_MANY", "At most {max_length} are allowed"),
    "greater_than": ("TOO_SMALL", "This has to be more than {gt}"),
    "greater_than_equal": _LEAST,
    "less_than": ("TOO_LARGE", "This has to be less than {lt}"),
    "less_than_equal": _MOST,
    "literal_error": ("NOT_ONE_OF", "One of these is needed: {expected}"),
    "enum": ("NOT_ONE_OF", "One of these is needed: {expected}"),
    "uuid_type": _UUID,
    "uuid_parsing": _UUID,
    "uuid_version": _UUID,
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "datetime_object_invalid": _TIME,
    "json_invalid": ("NOT_JSON", "This is no JSON"),
    "json_type": ("NOT_JSON", "This is no JSON"),
    "blank": ("BLANK", "This must not be blank"),
    "untrimmed": ("WRONG_FORM", "This has to be one line without white space at its ends"),
    "nul": ("NOT_STORABLE", "The character NUL can't be stored"),
    "surrogate": ("NOT_STORABLE", "Half of a surrogate pair can't be stored"),
    "not_finite": _FINITE,
    "email": ("NOT_AN_EMAIL", "This is no e-mail address"),
    "phone": ("NOT_A_PHONE_NUMBER", "This is no phone number"),
    "too_many_values": ("TOO_MANY", "At most {most} values are allowed"),
    "too_deep": ("TOO_DEEP", "At most {most} levels are allowed"),
    "no_change": ("NO_CHANGE", "Nothing to change is named"),
    "key": ("WRONG_FORM", "1 to 255 printable ASCII characters are needed"),
    "no_time_between": ("OUT_OF_RANGE", "A time after {since} is needed"),
    "zone": ("NOT_A_TIME", "A time needs a zone: 2030-01-01T00:00:00Z"),
    "cursor": ("UNKNOWN", "This is no cursor of ours"),
    "product": ("UNKNOWN", "There is no such product"),
    "category": ("UNKNOWN", "There is no such category"),
    "not_null": ("MISSING", "These can't be null: {names}"),
    "restock_without_items": ("MISSING", "To restock, name the items: which units go back into the stock?"),
}

# What msgspec says of the body of an order: the kind, and the name of the value that is found.
_OF_MSGSPEC = [
    (re.compile(r"Object missing required field `(.*)`", re.DOTALL), "missing", None),
    (re.compile(r"Object contains unknown field `(.*)`", re.DOTALL), "extra_forbidden", None),
    (re.compile(r"Invalid UUID()"), "uuid_parsing", None),
    (re.compile(r"Expected `int` >= (-?\d+)"), "greater_than_equal", "ge"),
    (re.compile(r"Expected `int` <= (-?\d+)"), "less_than_equal", "le"),
    (re.compile(r"Expected `str` of length >= (\d+)"), "string_too_short", "min_length"),
    (re.compile(r"Expected `str` of length <= (\d+)"), "string_too_long", "max_length"),
    (re.compile(r"Expected `array` of length >= (\d+)"), "too_short", "min_length"),
    (re.compile(r"Expected `array` of length <= (\d+)"), "too_long", "max_length"),
    (re.compile(r"Expected `int(?: \| null)?`, got (.*)"), "int_type", None),
    (re.compile(r"Expected `str(?: \| null)?`, got (.*)"), "string_type", None),
    (re.compile(r"Expected `array(?: \| null)?`, got (.*)"), "list_type", None),
    (re.compile(r"Expected `object(?: \| null)?`, got (.*)"), "dict_type", None),
    (re.compile(r"Expected `uuid(?: \| null)?`, got (.*)"), "uuid_type", None),
]


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field of a request (`items.0.quantity`), what is wrong with it, and the stable code of that."""

    field: str
    message: str
    code: str = INVALID


def wrong(kind: str, /, **values: object) -> PydanticCustomError:
    """Raised by a validator of ours: one of `KINDS`, with what stands in its words."""
    return PydanticCustomError(kind, KINDS[kind][1], values or None)


def field_error(field: str, kind: str, /, **values: object) -> FieldError:
    """One of `KINDS`, with what stands in its words."""
    code, pattern = KINDS[kind]
    return FieldError(field, Sentence(pattern, **values), code)


def of_pydantic(errors: Sequence[Any]) -> list[FieldError]:
    """Pydantic's errors, without the input: what was refused is not sent back."""
    return [_of_pydantic(error) for error in errors[:MOST]]


def _of_pydantic(error: Any) -> FieldError:
    places = [str(part) for part in error["loc"] if part not in {"body", "query", "path", "header"}]
    field = ".".join(places)[:_LONGEST_NAME]
    values = dict(error.get("ctx", {}))
    if error["type"] == "value_error":
        said = next(iter(values["error"].args), None)
        return FieldError(field, said if isinstance(said, str) else error["msg"])
    if error["type"] not in KINDS:
        return FieldError(field, error["msg"])
    if "expected" in values:
        values["expected"] = values["expected"].replace(" or ", ", ")  # a list in any language
    return field_error(field, error["type"], **values)


def of_msgspec(said: str) -> FieldError:
    """What msgspec says; the name of a field that is missing or not known stands behind the object's."""
    text, _, path = said.partition(" - at `")
    field = path.rpartition("$")[2].strip("`").removeprefix(".")
    for pattern, kind, name in _OF_MSGSPEC:
        found = pattern.fullmatch(text)
        if found is None:
            continue
        if kind in {"missing", "extra_forbidden"}:
            field = f"{field}.{found[1]}".removeprefix(".")
        return field_error(field[:_LONGEST_NAME] or "body", kind, **({} if name is None else {name: found[1]}))
    return FieldError(field[:_LONGEST_NAME] or "body", text[:_LONGEST_NAME])
