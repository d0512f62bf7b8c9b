"""What is told to people: in English, with what it takes to tell it in another language."""

from collections.abc import Iterable
from typing import Self


class Sentence(str):
    """A text that remembers its pattern and what stands in it: `Sentence("Only {free} units are free", free=3)`.

    A plain text is a sentence too, whose pattern is itself.
    """

    __slots__ = ("pattern", "values")
    pattern: str
    values: dict[str, object]

    def __new__(cls, pattern: str, /, **values: object) -> Self:
        made = super().__new__(cls, pattern.format(**values))
        made.pattern = pattern
        made.values = values
        return made


def choose(pattern: str, choices: Iterable[str]) -> Sentence:
    """What there is, where something that there isn't was asked for: `{choices}` of the pattern."""
    return Sentence(pattern, choices=", ".join(choices))
