"""Pages from templates, in English and Spanish. Whatever is shown is escaped; times are UTC."""

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from babel.dates import format_timedelta
from babel.messages.pofile import read_po
from babel.numbers import format_currency, format_decimal, format_percent, get_currency_precision
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from comanda.checkout.story import sentence
from comanda.clock import now
from comanda.sentences import Sentence

_FOLDER = Path(__file__).parent
STATIC = {path.name: path.read_bytes() for path in sorted((_FOLDER / "static").iterdir())}
VERSION = hashlib.sha256(b"".join(STATIC.values())).hexdigest()[:12]

Language = Literal["en", "es"]
LANGUAGES: tuple[Language, ...] = ("en", "es")

# A state is a shape and a word before it is a colour.
_MARKS = {
    "good": "●", "busy": "◐", "wait": "◷", "bad": "▲", "undone": "○",
}  # fmt: skip
_TONES = {
    "CONFIRMED": "good", "SHIPPED": "good", "DELIVERED": "good", "COMPLETED": "good", "SUCCEEDED": "good",
    "SENT": "good", "ENDED": "good", "done": "good", "up": "good", "CLOSED": "good", "runs": "good",
    "PENDING": "busy", "PROCESSING": "busy", "PAYMENT_PENDING": "busy", "RUNNING": "busy", "COMPENSATING": "busy",
    "here": "busy", "ahead": "undone", "undone": "undone",
    "STOPPED": "wait", "later": "wait",
    "paused": "wait", "HALF_OPEN": "wait", "degraded": "wait", "unknown": "wait", "operator": "wait",
    "PAYMENT_FAILED": "bad", "COMPENSATION_FAILED": "bad", "FAILED": "bad", "failed": "bad", "stuck": "bad",
    "lost": "bad", "no answer": "bad", "refused": "bad", "down": "bad", "full": "bad", "OPEN": "bad",
    "used": "good", "not used": "wait",
    "kept": "good", "budget low": "wait", "budget spent": "bad",
    "CANCELLED": "undone", "REFUNDED": "undone", "COMPENSATED": "undone",
}  # fmt: skip

# What a story says in English around the names of steps and ids.
_TOLD = [
    (re.compile(r"(, )attempt( \d+)$"), "attempt"),
    (re.compile(r"( \()undoing(\), |\)$)"), "undoing"),
    (re.compile(r"^()correlation( )"), "correlation"),
]

# Where a saga stands, in a text that is kept or compared in English.
_STANDING = re.compile(r"\b(stuck|[A-Z_]{5,}) at (\w+)( \(undoing\))?")
_VERB = re.compile(r"^(retry|skip|compensate|resolve)(?=: )")


@cache
def words_of(language: Language) -> Mapping[str, str]:
    """What each text of the templates is in that language; English ones are their own, but for codes."""
    with (_FOLDER / f"{language}.po").open("rb") as file:
        catalogue = read_po(file, locale=language)
    return {str(one.id): str(one.string) for one in catalogue if one.id and one.string}


def tone(state: str) -> str:
    """How a state is shown; what a receiver answered is one too."""
    if state.isdigit():
        return "good" if state.startswith("2") else "bad"
    return _TONES.get(state, "busy")


def money(minor: int | None, currency: str | None, language: Language) -> str:
    """An amount of minor units, as it is written there."""
    if minor is None:
        return "—"
    code = currency or "USD"
    amount = Decimal(minor).scaleb(-get_currency_precision(code))
    return format_currency(amount, code, locale=language)


def clock_time(at: datetime | None) -> str:
    return "—" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def lasted(milliseconds: float | None, language: Language) -> str:
    """A duration: `3.2 ms`, `1.5 s`, `30 s`."""
    if milliseconds is None:
        return "—"
    if milliseconds >= 1000:
        return f"{format_decimal(milliseconds / 1000, format='#,##0.##', locale=language)} s"
    return f"{format_decimal(milliseconds, format='0.#', locale=language)} ms"


def _short(one: UUID | str) -> str:
    """Of an id what tells it from its neighbours: its end."""
    return f"…{str(one)[-12:]}"


class Pages:
    """Renders; one environment for each language."""

    def __init__(self) -> None:
        self._environments = {language: _environment(language) for language in LANGUAGES}

    def render(self, language: Language, template: str, values: Mapping[str, Any]) -> str:
        """One page, or a piece of one."""
        return self._environments[language].get_template(template).render(values)


def _saying(say: Callable[..., str], words: Mapping[str, str]) -> Callable[[str], str]:
    """Says what stands in the way of an act, and where a saga stands; names stay as they are."""

    def stood(match: re.Match[str]) -> str:
        state, step, undoing = match.groups()
        return say("{state} at {step} (undoing)" if undoing else "{state} at {step}", state=say(state), step=step)

    def said(text: str) -> str:
        if "{state} at {step}" not in words:  # it is said in English already
            return text
        if isinstance(text, Sentence) and text.values:
            return say(text.pattern, **{name: said(str(value)) for name, value in text.values.items()})
        if text in words:
            return words[text]
        return _STANDING.sub(stood, _VERB.sub(lambda verb: say(verb[0]), text))

    return said


# Marks that turn the direction of whatever comes after them, also of what somebody else has written.
_TURNS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def _level(value: Any) -> Any:
    """A text of somebody's turns nobody else's round."""
    return value.translate(_TURNS) if isinstance(value, str) and not isinstance(value, Markup) else value


def _environment(language: Language) -> Environment:
    words = words_of(language)
    made = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        finalize=_level,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def say(text: str, **values: Any) -> str:
        said = words.get(text, text)
        return said.format(**values) if values else said

    def told(text: str) -> str:
        """A line of a story: names stay as they are."""
        if text in words:
            return words[text]
        for pattern, word in _TOLD:
            text = pattern.sub(rf"\g<1>{say(word)}\g<2>", text)
        return text

    def ago(at: datetime | None) -> str:
        if at is None:
            return "—"
        return format_timedelta(at - now(), add_direction=True, locale=language)

    def age(seconds: float) -> str:
        return format_timedelta(timedelta(seconds=seconds), locale=language)

    def number(value: float | None) -> str:
        return "—" if value is None else format_decimal(value, locale=language)

    def signed(value: int) -> str:
        return f"{'+' if value > 0 else ''}{format_decimal(value, locale=language)}" if value else ""

    def share(value: float | None) -> str:
        return (
            "—"
            if value is None
            else format_percent(value, format="#,##0.##%" if 0.99 < value < 1 else "#,##0.#%", locale=language)
        )

    made.globals.update(_=say, language=language, languages=LANGUAGES, version=VERSION, marks=_MARKS, sentence=sentence)
    made.filters.update(
        ago=ago, age=age, told=told, said=_saying(say, words), number=number, share=share, signed=signed, tone=tone,
        time=clock_time, lasted=lambda took: lasted(took, language), short=_short,
        money=lambda minor, currency: money(minor, currency, language),
    )  # fmt: skip
    return made
