"""Addresses that are verified, passwords that are forgotten or changed."""

from fastapi import Response

from comanda import telemetry
from comanda.accounts import accounts, attempts, one_time, passwords, resets, sessions
from comanda.accounts.one_time import NotGood
from comanda.api import throttle
from comanda.api.answers import SessionAnswer
from comanda.api.auth import Address, ask_to_verify, session
from comanda.api.bodies import ChangePasswordBody, ForgotBody, ResetBody, VerifyBody
from comanda.api.document import answers
from comanda.api.once import hint
from comanda.api.parts import Given
from comanda.api.problems import Problem
from comanda.api.security import SignedIn, router
from comanda.clock import new_id
from comanda.failpoints import Boundary

VERIFY = Boundary("accounts.verify")
RESEND = Boundary("accounts.resend")
FORGOT = Boundary("accounts.forgot")
RESET = Boundary("accounts.reset")
CHANGE = Boundary("accounts.change_password")

routes = router("/auth", "auth")


@routes.post("/verify-email", status_code=204, responses=answers("TOKEN_REFUSED"))
async def verify_email(body: VerifyBody, parts: Given) -> Response:
    """Show by a mailed code that the address is yours. Access tokens say so from the next refresh on."""
    async with parts.database.transaction(VERIFY) as tx:
        (owner,) = await one_time.spend(tx, [body.token], "verify_email")
        if isinstance(owner, NotGood):
            raise Problem("TOKEN_REFUSED")
        await accounts.verify(tx, [owner])
    return Response(status_code=204)


@routes.post(
    "/verify-email/resend",
    status_code=202,
    response_class=Response,
    responses=answers("EMAIL_VERIFIED", "TOO_MANY_REQUESTS"),
)
async def resend(account: SignedIn, parts: Given) -> Response:
    """Mail a new code. The one before is not good any more."""
    if account.email_verified:
        raise Problem("EMAIL_VERIFIED")
    await throttle.count(parts, (throttle.VERIFICATION, str(account.id)))
    async with parts.database.transaction(RESEND) as tx:
        due = await ask_to_verify(tx, parts, account)
    await hint(parts, due)
    return Response(status_code=202)


@routes.post("/forgot-password", status_code=202, response_class=Response, responses=answers("TOO_MANY_REQUESTS"))
async def forgot_password(body: ForgotBody, parts: Given, address: Address) -> Response:
    """Ask for a code by mail. Whether there is such an account, the answer does not tell, and takes the same time.

    Three codes an hour are sent to an address; who asks for more gets the same answer.
    """
    async with parts.database.transaction(FORGOT) as tx:
        wait = await throttle.take(tx, parts, (throttle.RESET_AT_ADDRESS, address))
        if not wait and not await throttle.take(tx, parts, (throttle.RESET_OF_EMAIL, body.email)):
            await resets.ask(tx, [(body.email, telemetry.correlation_id() or str(new_id()))])
    throttle.refuse_to_wait(wait)
    return Response(status_code=202)


@routes.post("/reset-password", status_code=204, responses=answers("TOKEN_REFUSED"))
async def reset_password(body: ResetBody, parts: Given, address: Address) -> Response:
    """Choose a new password with a mailed code, which verifies the address too. Sessions end, other codes are void."""
    async with parts.database.connection() as tx:
        (owner,) = await one_time.owners(tx, [body.token], "reset_password")
    if isinstance(owner, NotGood):
        raise Problem("TOKEN_REFUSED")  # before a hash is computed for it
    password_hash = await passwords.hashed(body.password)
    async with parts.database.transaction(RESET) as tx:
        (owner,) = await one_time.spend(tx, [body.token], "reset_password")
        if isinstance(owner, NotGood):
            raise Problem("TOKEN_REFUSED")
        await accounts.set_passwords(tx, [(owner, password_hash, None)])
        await accounts.verify(tx, [owner])
        await sessions.revoke_all(tx, [owner])
        await one_time.void(tx, [owner])
        (account,) = await accounts.find(tx, [owner])
        if account is not None:
            await throttle.forgive(tx, address, account.email)
    return Response(status_code=204)


@routes.post("/change-password", responses=answers("PASSWORD_REFUSED", "TOO_MANY_REQUESTS"))
async def change_password(account: SignedIn, body: ChangePasswordBody, parts: Given) -> SessionAnswer:
    """Change your password. Every session ends but the one that this answer begins."""
    tried = (throttle.PASSWORD, str(account.id))
    await throttle.count(parts, tried)
    if not await passwords.matches(body.current_password, account.password_hash):
        raise Problem("PASSWORD_REFUSED")
    password_hash = await passwords.hashed(body.new_password)
    async with parts.database.transaction(CHANGE) as tx:
        (is_changed,) = await accounts.set_passwords(tx, [(account.id, password_hash, account.password_hash)])
        if not is_changed:
            raise Problem("PASSWORD_REFUSED")  # another change, or a reset, was faster
        await sessions.revoke_all(tx, [account.id])
        await one_time.void(tx, [account.id], "reset_password")
        (refresh_token,) = await sessions.begin(tx, [account.id], parts.refresh_lifetime)
        await attempts.clear(tx, [tried])
    return session(parts, account, refresh_token)
