"""Lists: the audit, the mailbox, stock, webhooks, users, settings."""

from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import msgspec
from pydantic import SecretStr
from starlette.responses import Response

from comanda.accounts import accounts
from comanda.accounts.accounts import ROLES, Role
from comanda.api.once import hint
from comanda.audit import acts
from comanda.audit.acts import Act
from comanda.console.ask import HEADERS, Ask, Refusal
from comanda.console.orders import ACT, PAGE
from comanda.inventory import admin
from comanda.notifications import mailbox
from comanda.webhooks import deliveries, endpoints

_MOST_PAGES = 10_000
# A mail is somebody else's page: it may look as it likes, and do nothing.
MAIL_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"


async def audit(ask: Ask) -> Response:
    """Who did what, to what, and why."""
    subject = ask.asked("subject")
    async with ask.parts.assembly.lists.connection() as tx:
        rows = await acts.listed(tx, subject=subject or None, limit=PAGE + 1, before=ask.before())
    shown = [{**row, "detail": msgspec.json.decode(row["detail"])} for row in rows[:PAGE]]
    query = {"subject": subject} if subject else {}
    more = f"/admin/audit?{urlencode({**query, 'before': rows[PAGE - 1]['id']})}" if len(rows) > PAGE else None
    return ask.page("audit.html", rows=shown, subject=subject, next=more)


async def mails(ask: Ask) -> Response:
    """The newest messages to customers."""
    at, _, key = ask.asked("before").partition("|")
    before = None
    if at:
        try:
            sent_at = datetime.fromisoformat(at)
            if sent_at.tzinfo is None:
                raise Refusal(422, "There is nothing at this address.")
            before = (sent_at.astimezone(UTC), key)
        except (ValueError, OverflowError):
            raise Refusal(422, "There is nothing at this address.") from None
    async with ask.parts.assembly.lists.connection() as tx:
        rows = await mailbox.page(tx, before=before, limit=PAGE + 1, of_orders_only=not ask.is_admin)
    more = None
    if len(rows) > PAGE:
        last = rows[PAGE - 1]
        more = f"/admin/mailbox?{urlencode({'before': f'{last.sent_at.isoformat()}|{last.key}'})}"
    return ask.page("mails.html", rows=rows[:PAGE], next=more)


async def _mail(ask: Ask) -> mailbox.Mail:
    async with ask.parts.assembly.lists.connection() as tx:
        (found,) = await mailbox.find(tx, [ask.request.path_params["key"]], of_orders_only=not ask.is_admin)
    if found is None:
        raise Refusal(404, "There is no such message.")
    return found


async def mail(ask: Ask) -> Response:
    """One message, as its recipient saw it."""
    return ask.page("mail.html", mail=await _mail(ask))


async def mail_body(ask: Ask) -> Response:
    """The message's own page, for the frame that it is shown in."""
    found = await _mail(ask)
    headers = {name: value for name, value in HEADERS.items() if name != "X-Frame-Options"}
    return Response(found.body_html or "", 200, {**headers, "Content-Security-Policy": MAIL_POLICY}, "text/html")


async def stock(ask: Ask) -> Response:
    """What lies where, how much of it is held, how much is free."""
    search, sku = ask.asked("q"), ask.asked("sku")
    after = (sku, ask.asked("location")) if sku else None
    async with ask.parts.assembly.lists.connection() as tx:
        rows = await admin.following(tx, search=search or None, after=after, limit=PAGE + 1)
    more = None
    if len(rows) > PAGE:
        last = rows[PAGE - 1]
        query = {"q": search} if search else {}
        more = f"/admin/stock?{urlencode({**query, 'sku': last.sku, 'location': last.location})}"
    return ask.page("stock.html", rows=rows[:PAGE], search=search, next=more)


async def webhooks(ask: Ask) -> Response:
    """The shop's own systems that are told what happens."""
    async with ask.parts.assembly.lists.connection() as tx:
        return ask.page("webhooks.html", rows=await endpoints.listed(tx))


async def webhook(ask: Ask) -> Response:
    """One endpoint, and what was sent there."""
    endpoint_id = ask.id_of("webhook_id")
    async with ask.parts.assembly.lists.connection() as tx:
        (endpoint,) = await endpoints.find(tx, [endpoint_id])
        if endpoint is None:
            raise Refusal(404, "There is no such endpoint.")
        rows = await deliveries.page(tx, endpoint_id, None, before=ask.before(), limit=PAGE + 1)
        tries = await deliveries.attempts(tx, [one.id for one in rows])
    more = f"/admin/webhooks/{endpoint_id}?before={rows[PAGE - 1].id}" if len(rows) > PAGE else None
    return ask.page("webhook.html", endpoint=endpoint, rows=rows[:PAGE], tries=tries, next=more)


async def redeliver(ask: Ask) -> Response:
    """Send one delivery once more, under the same id."""
    endpoint_id, delivery_id, reason = ask.id_of("webhook_id"), ask.id_of("delivery_id"), ask.reason()
    async with ask.parts.database.transaction(ACT) as tx:
        (endpoint,) = await endpoints.find(tx, [endpoint_id])
        if endpoint is None:
            raise Refusal(404, "There is no such endpoint.")
        if not endpoint.is_active:
            raise Refusal(409, "The endpoint is off: switch it on first.")
        saga = ask.parts.assembly.definitions.webhook
        made, due = await deliveries.send_again(tx, saga, endpoint_id, ids=[delivery_id])
        if made:
            again = {"delivery": str(delivery_id), "again": str(made[0])}
            await acts.record(tx, [Act(ask.actor, "webhook.redeliver", str(endpoint_id), reason, again)])
    await hint(ask.parts, due)
    if not made:
        raise Refusal(409, "It is under way, or not there.")
    return ask.go(f"/admin/webhooks/{endpoint_id}", "↻ 1")


async def users(ask: Ask) -> Response:
    """Accounts, the newest first."""
    search, role = ask.asked("q"), _role(ask)
    async with ask.parts.assembly.lists.connection() as tx:
        rows = await accounts.newest(tx, search=search or None, role=role, before=ask.before(), limit=PAGE + 1)
    query = {name: value for name, value in (("q", search), ("role", role)) if value}
    more = f"/admin/users?{urlencode({**query, 'before': rows[PAGE - 1].id})}" if len(rows) > PAGE else None
    return ask.page("users.html", rows=rows[:PAGE], search=search, role=role, roles=ROLES, next=more)


def _role(ask: Ask) -> Role | None:
    role: Any = ask.asked("role") or None
    if role not in {None, *ROLES}:
        raise Refusal(422, "There is no such role.")
    return cast("Role | None", role)


async def settings(ask: Ask) -> Response:
    """What is in force in this process; what is secret is only said to be set."""
    known = ask.parts.settings
    rows = []
    for name, field in type(known).model_fields.items():
        value = getattr(known, name)
        rows.append({"name": f"COMANDA_{name.upper()}", "value": _shown(value), "is_default": value == field.default})
    return ask.page("settings.html", rows=rows)


def _shown(value: Any) -> str:
    match value:
        case SecretStr():
            return "•••" if value.get_secret_value() else ""
        case None:
            return ""
        case tuple():
            return ", ".join(str(one) for one in value)
        case str() if "://" in value:
            return _masked(value)
        case _:
            return str(value)


def _masked(url: str) -> str:
    """Where it leads; users, passwords and paths may be secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}/…"


def page_number(ask: Ask) -> int:
    """Which page of a list by numbers, from 1."""
    asked = ask.asked("page")
    return min(max(int(asked), 1), _MOST_PAGES) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 1
