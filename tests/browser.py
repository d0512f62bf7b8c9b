"""Somebody at the console in a real browser: what a page must never do is kept; pages are found by their links."""

import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    ViewportSize,
    WebError,
    async_playwright,
)
from starlette.routing import Match, Route

from comanda.accounts.accounts import Role
from comanda.console.app import ROUTES

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Minutes of two cores: a command of their own.
needs_chromium = pytest.mark.skipif(
    "WALKS" not in os.environ, reason="`make walks` goes through the console in a browser"
)
DESKTOP, PHONE = ViewportSize(width=1280, height=860), ViewportSize(width=390, height=844)
PATIENCE = 30_000  # milliseconds: two noisy cores

# Not pages: files, a stream, a switch, and what is shown within a page.
_NO_PAGES = {
    "/admin/static/{name}", "/admin/live", "/admin/language/{language}", "/admin/login",
    "/admin/mailbox/{key:path}/body",
    "/admin/mailbox/templates/{language}/{kind}/body",
}  # fmt: skip
_KINDS = [(Route(one.path, lambda _: None, methods=["GET"]), one.path) for one in ROUTES if one.method == "GET"]
_ROLES = {one.path: one.roles for one in ROUTES if one.method == "GET"}
PAGES = _ROLES.keys() - _NO_PAGES
# Of pages with one address for several things: which of them.
_PARTS = ("verb", "queue")
# Whoever looks inside tells of it: the browser does as well, but only in words.
_TELL_TALE = """
window.addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI}`));
"""


@dataclass
class Visit:
    """One browser session at a console. `wrongs`: what a page said, asked for elsewhere or opened, and must not."""

    origin: str
    context: BrowserContext
    page: Page
    wrongs: list[str] = field(default_factory=list)

    async def go(self, path: str) -> None:
        """Open a page; it is there."""
        answer = await self.page.goto(urljoin(self.origin, path))
        assert answer is not None, path
        assert answer.status == 200, (path, answer.status, await self.page.inner_text("main"))

    async def sign_in(self, email: str, password: str) -> None:
        await self.go("/admin/login")
        await self.page.fill("input[name=email]", email)
        await self.page.fill("input[name=password]", password)
        await self.page.click("button.main")
        await self.page.wait_for_url(f"{self.origin}/admin")

    async def text(self) -> str:
        """What somebody reads on the page's middle."""
        return await self.page.inner_text("main")

    async def post(self, path: str, fields: Mapping[str, str]) -> int:
        """A form that no page offered, with the cookies of this session; the status."""
        answer = await self.context.request.post(
            urljoin(self.origin, path), form=dict(fields), headers={"Origin": self.origin}, max_redirects=0
        )
        return answer.status

    async def walk(self, most: int = 1, *, role: Role = "admin") -> AsyncIterator[str]:
        """Open all pages that links lead to, `most` of each kind; the address of each once it is open.

        All that are open to `role` are among them.
        """
        ahead, known, visited = ["/admin"], {"/admin"}, dict[tuple[str, ...], int]()
        while ahead:
            path = ahead.pop(0)
            kind = kind_of(path)
            if kind is None or visited.get(kind, 0) >= most:
                continue
            visited[kind] = visited.get(kind, 0) + 1
            await self.go(path)
            yield path
            for link in await self.page.eval_on_selector_all("a[href]", "all => all.map((one) => one.href)"):
                parts = urlsplit(str(link))
                if f"{parts.scheme}://{parts.netloc}" == self.origin and (there := _address(parts)) not in known:
                    known.add(there)
                    ahead.append(there)
        left = {path for path in PAGES if role in _ROLES[path]} - {kind[0] for kind in visited}
        assert not left, f"no link leads there: {sorted(left)}"


def kind_of(path: str) -> tuple[str, ...] | None:
    """Which page it is: its route, and of which part; None: it is none."""
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": urlsplit(path).path, "root_path": ""}
    for route, template in _KINDS:
        match, more = route.matches(scope)
        if match is Match.FULL:
            values = more["path_params"]
            return (template, *(str(values[one]) for one in _PARTS if one in values)) if template in PAGES else None
    return None


def _address(parts: Any) -> str:
    return f"{parts.path}?{parts.query}" if parts.query else str(parts.path)


@asynccontextmanager
async def chromium(**options: Any) -> AsyncIterator[Browser]:
    """Debian's, without a window. `options`: of its launch."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], **options)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def visit(browser: Browser, origin: str, *, forgives: str | None = None, **options: Any) -> AsyncIterator[Visit]:
    """A session of its own; at its end nothing was wrong. `forgives`: what it is told is wrong, and is meant to be."""
    context = await browser.new_context(**{"viewport": DESKTOP, "locale": "en-GB", **options})
    context.set_default_timeout(PATIENCE)
    await context.add_init_script(_TELL_TALE)
    one = Visit(origin, context, await context.new_page())
    _listen(one)
    try:
        yield one
    finally:
        await context.close()
    wrongs = [wrong for wrong in one.wrongs if forgives is None or not re.search(forgives, wrong)]
    assert not wrongs, "\n".join(wrongs)


def _listen(one: Visit) -> None:
    def asked(request: Request) -> None:
        if not request.url.startswith(f"{one.origin}/"):
            one.wrongs.append(f"asked elsewhere: {request.url}")

    def said(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            one.wrongs.append(f"said at {message.location['url']}: {message.text}")

    def raised(error: WebError) -> None:
        one.wrongs.append(f"raised: {error.error}")

    async def opened(dialog: Dialog) -> None:
        one.wrongs.append(f"opened a dialog: {dialog.message}")
        await dialog.dismiss()

    one.context.on("request", asked)
    one.context.on("console", said)
    one.context.on("weberror", raised)
    one.context.on("dialog", opened)
