"""What a line of a file says: the fields of the API's bodies, by the same rules."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from comanda.catalog.bodies import ProductPatch
from comanda.field_errors import of_pydantic
from comanda.fields import Body, Location, Sku
from comanda.imports.files import Format, Head, Line, Malformed, json_of
from comanda.inventory.admin import MOST
from comanda.sentences import Sentence

Kind = Literal["products", "stock"]

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_MOST_SAID = 5
_LONGEST_NAME = 100


class ProductLine(ProductPatch):
    """A product by its SKU. What is left out stays as it is; one that is new needs a name and a price."""

    sku: Sku


class StockLine(Body):
    """Units of a product: `set` says how many lie there, `add` how many come, or, below nought, go."""

    sku: Sku
    location: Location = "MAIN"
    quantity: Annotated[int, Field(ge=-MOST, le=MOST)]
    mode: Literal["set", "add"] = "set"

    @model_validator(mode="after")
    def _is_possible(self) -> "StockLine":
        if self.mode == "set" and self.quantity < 0:
            raise ValueError("quantity can't be below nought where mode is set")
        return self


@dataclass(frozen=True, slots=True)
class Rejection:
    """A line that was not done. `field` is empty where it is about the whole line."""

    line: int
    text: str
    field: str
    code: str
    message: str


LINES: Mapping[Kind, type[ProductLine] | type[StockLine]] = {"products": ProductLine, "stock": StockLine}


def columns_of(kind: Kind) -> list[str]:
    """What the columns may be called: as in JSON."""
    return [one.alias or name for name, one in LINES[kind].model_fields.items()]


def wrong_columns(kind: Kind, found: Head) -> list[tuple[str, str]]:
    """(column, what is wrong with it) of a header."""
    known = columns_of(kind)
    needed = ["sku"] if kind == "products" else ["sku", "quantity"]
    wrong = [
        (one, Sentence("There is no such column. There are: {columns}", columns=", ".join(known)))
        for one in found.columns
        if one not in known
    ]
    twice = Sentence("This column stands twice")
    wrong += [(one, twice) for one in dict.fromkeys(found.columns) if found.columns.count(one) > 1]
    wrong += [(one, Sentence("This column is needed")) for one in needed if one not in found.columns]
    return [(column[:_LONGEST_NAME], message) for column, message in wrong]


def _integer(cell: str) -> Any:
    return int(cell) if _INTEGER.fullmatch(cell) else cell


def _decimal(cell: str) -> Any:
    return float(cell) if _DECIMAL.fullmatch(cell) else cell


def _boolean(cell: str) -> Any:
    return {"true": True, "false": False}.get(cell.lower(), cell)


def _list(cell: str) -> Any:
    return cell.split("|")


def _document(cell: str) -> Any:
    try:
        return json_of(cell)
    except ValueError:
        return cell


# What a cell says; one that says nothing of the kind stays a text, which the field then refuses.
_CELLS: Mapping[str, Callable[[str], Any]] = {
    "price": _integer,
    "costPrice": _integer,
    "compareAtPrice": _integer,
    "minimumStock": _integer,
    "quantity": _integer,
    "weight": _decimal,
    "trackInventory": _boolean,
    "isActive": _boolean,
    "tags": _list,
    "images": _list,
    "attributes": _document,
}


def judge(line: Line, kind: Kind, format_: Format) -> ProductLine | StockLine | Rejection:
    """What the line says, or why it says nothing."""
    if isinstance(line.values, Malformed):
        return Rejection(line.number, line.text, "", line.values.code, line.values.message)
    values = line.values
    if format_ == "csv":
        values = {name: _CELLS.get(name, str)(cell) for name, cell in values.items()}
    try:
        return LINES[kind].model_validate(values)
    except ValidationError as refused:
        field, message = _told(refused.errors(include_url=False, include_input=False))
        return Rejection(line.number, line.text, field, "VALIDATION_FAILED", message)


def refused(line: Line, field: str, code: str, message: str) -> Rejection:
    return Rejection(line.number, line.text, field, code, message)


def _told(errors: Sequence[Any]) -> tuple[str, str]:
    """The first wrong field, and what is wrong with each."""
    said = []
    for error, told in zip(errors[:_MOST_SAID], of_pydantic(errors[:_MOST_SAID]), strict=True):
        place = _storable(".".join(str(part) for part in error["loc"]))[:_LONGEST_NAME]
        said.append((place, told.message))
    first, message = said[0]
    more = [f"{place}: {text}" if place else text for place, text in said[1:]]
    return first, _storable("; ".join([message, *more]))


def _storable(text: str) -> str:
    """Names come from the file: what PostgreSQL can't keep is shown as such."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
