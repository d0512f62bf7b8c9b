"""The console, put together: its routes, who may use which, and what holds for each of them."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from comanda import telemetry
from comanda.accounts import accounts, console_sessions
from comanda.accounts.accounts import OPERATORS, STAFF, Account
from comanda.api.parts import Parts
from comanda.console import (
    bulk,
    jobs,
    letter,
    letters,
    lists,
    orders,
    overview,
    payments,
    products,
    queues,
    samples,
    signing,
)
from comanda.console.ask import COOKIE, HEADERS, Ask, Desk, Refusal, form_of, is_of_this_origin
from comanda.console.attendance import Attendance
from comanda.console.pieces import Pieces
from comanda.console.pulse import Pulse
from comanda.console.render import Pages
from comanda.errors import DependencyFault, Overrun

Endpoint = Callable[[Ask], Awaitable[Response]]
_log = telemetry.log("console")

ANYBODY: tuple[str, ...] = ()
READERS: tuple[str, ...] = STAFF
ACTORS = OPERATORS
ADMINS = ("admin",)

_OF_PATIENCE = 0.8  # that a page may take: then it is said on a page, before the edge says it for programs

_LIMITED = "Too many requests. Nothing was done; wait a moment, and try again."


@dataclass(frozen=True)
class Page:
    """One route.

    `acts`: it changes something, which nobody does in read-only mode. `is_long`: it may take longer than a page does.
    """

    method: str
    path: str
    endpoint: Endpoint
    roles: Sequence[str]
    acts: bool = False
    is_long: bool = False


ROUTES = [
    Page("GET", "/admin/static/{name}", signing.static, ANYBODY),
    Page("GET", "/admin/login", signing.form, ANYBODY),
    Page("POST", "/admin/login", signing.sign_in, ANYBODY),
    Page("POST", "/admin/logout", signing.sign_out, READERS),
    Page("GET", "/admin/language/{language}", signing.speak, ANYBODY),
    Page("GET", "/admin", overview.show, READERS),
    Page("GET", "/admin/live", overview.live, READERS),
    Page("GET", "/admin/orders", orders.search, READERS),
    Page("GET", "/admin/orders/{order_id}", orders.show, READERS),
    Page("GET", "/admin/payments", payments.search, READERS),
    Page("GET", "/admin/payments/reconciliation", payments.reconciliation, READERS),
    Page("GET", "/admin/stuck", orders.stuck, READERS),
    Page("GET", "/admin/sagas/{saga_id}/{verb}", orders.preview, ACTORS, acts=True),
    Page("POST", "/admin/sagas/{saga_id}/{verb}", orders.act, ACTORS, acts=True),
    Page("GET", "/admin/dead-letters", letters.groups, READERS),
    Page("GET", "/admin/dead-letters/letter/{letter_id}", letter.show, READERS),
    Page("POST", "/admin/dead-letters/letter/{letter_id}", letter.change, ACTORS, acts=True),
    Page("GET", "/admin/dead-letters/{fingerprint}", letters.group, READERS),
    Page("POST", "/admin/dead-letters/{fingerprint}/redrive", letters.redrive, ACTORS, acts=True),
    Page("GET", "/admin/bulk", bulk.listed, READERS),
    Page("POST", "/admin/bulk", bulk.begin, ACTORS, acts=True),
    Page("GET", "/admin/bulk/look", bulk.look, ACTORS, acts=True, is_long=True),
    Page("GET", "/admin/bulk/{bulk_id}", bulk.show, READERS),
    Page("POST", "/admin/bulk/{bulk_id}/{move}", bulk.switch, ACTORS, acts=True),
    Page("GET", "/admin/queues", queues.show, READERS),
    Page("GET", "/admin/queues/{queue}", queues.jobs, READERS),
    Page("GET", "/admin/queues/{queue}/{saga_id}", jobs.show, READERS),
    Page("POST", "/admin/queues/{queue}/{switch}", queues.switch, ACTORS, acts=True),
    Page("GET", "/admin/audit", lists.audit, READERS),
    Page("GET", "/admin/mailbox", lists.mails, READERS),
    Page("GET", "/admin/mailbox/templates", samples.listed, READERS),
    Page("GET", "/admin/mailbox/templates/{language}/{kind}", samples.show, READERS),
    Page("GET", "/admin/mailbox/templates/{language}/{kind}/body", samples.body, READERS),
    Page("GET", "/admin/mailbox/{key:path}/body", lists.mail_body, READERS),
    Page("GET", "/admin/mailbox/{key:path}", lists.mail, READERS),
    Page("GET", "/admin/stock", lists.stock, READERS),
    Page("GET", "/admin/products", products.listed, READERS),
    Page("GET", "/admin/products/{product_id}", products.show, READERS),
    Page("POST", "/admin/products/{product_id}/{verb}", products.switch, ADMINS, acts=True),
    Page("GET", "/admin/webhooks", lists.webhooks, ADMINS),
    Page("GET", "/admin/webhooks/{webhook_id}", lists.webhook, ADMINS),
    Page("POST", "/admin/webhooks/{webhook_id}/deliveries/{delivery_id}", lists.redeliver, ADMINS, acts=True),
    Page("GET", "/admin/users", lists.users, ADMINS),
    Page("GET", "/admin/settings", lists.settings, ADMINS),
]


def build(parts: Parts) -> ASGIApp:
    """What answers under `/admin`."""
    pages = Pages()
    attendance, is_read_only = Attendance(parts.database), parts.settings.console == "read-only"
    desk = Desk(parts, pages, Pieces(pages), Pulse(parts), attendance, is_read_only)
    return _Console(desk)


def _named(page: Page) -> Page:
    """As logs and metrics call it: without the router's own spelling."""
    return replace(page, path=page.path.replace(":path}", "}"))


