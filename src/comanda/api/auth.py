"""Sign up, sign in, stay signed in, sign out."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, Request, Response

from comanda import telemetry
from comanda.accounts import accounts, one_time, passwords, sessions
from comanda.accounts.accounts import Account, EmailTaken, Registration, Role
from comanda.accounts.sessions import Stale
from comanda.api import throttle
from comanda.api.answers import AccountAnswer, SessionAnswer
from comanda.api.bodies import LoginBody, LogoutBody, RefreshBody, RegisterBody
from comanda.api.document import answers
from comanda.api.once import hint
from comanda.api.parts import Given, Parts
from comanda.api.problems import Problem
from comanda.api.rate_limits import network_of
from comanda.api.security import SignedIn, router
from comanda.db import Tx
from comanda.failpoints import Boundary
from comanda.saga.definition import Due

REGISTER = Boundary("accounts.register")
BEGIN = Boundary("sessions.begin")
RENEW = Boundary("sessions.renew")
REVOKE = Boundary("sessions.revoke")

routes = router("/auth", "auth")


def session(parts: Parts, account: Account, refresh_token: str) -> SessionAnswer:
    """What somebody who is signed in is given."""
    return SessionAnswer(
        access_token=parts.bearer.issue(
            account.id, account.role, parts.access_lifetime, is_verified=account.email_verified
        ),
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


async def admitted(parts: Parts, email: str, password: str, address: str) -> Account:
    """The account whose address and password these are. Who guesses is slowed down.

    Raises:
        Problem: refused, or too many tries.
    """
    await throttle.count_login(parts, address, email)
    async with parts.database.connection() as tx:
        account = (await accounts.by_email(tx, [email]))[0]
    is_right = await passwords.matches(password, account.password_hash if account else None)
    if account is None or not is_right or not account.is_active:
        raise Problem("CREDENTIALS_REFUSED")
    return account


async def begun(tx: Tx, account: Account, address: str) -> Account | None:
    """The same account, held while its session begins; None: it is out since, or its password is another one."""
    held = (await accounts.hold(tx, [account.id]))[0]
    if held is None or not held.is_active or held.password_hash != account.password_hash:
        return None
    await throttle.let_in(tx, address, account.email)
    return held


async def _address(request: Request) -> str:
    """Whom the other end of the connection stands for; only our own proxies may say that it is somebody else."""
    return network_of(request.client.host if request.client else "")


Address = Annotated[str, Depends(_address)]


async def ask_to_verify(tx: Tx, parts: Parts, account: Account) -> Sequence[Due]:
    """A mail with a code that shows that the address is theirs; its delivery."""
    (token_id,) = await one_time.issue(tx, parts.assembly.one_time, [account.id], "verify_email")
    told = parts.assembly.definitions.notifications
    about = telemetry.correlation_id() or str(token_id)
    return await told.account(tx, "email_verification", [(account.id, token_id)], [about])


@routes.post("/register", status_code=201, responses=answers("EMAIL_TAKEN"))
async def register(body: RegisterBody, parts: Given) -> SessionAnswer:
    """Make an account and sign in to it. A mail brings the code that verifies its address."""
    wanted = await registration(body, "customer")
    async with parts.database.transaction(REGISTER) as tx:
        match (await accounts.register(tx, [wanted]))[0]:
            case EmailTaken():
                raise Problem("EMAIL_TAKEN")
            case account:
                token = (await sessions.begin(tx, [account.id], parts.refresh_lifetime))[0]
                due = await ask_to_verify(tx, parts, account)
    await hint(parts, due)
    return session(parts, account, token)


@routes.post("/login", responses=answers("CREDENTIALS_REFUSED", "TOO_MANY_REQUESTS"))
async def login(body: LoginBody, parts: Given, address: Address) -> SessionAnswer:
    """Sign in. An unknown address and a wrong password look alike, and take the same time."""
    account = await admitted(parts, body.email, body.password, address)
    async with parts.database.transaction(BEGIN) as tx:
        held = await begun(tx, account, address)
        if held is None:
            raise Problem("CREDENTIALS_REFUSED")
        token = (await sessions.begin(tx, [account.id], parts.refresh_lifetime))[0]
    return session(parts, held, token)


@routes.post("/refresh", responses=answers("REFRESH_REFUSED"))
async def refresh(body: RefreshBody, parts: Given) -> SessionAnswer:
    """A new pair of tokens for a refresh token, which is used up. Using it again ends the whole session."""
    async with parts.database.transaction(RENEW) as tx:
        renewed = (await sessions.renew(tx, [body.refresh_token], parts.refresh_lifetime))[0]
        account = None if isinstance(renewed, Stale) else (await accounts.find(tx, [renewed.account_id]))[0]
    if isinstance(renewed, Stale) or account is None or not account.is_active:
        raise Problem("REFRESH_REFUSED")
    return session(parts, account, renewed.token)


@routes.post("/logout", status_code=204)
async def logout(account: SignedIn, parts: Given, body: LogoutBody | None = None) -> Response:
    """End the session of a refresh token or, without one, every session of the account."""
    async with parts.database.transaction(REVOKE) as tx:
        if body is None or body.refresh_token is None:
            await sessions.revoke_all(tx, [account.id])
        else:
            await sessions.revoke(tx, account.id, [body.refresh_token])
    return Response(status_code=204)


@routes.post("/logout-everywhere", status_code=204)
async def logout_everywhere(account: SignedIn, parts: Given) -> Response:
    """End every session of the account: another name of `logout` without a token."""
    async with parts.database.transaction(REVOKE) as tx:
        await sessions.revoke_all(tx, [account.id])
    return Response(status_code=204)


@routes.get("/profile")
async def profile(account: SignedIn) -> AccountAnswer:
    """Who is signed in."""
    return AccountAnswer.model_validate(account)


@routes.get("/me")
async def me(account: SignedIn) -> AccountAnswer:
    """Who is signed in: another name of `profile`."""
    return AccountAnswer.model_validate(account)
