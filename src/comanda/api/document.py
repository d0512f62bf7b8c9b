"""The OpenAPI document, with every problem that a route can answer with, and a page that shows it."""

from collections.abc import Iterable
from typing import Any

import jinja2
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

import comanda
from comanda.api import deprecation, examples, links
from comanda.api.answers import ProblemAnswer
from comanda.api.problems import CODES, MEDIA_TYPE
from comanda.api.rate_limits import class_of

_PROBLEM = {"$ref": "#/components/schemas/ProblemAnswer"}
_DESCRIPTION = """A headless order engine: it accepts an order in milliseconds and ends it confirmed or wholly undone.

Amounts are integers in minor units (cents), times RFC 3339 in UTC, ids UUIDs. A request is judged in this order: token
(401), role (403, or 404 for another's object), body and ids (422), state (409)."""

_TAGS = [
    {"name": name, "description": described}
    for name, described in {
        "auth": "Accounts: signing in and out, passwords, verified e-mails",
        "users": "Accounts, for admins",
        "products": "The catalogue",
        "categories": "The catalogue's tree",
        "inventory": "Stock, its movements, and what is held of it",
        "imports": "Products and stock from files",
        "orders": "Placing orders, and what becomes of them",
        "orders after the order": "Cancelling, shipping, refunds, returns, notes",
        "webhooks": "Receivers of events, and what was delivered to them",
        "mailbox": "Messages to customers",
        "problems": "What can go wrong: a page for each `type`",
        "health": "For probes, people and Prometheus",
    }.items()
]

_PAGE = jinja2.Environment(autoescape=True).from_string(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ document.info.title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c }
summary { cursor: pointer; padding: .4rem 0 } summary:focus-visible { outline: 2px solid #0b57d0 }
code, pre { font-family: ui-monospace, monospace } pre { background: #f4f4f4; padding: 1rem; overflow: auto }
.method { display: inline-block; min-width: 4.5rem; font-weight: 700 } table { border-collapse: collapse }
td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0 }
</style></head><body>
<h1>{{ document.info.title }} {{ document.info.version }}</h1>
<p style="white-space: pre-line">{{ document.info.description }}</p>
<p><a href="/api/openapi.json">openapi.json</a></p>
{% for path, operations in document.paths.items() %}{% for method, operation in operations.items() %}
<details id="{{ operation.operationId }}"><summary><span class="method">{{ method|upper }}</span>
<code>{{ path }}</code> {{ operation.summary }}{% if operation.deprecated %} (deprecated){% endif %}</summary>
<p>{{ operation.description or "" }}</p>
{% if operation.security %}<p>Needs an access token.</p>{% endif %}
{% if operation.parameters %}<table><tr><th>Parameter</th><th>In</th><th>Schema</th></tr>
{% for one in operation.parameters %}<tr><td><code>{{ one.name }}</code></td><td>{{ one["in"] }}</td>
<td><code>{{ one.schema|tojson }}</code></td></tr>{% endfor %}</table>{% endif %}
{% if operation.requestBody %}<h4>Body</h4>{% for kind, content in operation.requestBody.content.items() %}
<pre>{{ kind }}: {{ content.schema|tojson }}</pre>{% endfor %}{% endif %}
<table><tr><th>Status</th><th>Meaning</th></tr>
{% for status, answer in operation.responses.items() %}<tr><td>{{ status }}</td>
<td style="white-space: pre-line">{{ answer.description }}</td></tr>{% endfor %}</table>
</details>
{% endfor %}{% endfor %}
<h2>Schemas</h2>
{% for name, schema in document.components.schemas.items() %}
<details id="{{ name }}"><summary><code>{{ name }}</code></summary><pre>{{ schema|tojson(indent=2) }}</pre></details>
{% endfor %}
</body></html>
"""
)


def answers(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The problems of a route, for its `responses`."""
    described: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, title = CODES[code]
        line = f"{code}: {title}"
        known = described.get(status)
        described[status] = {
            "model": ProblemAnswer,
            "description": f"{known['description']}\n{line}" if known else line,
        }
    return described


def document_of(app: FastAPI, guarded: Iterable[tuple[APIRoute, bool]]) -> dict[str, Any]:
    """The whole document.

    Args:
        app: with its routes.
        guarded: the routes that need signing in; True for those that need a role.
    """
    document = get_openapi(
        title="Comanda",
        version=comanda.__version__,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=_TAGS,
        servers=[{"url": "/", "description": "Where this document comes from"}],
    )
    needs = {(route.path, method.lower()): has_roles for route, has_roles in guarded for method in route.methods or ()}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if (method, path) in examples.BODIES:
                operation["requestBody"]["content"]["application/json"]["example"] = examples.BODIES[method, path]
            _complete(operation, needs.get((path, method)), is_limited=class_of(method.upper(), path) is not None)
    links.link(document)
    schemas = document["components"]["schemas"]
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    return document


def _complete(operation: dict[str, Any], has_roles: bool | None, *, is_limited: bool) -> None:
    """What every route of its kind can answer, said at each of them."""
    told: dict[str, Any] = operation["responses"]
    told.pop("422", None) if _is_generic(told.get("422")) else None
    common = ["INTERNAL", "UNAVAILABLE", "MALFORMED_REQUEST"]
    if any(one["name"] == "If-Match" for one in operation.get("parameters", ())):
        common.append("PRECONDITION_FAILED")
    if is_limited:
        common.append("TOO_MANY_REQUESTS")
    if has_roles is not None:
        operation["security"] = [{"bearer": []}]
        common.append("UNAUTHENTICATED")
        if has_roles:
            common.append("FORBIDDEN")
    if "requestBody" in operation:
        common += ["MALFORMED_BODY", "BODY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"]
    if "requestBody" in operation or "parameters" in operation:
        common.append("VALIDATION_FAILED")
    for status, answer in answers(*common).items():
        known = told.setdefault(str(status), {"description": ""})
        lines = [*known["description"].splitlines(), *answer["description"].splitlines()]
        known["description"] = "\n".join(dict.fromkeys(lines))
    _require_key(operation)
    for status, answer in told.items():
        if int(status) >= 400:
            answer["content"] = {MEDIA_TYPE: {"schema": _PROBLEM}}
        if operation.get("deprecated"):
            answer["headers"] = {**deprecation.HEADERS, **answer.get("headers", {})}
    operation["responses"] = dict(sorted(told.items()))


def _require_key(operation: dict[str, Any]) -> None:
    """The framework's own refusal of a header that is missing would be another one than ours."""
    if "IDEMPOTENCY_KEY_REQUIRED" in operation["responses"].get("400", {}).get("description", ""):
        for parameter in operation["parameters"]:
            parameter["required"] |= parameter["name"] == "Idempotency-Key"


def _is_generic(answer: Any) -> bool:
    return bool(answer) and "HTTPValidationError" in str(answer)


def page_of(document: dict[str, Any]) -> str:
    """The document as a page that needs nothing from anywhere."""
    return _PAGE.render(document=document)
