"""Signing in and out; the style sheet and the script."""

from datetime import timedelta

from starlette.responses import Response

from comanda.accounts import console_sessions, passwords
from comanda.accounts.accounts import STAFF
from comanda.api import auth
from comanda.api.problems import Problem
from comanda.api.rate_limits import network_of
from comanda.console.ask import COOKIE, SPEAKS, Ask, Refusal
from comanda.console.render import LANGUAGES, STATIC, VERSION
from comanda.failpoints import Boundary

SIGN_IN = Boundary("console.sign_in")
SIGN_OUT = Boundary("console.sign_out")

LIFETIME = timedelta(hours=12)
_YEAR = 365 * 86_400
_SLOWLY = "Too many tries: wait a minute."
_WRONG = "E-mail or password is wrong."
_KINDS = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


async def static(ask: Ask) -> Response:
    """A file of our own; for ever under its version."""
    name = ask.request.path_params["name"]
    if name not in STATIC:
        raise Refusal(404, "There is nothing at this address.")
    is_this_version = ask.request.query_params.get("v") == VERSION
    headers = {"Cache-Control": f"public, max-age={_YEAR}, immutable" if is_this_version else "no-cache"}
    return Response(STATIC[name], 200, headers, _KINDS[name.rpartition(".")[2]])


async def form(ask: Ask) -> Response:
    """Who are you?"""
    if ask.account is not None:
        return ask.go("/admin")
    return ask.page("login.html", why="", email="", bare=True)


async def sign_in(ask: Ask) -> Response:
    """In, by e-mail and password of somebody on the staff. A customer is told what a stranger is told."""
    email, password = ask.form.get("email", "").strip(), ask.form.get("password", "")
    address = network_of(ask.request.client.host if ask.request.client else "")
    try:
        is_one = len(password) <= passwords.LONGEST
        account = await auth.admitted(ask.parts, email[:254], password if is_one else "", address)
    except Problem as problem:
        why = _SLOWLY if problem.code == "TOO_MANY_REQUESTS" else _WRONG
        return ask.page("login.html", status=problem.status_code, why=why, email=email, bare=True)
    if account.role not in STAFF:
        return ask.page("login.html", status=401, why=_WRONG, email=email, bare=True)
    async with ask.parts.database.transaction(SIGN_IN) as tx:
        if await auth.begun(tx, account, address) is None:
            return ask.page("login.html", status=401, why=_WRONG, email=email, bare=True)
        (token,) = await console_sessions.begin(tx, [account.id], LIFETIME)
    ask.request.scope["comanda.session"] = (token, account.id)
    answer = ask.go("/admin")
    answer.set_cookie(
        COOKIE,
        token,
        max_age=int(LIFETIME.total_seconds()),
        path="/admin",
        httponly=True,
        samesite="strict",
        secure=_is_secure(ask),
    )
    return answer


async def sign_out(ask: Ask) -> Response:
    """Out: the cookie is worth nothing any more."""
    async with ask.parts.database.transaction(SIGN_OUT) as tx:
        await console_sessions.finish(tx, [ask.token])
    ask.request.scope["comanda.session"] = (ask.token, None)
    answer = ask.go("/admin/login")
    answer.delete_cookie(COOKIE, path="/admin", httponly=True, samesite="strict", secure=_is_secure(ask))
    return answer


async def speak(ask: Ask) -> Response:
    """Another language, from now on."""
    language = ask.request.path_params["language"]
    if language not in LANGUAGES:
        raise Refusal(404, "There is nothing at this address.")
    back = ask.asked("back")
    answer = ask.go(back if back.startswith("/admin") and "\\" not in back else "/admin")
    answer.set_cookie(SPEAKS, language, max_age=_YEAR, path="/admin", samesite="strict", secure=_is_secure(ask))
    return answer


def _is_secure(ask: Ask) -> bool:
    return ask.parts.settings.environment == "production" or ask.request.scope["scheme"] == "https"