class _Console:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._patience = desk.parts.settings.request_seconds * _OF_PATIENCE
        self._has_staff = False
        self._routes = [(Route(page.path, signing.form, methods=[page.method]), _named(page)) for page in ROUTES]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        ask = Ask(self._desk, request, None, "")
        try:
            page = self._found(scope)
            # What is only looked at may be broken off anywhere.
            is_short = request.method == "GET" and not page.is_long
            async with asyncio.timeout(self._patience if is_short else None):
                answer = await self._answer(page, request)
        except Refusal as said:
            refusal = Refusal(429, _LIMITED) if scope.get("comanda.is_limited") else said
            answer = ask.page("refused.html", status=refusal.status, why=refusal.why, bare=True)
            answer.headers.update(refusal.headers)
        except (Overrun, TimeoutError) as fault:
            _log.warning("A page took too long", path=scope["path"], error=str(fault))
            why = "This takes too long. Nothing was done; ask for less at a time, and try again."
            answer = ask.page("refused.html", status=503, why=why, bare=True)
        except DependencyFault as fault:
            _log.warning("A dependency does not answer", error=str(fault), kind=type(fault).__name__)
            why = "PostgreSQL does not answer in time. Nothing was done; try again."
            answer = ask.page("refused.html", status=503, why=why, bare=True)
        await answer(scope, receive, send)

    def _found(self, scope: Scope) -> Page:
        if "\x00" in scope["path"]:  # no text in PostgreSQL has one
            raise Refusal(404, "There is nothing at this address.")
        allowed: set[str] = set()
        asked = {**scope, "path": "/admin"} if scope["path"] == "/admin/" else scope  # as people write it, too
        for route, page in self._routes:
            match, more = route.matches(asked)
            if match is Match.FULL:
                scope["path_params"] = more["path_params"]
                scope["route"] = page
                return page
            if match is Match.PARTIAL:
                scope["route"] = page
                allowed |= route.methods or set()
        if allowed:
            raise Refusal(405, "There is nothing at this address.", {"Allow": ", ".join(sorted(allowed))})
        raise Refusal(404, "There is nothing at this address.")

    async def _answer(self, page: Page, request: Request) -> Response:
        if request.scope.get("comanda.is_limited"):
            raise Refusal(429, _LIMITED)
        if page.endpoint is signing.static:
            return await page.endpoint(Ask(self._desk, request, None, ""))
        token = request.cookies.get(COOKIE, "")
        account = await self._account(token)
        if token:
            # Whose bucket its next requests are counted in.
            request.scope["comanda.session"] = (token, None if account is None else account.id)
        if account is None:
            await self._see_staff()
        else:
            request.scope["comanda.user"] = str(account.id)
        if page.roles and account is None:
            return RedirectResponse("/admin/login", 303, HEADERS)
        ask = Ask(self._desk, request, account, token)
        if request.method == "POST":
            if not is_of_this_origin(request):
                raise Refusal(403, "This was sent from somewhere else. Nothing was done.")
            ask = Ask(self._desk, request, account, token, await form_of(request))
            if page.roles and not hmac.compare_digest(ask.form.get("csrf", "").encode(), ask.csrf.encode()):
                raise Refusal(403, "This form is out of date. Nothing was done; go back and reload the page.")
        if page.roles and account is not None and account.role not in page.roles:
            raise Refusal(403, "Your role does not allow this. Nothing was done.")
        if page.acts and self._desk.is_read_only:
            raise Refusal(403, "The console is in read-only mode. Nothing was done.")
        return await page.endpoint(ask)

    async def _account(self, token: str) -> Account | None:
        if not token or len(token) > 100:
            return None
        async with self._desk.parts.database.connection() as tx:
            (account_id,) = await console_sessions.find(tx, [token])
            account = None if account_id is None else (await accounts.find(tx, [account_id]))[0]
        return account if account is not None and account.is_active and account.role in STAFF else None

    async def _see_staff(self) -> None:
        """Where nobody could sign in there is nothing to be found."""
        if not self._has_staff:
            async with self._desk.parts.database.connection() as tx:
                self._has_staff = await accounts.has_staff(tx)
        if not self._has_staff:
            raise Refusal(404, "There is nothing at this address.")
