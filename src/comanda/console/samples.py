"""Every message that customers may get, with made-up values: so that nobody has to order something to see one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from comanda.console.ask import HEADERS, Ask, Refusal
from comanda.console.lists import MAIL_POLICY
from comanda.notifications import render
from comanda.notifications.render import ACCOUNT_KINDS, KINDS, LANGUAGES, Message

_EVERY_KIND = sorted(KINDS) + sorted(ACCOUNT_KINDS)
_CODE = "made-up-code-that-opens-nothing"
_MADE_UP: Mapping[str, Any] = {
    "order_id": "01900000-0000-7000-8000-00000000cafe",
    "first_name": "Ana",
    "currency": "USD",
    "total_amount": 264_997,
    "lines": [
        {"name": "Espresso machine", "quantity": 1, "unit_price": 249_900, "total": 249_900},
        {"name": "Café de altura, 1 kg", "quantity": 3, "unit_price": 5_099, "total": 15_297},
    ],
    "reason": "INSUFFICIENT_FUNDS",
    "carrier": "Correos",
    "tracking_number": "ES 123 456",
    "token": _CODE,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A message as it would be sent. `sms` None: it goes by e-mail alone."""

    kind: str
    language: str
    mail: Message
    sms: str | None


def sample(kind: str, language: str) -> Sample:
    """One message, with made-up values."""
    mail = render.render(kind, "email", language, _MADE_UP)
    sms = None if kind in ACCOUNT_KINDS else render.render(kind, "sms", language, _MADE_UP).text
    return Sample(kind, language, mail, sms)


async def listed(ask: Ask) -> Response:
    """All of them, in each language."""
    rows = [sample(kind, language) for kind in _EVERY_KIND for language in sorted(LANGUAGES)]
    return ask.page("samples.html", rows=rows)


async def show(ask: Ask) -> Response:
    """One of them, as its recipient would see it."""
    return ask.page("sample.html", one=_asked(ask))


async def body(ask: Ask) -> Response:
    """The message's own page, for the frame that it is shown in."""
    headers = {name: value for name, value in HEADERS.items() if name != "X-Frame-Options"}
    html = _asked(ask).mail.html or ""
    return Response(html, 200, {**headers, "Content-Security-Policy": MAIL_POLICY}, "text/html")


def _asked(ask: Ask) -> Sample:
    kind, language = ask.request.path_params["kind"], ask.request.path_params["language"]
    if kind not in _EVERY_KIND or language not in LANGUAGES:
        raise Refusal(404, "There is no such message.")
    return sample(kind, language)
