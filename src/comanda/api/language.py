"""Problems in the language of whoever asked. English stands where it is said, the rest in `language.<tag>.json`."""

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from comanda.sentences import Sentence

ENGLISH = "en"
_LONGEST = 1000
_ACCEPT = b"accept-language"

# {tag: {"titles": {code: title}, "explained": {code: text}, "sentences": {English pattern: pattern}}}
TRANSLATIONS: dict[str, dict[str, dict[str, str]]] = {
    path.suffixes[0].removeprefix("."): json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(Path(__file__).parent.glob("language.*.json"))
}
LANGUAGES = (ENGLISH, *TRANSLATIONS)


def title(code: str, english: str, language: str) -> str:
    """The title of a code; English where it has no other."""
    known = TRANSLATIONS.get(language)
    return english if known is None else known["titles"].get(code, english)


def explained(code: str, english: str, language: str) -> str:
    """What the page of a code says; English where it has no other."""
    known = TRANSLATIONS.get(language)
    return english if known is None else known["explained"].get(code, english)


def told(sentence: str, language: str) -> str:
    """A sentence, and those that stand in it, in a language; English where it has no other."""
    known = TRANSLATIONS.get(language)
    if known is None:
        return sentence
    if not isinstance(sentence, Sentence):
        return known["sentences"].get(sentence, sentence)
    values = {
        name: told(value, language) if isinstance(value, str) else value for name, value in sentence.values.items()
    }
    return known["sentences"].get(sentence.pattern, sentence.pattern).format(**values)


def asked_for(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The language among ours that raw headers want most; English where they want none of them."""
    accepted = b",".join(value for name, value in headers if name == _ACCEPT)
    return negotiated(accepted) if accepted else ENGLISH


@lru_cache(maxsize=256)
def negotiated(accepted: bytes) -> str:
    """What `Accept-Language` (RFC 9110, 12.5.4) chooses: the highest weight, then what stands first.

    A range counts for its language (`es-MX` is content with `es`), and `*` for those that are not named. What can't be
    read is left out, what is refused by `q=0` is not chosen.
    """
    named: dict[str, tuple[float, int]] = {}
    for place, one in enumerate(accepted[:_LONGEST].decode("latin-1").lower().split(",")):
        wanted, *parameters = (part.strip() for part in one.split(";"))
        language = wanted.partition("-")[0]
        weight = _weight(parameters)
        if weight is not None and weight > named.get(language, (-1.0, 0))[0]:
            named[language] = (weight, -place)
    best = max(LANGUAGES, key=lambda one: named.get(one, named.get("*", (0.0, 0))))
    return best if named.get(best, named.get("*", (0.0, 0)))[0] > 0 else ENGLISH


def _weight(parameters: list[str]) -> float | None:
    for one in parameters:
        name, _, value = one.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return None
            return weight if 0 <= weight <= 1 else None
    return 1.0
