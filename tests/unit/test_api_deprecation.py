"""A route that will go says so in each of its answers, and the document says it of the route: one declaration."""

from datetime import date

import aiohttp
import pytest
from fastapi import FastAPI, Response

from api_client import served
from comanda.api import problems
from comanda.api.app import ROUTERS
from comanda.api.deprecation import deprecated
from comanda.api.document import document_of, page_of
from comanda.api.edge import Edge
from comanda.api.problems import Problem
from comanda.api.security import router
from comanda.errors import DefinitionFault

routes = router("/things", "things")
GOES = deprecated(since=date(2026, 1, 1), sunset=date(2027, 6, 30), page="/docs/things")
SAID = {
    "Deprecation": "@1767225600",
    "Sunset": "Wed, 30 Jun 2027 00:00:00 GMT",
    "Link": '</docs/things>; rel="deprecation"; type="text/html"',
}


@routes.get("/old", **GOES)
async def old() -> dict[str, int]:
    return {"it": 1}


@routes.get("/old/page", **GOES)
async def page() -> Response:
    return Response(b"{}", headers={"Link": '</next>; rel="next"'}, media_type="application/json")


@routes.get("/old/refused", **GOES)
async def refused() -> None:
    raise Problem("CONFLICT")


@routes.get("/old/broken", **deprecated(since=date(2026, 1, 1), page="/docs/things"))
async def broken(number: int) -> int:
    return 1 // number


@routes.get("/new")
async def new() -> dict[str, int]:
    return {"it": 2}


def _app() -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.state.methods = {}
    problems.install(app)
    for each in (*ROUTERS, routes):
        app.include_router(each)
    return app


async def test_every_answer_of_a_deprecated_route_says_since_when_until_when_and_where_to_read() -> None:
    app = _app()
    async with served(Edge(app, app)) as url, aiohttp.ClientSession(f"{url}/api/v1/things/") as session:
        for path, status in (("old", 200), ("old/page", 200), ("old/refused", 409)):
            async with session.get(path) as reply:
                assert (path, reply.status) == (path, status)
                assert reply.headers["Deprecation"] == SAID["Deprecation"]
                assert reply.headers["Sunset"] == SAID["Sunset"]
                assert SAID["Link"] in reply.headers.getall("Link")
        for path, status in (("old/broken?number=x", 422), ("old/broken?number=0", 500)):
            async with session.get(path) as reply:
                assert (path, reply.status, reply.headers["Deprecation"]) == (path, status, SAID["Deprecation"])
                assert "Sunset" not in reply.headers
        async with session.get("new") as reply:
            assert reply.status == 200
            assert not {"Deprecation", "Sunset", "Link"} & set(reply.headers)


def test_the_document_marks_the_route_and_no_other() -> None:
    document = document_of(_app(), [])
    told = {path: operation for path, operations in document["paths"].items() for operation in operations.values()}
    assert {path for path, one in told.items() if one.get("deprecated") is True} == {
        "/api/v1/things/old", "/api/v1/things/old/page", "/api/v1/things/old/refused", "/api/v1/things/old/broken",
    }  # fmt: skip
    for one in told.values():
        headers = {name for answer in one["responses"].values() for name in answer.get("headers", {})}
        assert ({"Deprecation", "Sunset", "Link"} <= headers) == bool(one.get("deprecated"))
    assert page_of(document).count("(deprecated)") == 4


def test_a_route_does_not_go_before_it_is_deprecated() -> None:
    with pytest.raises(DefinitionFault, match="deprecated before it goes"):
        deprecated(since=date(2026, 1, 2), sunset=date(2026, 1, 1), page="/docs")
