"""Pages of other origins: those that `COMANDA_CORS_ORIGINS` names may ask the API from a browser, all others may not.

They bring an access token with each request, so no credentials of the browser's are ever let in. The console is for
its own pages alone, whatever is named.
"""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
ASKED_WITH = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID",
              "X-Correlation-Id", "traceparent", "tracestate")  # fmt: skip
SHOWN = ("Deprecation", "ETag", "Idempotent-Replayed", "Link", "Location", "RateLimit", "RateLimit-Policy",
         "Retry-After", "Sunset", "X-Correlation-Id")  # fmt: skip
_REMEMBERED = 600  # seconds that a browser may rest on what a preflight said


def opened(edge: ASGIApp, origins: Sequence[str], *, but: str) -> ASGIApp:
    """The application, answering pages of these origins.

    Preflights are answered before anything is judged, and refusals carry the headers too: a page has to see a 429.

    Args:
        edge: the application.
        origins: as browsers send them (`https://shop.example`), or `*`; none: as it is.
        but: the path whose pages nobody else's may ask.
    """
    if not origins:
        return edge
    shared = CORSMiddleware(
        edge,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=ASKED_WITH,
        expose_headers=SHOWN,
        max_age=_REMEMBERED,
    )

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        await (edge if path == but or path.startswith(f"{but}/") else shared)(scope, receive, send)

    return choose
