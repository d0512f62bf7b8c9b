"""Messages to customers from template files: `templates/<language>/<kind>.{html,txt,subject.txt,sms.txt}`.

The same variables always give the same message. Nothing but the templates is read, each of them once.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from babel.numbers import format_currency, get_currency_precision, get_group_symbol
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, UndefinedError, select_autoescape

from comanda.errors import DefinitionFault

KINDS = frozenset({"order_confirmation", "payment_failure", "order_cancellation", "order_shipped", "order_refund"})
# About an account, not an order: they carry a token, and go by e-mail alone.
ACCOUNT_KINDS = frozenset({"email_verification", "password_reset"})
AccountKind = Literal["email_verification", "password_reset"]
CHANNELS = frozenset({"email", "sms"})
FALLBACK_LANGUAGE = "en"
SUBJECT_LENGTH = 120
REFERENCE_LENGTH = 8

_TEMPLATES = Path(__file__).parent / "templates"
LANGUAGES = frozenset(folder.name for folder in _TEMPLATES.iterdir() if folder.is_dir())

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=select_autoescape(["html"], default=False),
    undefined=StrictUndefined,
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
    cache_size=-1,
)
_ENVIRONMENT.globals.clear()  # no template uses one

# White space, control characters, and the marks that turn the direction of what follows them.
_NOT_ON_ONE_LINE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")
_NARROW = str.maketrans({"\u00a0": " ", "\u202f": " "})

_Part = Literal["html", "txt", "subject.txt", "sms.txt"]


@dataclass(frozen=True, slots=True)
class Message:
    """What goes to a mailer. An SMS has an empty subject and no HTML."""

    subject: str
    text: str
    html: str | None


def render(kind: str, channel: str, language: str, variables: Mapping[str, Any]) -> Message:
    """Render one message.

    Args:
        kind: one of `KINDS` or, by e-mail, of `ACCOUNT_KINDS`.
        channel: one of `CHANNELS`.
        language: a tag such as `es` or `es-MX`; English where there are no templates for it.
        variables: `order_id`, `first_name`, `currency`, `total_amount` and `lines` (each with `name`, `quantity`,
            `unit_price`, `total`); amounts in minor units. `reason` is a stable code and may be unknown or absent, as
            `carrier` and `tracking_number` of a parcel may. About an account: `first_name` and `token`.

    Raises:
        DefinitionFault: an unknown kind or channel, or a variable that is missing.
    """
    if kind not in KINDS | ACCOUNT_KINDS:
        raise DefinitionFault(f"no message of the kind {kind!r}; known: {', '.join(sorted(KINDS | ACCOUNT_KINDS))}")
    if channel not in CHANNELS:
        raise DefinitionFault(f"no channel {channel!r}; known: {', '.join(sorted(CHANNELS))}")
    if kind in ACCOUNT_KINDS and channel != "email":
        raise DefinitionFault(f"{kind} goes by e-mail alone")
    spoken = _spoken(language)
    try:
        shown = _about_account(spoken, variables) if kind in ACCOUNT_KINDS else _shown(kind, spoken, variables)
        if channel == "sms":
            text = _rendered(spoken, kind, "sms.txt", shown)
            return Message(subject="", text=_one_line(text.translate(_NARROW)), html=None)
        return Message(
            subject=_one_line(_rendered(spoken, kind, "subject.txt", shown))[:SUBJECT_LENGTH],
            text=_rendered(spoken, kind, "txt", shown),
            html=_rendered(spoken, kind, "html", shown),
        )
    except (KeyError, UndefinedError) as missing:
        raise DefinitionFault(f"{kind} can't be rendered, a variable is missing: {missing}") from missing


@lru_cache(maxsize=4096)
def money(amount: int, currency: str, language: str) -> str:
    """Minor units as people write them, equal to what Babel answers at twenty times the cost."""
    form = _money_form(currency, language)
    major, minor = divmod(abs(amount), form.minor_units)
    sign = "-" if amount < 0 else ""
    grouped = f"{major:,}".replace(",", form.group)
    fraction = f"{form.decimal}{minor:0{form.digits}}" if form.digits else ""
    return f"{sign}{form.prefix}{grouped}{fraction}{form.suffix}"


@dataclass(frozen=True, slots=True)
class _MoneyForm:
    prefix: str
    group: str
    decimal: str
    suffix: str
    digits: int
    minor_units: int


@lru_cache(maxsize=512)
def _money_form(currency: str, language: str) -> _MoneyForm:
    """What Babel writes around and between the digits, learnt from its zero."""
    digits = get_currency_precision(currency)
    zero = format_currency(Decimal(0), currency, locale=language)
    found = re.fullmatch(r"(\D*)0(?:(\D)0+)?(\D*)", zero)
    if found is None:
        raise DefinitionFault(f"amounts in {currency!r} can't be written in {language!r}: zero is {zero!r}")
    prefix, decimal, suffix = found.groups(default="")
    return _MoneyForm(prefix, get_group_symbol(language), decimal, suffix, digits, 10**digits)


def _shown(kind: str, language: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    currency = variables["currency"]
    order_id = _one_line(variables["order_id"])
    reasons = _reasons(language)
    return {
        "language": language,
        "order_id": order_id,
        "reference": order_id[-REFERENCE_LENGTH:],
        "first_name": _one_line(variables["first_name"] or ""),
        "lines": [
            (
                _one_line(line["name"]),
                line["quantity"],
                money(line["unit_price"], currency, language),
                money(line["total"], currency, language),
            )
            for line in variables["lines"]
        ],
        "total_amount": money(variables["total_amount"], currency, language),
        "reason": reasons.get(variables.get("reason"), reasons[kind]) if kind in reasons else None,
        "carrier": _one_line(variables.get("carrier") or ""),
        "tracking_number": _one_line(variables.get("tracking_number") or ""),
    }


def _about_account(language: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "language": language,
        "first_name": _one_line(variables["first_name"] or ""),
        "token": _one_line(variables["token"]),
        "reason": None,
    }


def _one_line(value: object) -> str:
    text = str(value)
    return (text if text.isprintable() else _NOT_ON_ONE_LINE.sub(" ", text)).strip()


@lru_cache(maxsize=1024)
def _spoken(language: str) -> str:
    primary = re.split("[-_]", language.strip().lower(), maxsplit=1)[0]
    return primary if primary in LANGUAGES else FALLBACK_LANGUAGE


def _rendered(language: str, kind: str, part: _Part, shown: dict[str, Any]) -> str:
    """As `Template.render` does it, but for a copy of the variables and of the globals, of which there are none."""
    template = _template(language, kind, part)
    return _ENVIRONMENT.concat(template.root_render_func(template.new_context(shown, shared=True)))


@cache
def _template(language: str, kind: str, part: _Part) -> Template:
    return _ENVIRONMENT.get_template(f"{language}/{kind}.{part}")


@cache
def _reasons(language: str) -> dict[str | None, str]:
    """Sentences by code; under the name of a kind, the one for codes that nobody foresaw."""
    sentences: dict[str | None, str] = json.loads((_TEMPLATES / language / "reasons.json").read_text(encoding="utf-8"))
    return sentences
