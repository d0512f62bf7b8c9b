"""Fields of what may come in, in a request or a file, and what holds for every body: closed, strict, camelCase."""

import re
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from comanda.field_errors import wrong

MOST_MONEY = 9_000_000_000_000  # a million units of it still fit a bigint
MOST_TAGS = 50
_MOST_DEPTH = 8
_MOST_VALUES = 1000
_EMAIL = re.compile(
    r"[^@\s\x00-\x20\x7f<>()\[\]\\,;:\"]{1,64}@[^@\s\x00-\x20\x7f<>()\[\]\\,;:\"]+\.[^@\s.<>()\\,;:\"]+"
)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d.*")
_PHONE = re.compile(r"\+?[0-9 ()./-]{5,30}")


def storable(text: str) -> str:
    """Refuse what PostgreSQL can't keep: NUL, and halves of surrogate pairs."""
    if "\x00" in text:
        raise wrong("nul")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise wrong("surrogate")
    return text


def not_blank(text: str) -> str:
    if not text.strip():
        raise wrong("blank")
    return text


def _sku(text: str) -> str:
    """As people read it and files hold it: one line, with nothing around it."""
    if text != text.strip() or len(text.splitlines()) > 1:
        raise wrong("untrimmed")
    return text


def _email(text: str) -> str:
    if not _EMAIL.fullmatch(text):
        raise wrong("email")
    return text


def _phone(text: str) -> str:
    if not _PHONE.fullmatch(text):
        raise wrong("phone")
    return text


def _written(value: Any) -> Any:
    """RFC 3339 is text: a number is no time, however a library would read it."""
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise wrong("datetime_type")
    return value


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise wrong("zone")
    try:
        return value.astimezone(UTC)
    except OverflowError:  # in UTC it would be before the year 1 or after 9999
        raise wrong("datetime_type") from None


def _storable_json(value: Any) -> Any:
    """Refuse a document that is deep, long, or holds a text or number that can't be stored."""
    seen = 0
    level = [value]
    for _ in range(_MOST_DEPTH):
        following: list[Any] = []
        for one in level:
            seen += 1
            match one:
                case str():
                    storable(one)
                case float() if one - one != 0:
                    raise wrong("not_finite")
                case dict():
                    for name in one:
                        storable(name)
                    following += one.values()
                case list():
                    following += one
        level = following
        if not level:
            return value
        if seen + len(level) > _MOST_VALUES:
            raise wrong("too_many_values", most=_MOST_VALUES)
    raise wrong("too_deep", most=_MOST_DEPTH)


Storable = AfterValidator(storable)
Email = Annotated[str, Field(min_length=3, max_length=254), Storable, AfterValidator(_email)]
Phone = Annotated[str, Storable, AfterValidator(_phone)]
Name = Annotated[str, Field(min_length=1, max_length=100), Storable, AfterValidator(not_blank)]
Id = Annotated[UUID, Field(strict=False)]
# A bound that a search begins or ends at: also one that no clock says.
Bound = Annotated[datetime, Field(strict=False), BeforeValidator(_written)]
Moment = Annotated[datetime, Field(strict=False), BeforeValidator(_written), AfterValidator(_in_utc)]
Money = Annotated[int, Field(ge=0, le=MOST_MONEY, description="In minor units (cents)")]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Location = Annotated[str, Field(min_length=1, max_length=50), Storable, AfterValidator(not_blank)]
Sku = Annotated[str, Field(min_length=1, max_length=100), Storable, AfterValidator(not_blank), AfterValidator(_sku)]
ProductName = Annotated[str, Field(min_length=1, max_length=255), Storable, AfterValidator(not_blank)]
Description = Annotated[str, Field(max_length=10_000), Storable]
Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=50), Storable]], Field(max_length=MOST_TAGS)]
Images = Annotated[list[Annotated[str, Field(min_length=1, max_length=2000), Storable]], Field(max_length=50)]
Attributes = Annotated[dict[str, JsonValue], BeforeValidator(_storable_json)]
Weight = Annotated[float, Field(ge=0, le=999_999_999, allow_inf_nan=False)]


class Body(BaseModel):
    """Closed, strict, camelCase."""

    model_config = ConfigDict(strict=True, extra="forbid", alias_generator=to_camel, frozen=True)


def refuse_no_change(patch: Body, may_be_empty: AbstractSet[str]) -> None:
    if not patch.model_fields_set:
        raise wrong("no_change")
    emptied = sorted(to_camel(name) for name in patch.model_fields_set - may_be_empty if getattr(patch, name) is None)
    if emptied:
        raise wrong("not_null", names=", ".join(emptied))
