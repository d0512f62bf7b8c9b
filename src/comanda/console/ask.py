"""A request to the console: who asks, what they sent, and how they are answered."""

import asyncio
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from comanda.accounts import console_sessions
from comanda.accounts.accounts import OPERATORS, Account
from comanda.api.parts import Parts
from comanda.audit import acts
from comanda.console.attendance import Attendance
from comanda.console.pieces import Pieces
from comanda.console.pulse import Pulse
from comanda.console.render import LANGUAGES, Language, Pages

COOKIE = console_sessions.COOKIE
SPEAKS = "comanda_language"
POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "frame-src 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_LONGEST_REASON = 500
_LONGEST_PARAMETER = 200


class Refusal(Exception):
    """Answered with a page that says why."""

    def __init__(self, status: int, why: str, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.headers = headers


@dataclass(frozen=True)
class Desk:
    """What every page has at hand."""

    parts: Parts
    pages: Pages
    pieces: Pieces
    pulse: Pulse
    attendance: Attendance
    is_read_only: bool
    # One reconciliation at a time in this process.
    reconciling: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True)
class Ask:
    """One request. `token`: of the session, empty without one."""

    desk: Desk
    request: Request
    account: Account | None
    token: str
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> Parts:
        return self.desk.parts

    @property
    def actor(self) -> str:
        """As the audit names who acts."""
        assert self.account is not None
        return self.account.email

    @property
    def csrf(self) -> str:
        """What each form carries: only who can read our pages knows it."""
        return csrf_of(self.token)

    @property
    def may_act(self) -> bool:
        is_staff = self.account is not None and self.account.role in OPERATORS
        return is_staff and not self.desk.is_read_only

    @property
    def is_admin(self) -> bool:
        return self.account is not None and self.account.role == "admin"

    @property
    def language(self) -> Language:
        return spoken(self.request)

    def asked(self, name: str) -> str:
        """A parameter of the query, without white space around it; empty where there is none."""
        return _plain(self.request.query_params.get(name, ""))

    def id_of(self, name: str) -> UUID:
        """An id in the path.

        Raises:
            Refusal: it is none.
        """
        found = uuid_or_none(self.request.path_params[name])
        if found is None:
            raise Refusal(404, "There is nothing at this address.")
        return found

    def before(self) -> UUID | None:
        """Where the last page ended."""
        return uuid_or_none(self.asked("before"))

    def reason(self) -> str:
        """Why somebody acts.

        Raises:
            Refusal: they don't say.
        """
        said = self.form.get("reason", "").strip()
        if acts.is_blank(said):
            raise Refusal(422, "Say why: it is kept with your name.")
        if len(said) > _LONGEST_REASON:
            raise Refusal(422, "A reason has 500 characters at the most. Nothing was done.")
        return said

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        known = {
            "account": self.account, "csrf": self.csrf, "may_act": self.may_act, "is_admin": self.is_admin,
            "is_read_only": self.desk.is_read_only, "path": self.request.scope["path"], "said": self.said,
        }  # fmt: skip
        text = self.desk.pages.render(self.language, template, {**known, **values})
        return Response(text, status, {**HEADERS, "Content-Language": self.language}, "text/html")

    def go(self, path: str, said: str = "") -> Response:
        """See there; with a word about what was done."""
        joint = "&" if "?" in path else "?"
        said = _plain(said)
        told = f"{path}{joint}said={quote(said)}&seal={self._seal(said)}" if said else path
        return RedirectResponse(told, 303, HEADERS)

    @property
    def said(self) -> str:
        """What was done, as we have said it ourselves in this session: no link of others puts words here."""
        said = self.asked("said")
        is_ours = bool(self.token) and hmac.compare_digest(self.asked("seal").encode(), self._seal(said).encode())
        return said if is_ours else ""

    def _seal(self, said: str) -> str:
        return _mac(self.token, f"comanda console said {said}")


def csrf_of(token: str) -> str:
    return _mac(token, "comanda console form")


def _mac(token: str, text: str) -> str:
    return hmac.new(token.encode(), text.encode(), hashlib.sha256).hexdigest()


def _plain(text: str) -> str:
    return text.replace("\x00", "").strip()[:_LONGEST_PARAMETER].strip()


def uuid_or_none(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def spoken(request: Request) -> Language:
    """What was chosen, else what the browser asks for first of what there is, else English."""
    chosen = request.cookies.get(SPEAKS)
    wanted = [chosen, *(one.split(";")[0] for one in request.headers.get("accept-language", "").split(","))]
    for tag in wanted:
        for language in LANGUAGES:
            if tag and tag.strip().lower().split("-")[0] == language:
                return language
    return "en"


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form; of one that stands twice the last."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise Refusal(415, "Only forms are read here.")
    try:
        text = (await request.body()).decode()
        return {
            name: value.replace("\x00", "")
            for name, value in parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100)
        }
    except ValueError:
        raise Refusal(422, "The form can't be read.") from None


def is_of_this_origin(request: Request) -> bool:
    """Whether one of our own pages sent it. Every browser says so of a POST."""
    origin = request.headers.get("origin")
    if origin is not None and origin != "null":
        try:
            sender = urlsplit(origin)
        except ValueError:
            return False
        # What comes in plain HTTP may have begun as HTTPS, at a proxy whose word is not taken: only HTTPS is sure.
        is_of_our_scheme = request.scope["scheme"] != "https" or sender.scheme == "https"
        return is_of_our_scheme and sender.netloc == request.headers.get("host")
    return request.headers.get("sec-fetch-site") == "same-origin"
