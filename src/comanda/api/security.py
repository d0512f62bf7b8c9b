"""Who asks, and may they: judged before a byte of the body is looked at.

FastAPI parses the body before it solves dependencies, so a stranger would be told what is wrong with a body that is
none of their business. `Route` turns that round: a route says who may use it with a `Guard` among its dependencies,
and the guard is asked first.
"""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from comanda.accounts import accounts
from comanda.accounts.accounts import OPERATORS, STAFF, Account
from comanda.api import deprecation, strict_json
from comanda.api.deprecation import Deprecation
from comanda.api.parts import Parts
from comanda.api.problems import Problem

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Guard:
    """A dependency that lets an account through, or None where no sign-in is needed.

    Args:
        roles: those that may; none: everybody who is signed in.
        when: says of a request that it needs signing in at all.
    """

    def __init__(self, *roles: str, when: Callable[[Request], bool] | None = None) -> None:
        self.roles = roles
        self.when = when

    async def __call__(self, request: Request) -> Account | None:
        account: Account | None = request.scope["comanda.account"]
        return account

    async def judge(self, request: Request) -> Account | None:
        """The account that asks.

        Raises:
            Problem: 401 without a good token of an account that is still what the token says; 403 for another role.
        """
        if self.when is not None and not self.when(request):
            return None
        parts: Parts = request.app.state.parts
        authorization = request.headers.get("authorization")
        claims = parts.bearer.claims(None if authorization is None else authorization.encode("latin-1"))
        if claims is None:
            raise Problem("UNAUTHENTICATED")
        async with parts.database.connection() as tx:
            account = (await accounts.find(tx, [claims.account_id]))[0]
        if account is None or not account.is_active or account.role != claims.role:
            raise Problem("UNAUTHENTICATED")
        request.scope["comanda.user"] = str(account.id)
        if self.roles and account.role not in self.roles:
            raise Problem("FORBIDDEN")
        return account


def _wants_deleted(request: Request) -> bool:
    return "deleted" in request.query_params.getlist("status")


async def _reader(request: Request) -> UUID | None:
    parts: Parts = request.app.state.parts
    authorization = request.headers.get("authorization")
    claims = parts.bearer.claims(None if authorization is None else authorization.encode("latin-1"))
    return None if claims is None else claims.account_id


async def _admin(request: Request) -> Account | None:
    parts: Parts = request.app.state.parts
    authorization = request.headers.get("authorization")
    claims = parts.bearer.claims(None if authorization is None else authorization.encode("latin-1"))
    if claims is None or claims.role != "admin":
        return None
    try:
        return await Guard("admin").judge(request)
    except Problem:  # it is one no more: the route is open to it all the same
        return None


# Who asks where nobody has to sign in: for what they see of their own changes, never for what they may.
Reader = Annotated[UUID | None, Depends(_reader)]
# The admin who asks where nobody has to sign in: for what only admins see. None: anybody else.
AdminIfAny = Annotated[Account | None, Depends(_admin)]
SignedIn = Annotated[Account, Depends(Guard())]
Admin = Annotated[Account, Depends(Guard("admin"))]
Operator = Annotated[Account, Depends(Guard(*OPERATORS))]
Staff = Annotated[Account, Depends(Guard(*STAFF))]
AdminForDeleted = Annotated[Account | None, Depends(Guard("admin", when=_wants_deleted))]


class _StrictRequest(Request):
    async def json(self) -> Any:
        return strict_json.read(await self.body())


class Route(APIRoute):
    """Guard first, then the media type, then the body."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.guard = next((one.call for one in self.dependant.dependencies if isinstance(one.call, Guard)), None)
        carried = (one.call for one in self.dependant.dependencies)
        self.deprecation = next((one for one in carried if isinstance(one, Deprecation)), None)

    def get_route_handler(self) -> Handler:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if self.deprecation is not None:
                deprecation.tell(request.scope, self.deprecation)
            if request.url.path != self.path and request.url.path in request.app.state.methods:
                # `PATCH products/search`: that path has methods of its own, and is nobody's id.
                raise HTTPException(405)
            if self.guard is not None:
                request.scope["comanda.account"] = await self.guard.judge(request)
            if self.body_field is not None and _has_body(request) and not _is_json(request.headers.get("content-type")):
                raise Problem("UNSUPPORTED_MEDIA_TYPE")
            try:
                return await inner(_StrictRequest(request.scope, request.receive))
            finally:
                account = request.scope.get("comanda.account")
                if account is not None and request.method != "GET":
                    # Also when it failed: something may have been committed before that.
                    await request.app.state.parts.lists.wrote(account.id)

        return handle


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def _is_json(content_type: str | None) -> bool:
    media_type = (content_type or "").partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def router(prefix: str, tag: str) -> APIRouter:
    """A router whose routes are guarded; every path is whole in it."""
    return APIRouter(prefix=f"/api/v1{prefix}", tags=[tag], route_class=Route)
