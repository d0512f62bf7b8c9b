"""Rejected lines as a table that people open with a spreadsheet."""

from comanda.imports.lines import Rejection

COLUMNS = ("line", "field", "code", "message", "text")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cells(rejection: Rejection) -> list[str | int]:
    """A row. What a spreadsheet would take for a formula begins with an apostrophe."""
    texts = rejection.field, rejection.code, rejection.message, rejection.text
    return [rejection.line, *(f"'{text}" if text.startswith(_FORMULA) else text for text in texts)]
