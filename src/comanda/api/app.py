"""The API, put together: every route, and the edge around them."""

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI, Response
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from comanda.accounts.tokens import Bearer
from comanda.api import (
    after_order,
    auth,
    categories,
    cross_origin,
    health,
    imports,
    inventory,
    kinds,
    mailbox,
    orders,
    problems,
    products,
    recovery,
    users,
    watching,
    webhooks,
)
from comanda.api.document import document_of, page_of
from comanda.api.edge import CONSOLE, Edge, is_console
from comanda.api.feed import Feed
from comanda.api.lists import Lists
from comanda.api.parts import Parts
from comanda.api.rate_limits import RateLimits
from comanda.api.security import Route
from comanda.api.timed import Timed
from comanda.assembly import Assembly
from comanda.catalog.pages import Pages
from comanda.saga.settling import Settling

ROUTERS = (
    auth.routes,
    recovery.routes,
    users.routes,
    products.routes,
    categories.routes,
    inventory.routes,
    imports.routes,
    watching.routes,
    orders.routes,
    after_order.routes,
    webhooks.routes,
    mailbox.routes,
    health.routes,
    kinds.routes,
    health.metrics_route,
)
ROUTES = [route for router in ROUTERS for route in router.routes]


def build(
    assembly: Assembly,
    *,
    place_order: ASGIApp,
    feed: Feed,
    lists: Lists,
    bearer: Bearer | None = None,
    rate_limits: RateLimits | None = None,
    is_draining: Callable[[], bool] = lambda: False,
    data_dir: Path = Path(),
    console: Callable[[Parts], ASGIApp] | None = None,
) -> ASGIApp:
    """The application.

    Args:
        assembly: what it stands on; SECRET_KEY has to be set.
        place_order: answers `POST /api/v1/orders`; finds the correlation id in `scope["comanda.correlation_id"]`.
        feed: tells what happens to orders.
        lists: reads lists.
        bearer: reads tokens; shared with `place_order`.
        rate_limits: whoever asks too often is refused; None: nobody is.
        is_draining: the process is about to stop: not ready any more.
        data_dir: whose free space is shown.
        console: makes what answers under `/admin`; None: nothing does.

    Raises:
        ConfigurationFault: SECRET_KEY is too short.
    """
    app = routed()
    app.state.parts = Parts(
        assembly=assembly,
        bearer=bearer or Bearer(assembly.settings.secret_key.get_secret_value()),
        catalogue=assembly.catalogue,
        is_draining=is_draining,
        data_dir=data_dir,
        settling=Settling.by_hand(
            assembly.sagas, actor=assembly.name, lease=assembly.settings.lease, alarm=assembly.alarm
        ),
        pages=Pages(),
        feed=feed,
        lists=lists,
    )
    _show(app)
    served = app if console is None else _beside(app, console(app.state.parts))
    timed = Timed(served, assembly.settings.request_seconds)
    settings = assembly.settings
    edge = Edge(
        timed, place_order, rate_limits, settings.trusted_proxies,
        most_of_import=settings.import_max_bytes, has_console=console is not None,
    )  # fmt: skip
    return cross_origin.opened(edge, settings.cors_origins, but=CONSOLE)


def routed() -> FastAPI:
    """Every route, on nothing yet."""
    # What is traced is said in tracing.py; the framework's own spans would stand beside ours.
    untold: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}
    app = FastAPI(telemetry=untold, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    methods: dict[str, set[str]] = {}
    for route in ROUTES:
        methods.setdefault(getattr(route, "path", ""), set()).update(getattr(route, "methods", None) or ())
    app.state.methods = methods
    return app


def document() -> dict[str, Any]:
    """What tells of every route. It takes as long to make as all else at a start: who asks first waits for it."""
    guarded = [
        (route, bool(route.guard.roles))
        for route in ROUTES
        if isinstance(route, Route) and route.guard is not None and route.guard.when is None
    ]
    return document_of(routed(), guarded)


@cache
def _shown() -> tuple[bytes, str]:
    """As JSON and as a page."""
    told = document()
    return msgspec.json.encode(told), page_of(told)


def _beside(app: ASGIApp, console: ASGIApp) -> ASGIApp:
    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        await (console if is_console(scope) else app)(scope, receive, send)

    return choose


def _show(app: FastAPI) -> None:
    one_by_one = asyncio.Lock()

    async def shown() -> tuple[bytes, str]:
        """Made once, however many ask at a time; beside the requests, which it slows down."""
        async with one_by_one:
            return await asyncio.to_thread(_shown)

    async def openapi() -> Response:
        return Response((await shown())[0], media_type="application/json")

    async def docs() -> Response:
        return Response((await shown())[1], media_type="text/html")

    app.add_api_route("/api/openapi.json", openapi, include_in_schema=False)
    app.add_api_route("/api/docs", docs, include_in_schema=False)
