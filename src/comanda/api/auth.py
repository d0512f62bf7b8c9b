"""Sign up, sign in, stay signed in, sign out."""

from typing import Annotated

from fastapi import Depends, Request, Response

from comanda.accounts import accounts, passwords, sessions
from comanda.accounts.accounts import Account, EmailTaken, Registration, Role
from comanda.accounts.sessions import Stale
from comanda.api.answers import AccountAnswer, SessionAnswer
from comanda.api.bodies import LoginBody, LogoutBody, RefreshBody, RegisterBody
from comanda.api.document import answers
from comanda.api.parts import Given, Parts
from comanda.api.problems import Problem
from comanda.api.security import SignedIn, router
from comanda.failpoints import Boundary

REGISTER = Boundary("accounts.register")
BEGIN = Boundary("sessions.begin")
RENEW = Boundary("sessions.renew")
REVOKE = Boundary("sessions.revoke")

routes = router("/auth", "auth")


def _session(parts: Parts, account: Account, refresh_token: str) -> SessionAnswer:
    return SessionAnswer(
        access_token=parts.bearer.issue(account.id, account.role, parts.access_lifetime),
        refresh_token=refresh_token,
        expires_in=int(parts.access_lifetime.total_seconds()),
        user=AccountAnswer.model_validate(account),
    )


async def registration(body: RegisterBody, role: Role) -> Registration:
    """What a body asks for, with the password hashed."""
    return Registration(
        email=body.email,
        password_hash=await passwords.hashed(body.password),
        first_name=body.first_name,
        last_name=body.last_name,
        phone_number=body.phone_number,
        language=body.language,
        role=role,
    )


async def _address(request: Request) -> str:
    """The other end of the connection; what a header claims about it is not believed."""
    return request.client.host if request.client else ""


Address = Annotated[str, Depends(_address)]


@routes.post("/register", status_code=201, responses=answers("EMAIL_TAKEN"))
async def register(body: RegisterBody, parts: Given) -> SessionAnswer:
    """Make an account and sign in to it."""
    wanted = await registration(body, "customer")
    async with parts.database.transaction(REGISTER) as tx:
        match (await accounts.register(tx, [wanted]))[0]:
            case EmailTaken():
                raise Problem("EMAIL_TAKEN")
            case account:
                token = (await sessions.begin(tx, [account.id], parts.refresh_lifetime))[0]
    return _session(parts, account, token)


@routes.post("/login", responses=answers("CREDENTIALS_REFUSED", "TOO_MANY_REQUESTS"))
async def login(body: LoginBody, parts: Given, address: Address) -> SessionAnswer:
    """Sign in. An unknown address and a wrong password look alike, and take the same time."""
    who = (address, body.email.lower())
    _slow_down(parts, who)
    async with parts.database.connection() as tx:
        account = (await accounts.by_email(tx, [body.email]))[0]
    is_right = await passwords.matches(body.password, account.password_hash if account else None)
    if account is None or not is_right or not account.is_active:
        parts.logins.count(who)
        raise Problem("CREDENTIALS_REFUSED")
    _slow_down(parts, who)  # guesses that were made at once count too
    parts.logins.forget(who)
    async with parts.database.transaction(BEGIN) as tx:
        token = (await sessions.begin(tx, [account.id], parts.refresh_lifetime))[0]
    return _session(parts, account, token)


@routes.post("/refresh", responses=answers("REFRESH_REFUSED"))
async def refresh(body: RefreshBody, parts: Given) -> SessionAnswer:
    """A new pair of tokens for a refresh token, which is used up. Using it again ends the whole session."""
    async with parts.database.transaction(RENEW) as tx:
        renewed = (await sessions.renew(tx, [body.refresh_token], parts.refresh_lifetime))[0]
        account = None if isinstance(renewed, Stale) else (await accounts.find(tx, [renewed.account_id]))[0]
    if isinstance(renewed, Stale) or account is None or not account.is_active:
        raise Problem("REFRESH_REFUSED")
    return _session(parts, account, renewed.token)


@routes.post("/logout", status_code=204)
async def logout(account: SignedIn, parts: Given, body: LogoutBody | None = None) -> Response:
    """End the session of a refresh token or, without one, every session of the account."""
    async with parts.database.transaction(REVOKE) as tx:
        if body is None or body.refresh_token is None:
            await sessions.revoke_all(tx, [account.id])
        else:
            await sessions.revoke(tx, account.id, [body.refresh_token])
    return Response(status_code=204)


@routes.get("/profile")
async def profile(account: SignedIn) -> AccountAnswer:
    """Who is signed in."""
    return AccountAnswer.model_validate(account)


@routes.get("/me")
async def me(account: SignedIn) -> AccountAnswer:
    """Who is signed in: another name of `profile`."""
    return AccountAnswer.model_validate(account)


def _slow_down(parts: Parts, who: object) -> None:
    wait = parts.logins.wait(who)
    if wait:
        raise Problem("TOO_MANY_REQUESTS", headers={"Retry-After": str(int(wait) + 1)})
