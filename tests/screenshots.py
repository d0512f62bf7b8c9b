"""Pictures of the console, each of its pages, for docs/console.md: `make screenshots`. Needs chromium; takes a minute.

    python tests/screenshots.py [WORD …]

With words, those whose names hold one of them. The shop in them is `scene.py`'s, with an hour of sales behind it.
"""

import argparse
import asyncio
import io
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.async_api import Browser, Page, ViewportSize

from browser import CHROMIUM, DESKTOP, PHONE, chromium, kind_of, visit
from scene import STAFF, Stage, furnish, staged
from up import ADMIN, PASSWORD

FOLDER = Path(__file__).parents[1] / "docs" / "console"
HIGHEST = 1500  # pixels: what is further down is more of the same
SIZES = {"desktop": DESKTOP, "phone": PHONE}
PATHS = {
    "queues": "/admin/queues",
    "queue": "/admin/queues/inventory-management",
    "stock": "/admin/stock",
    "stuck": "/admin/stuck",
    "orders": "/admin/orders",
    "payments": "/admin/payments",
    "products": "/admin/products",
    "templates": "/admin/mailbox/templates",
    "template": "/admin/mailbox/templates/en/order_confirmation",
    "letters": "/admin/dead-letters",
    "bulk": "/admin/bulk",
    "audit": "/admin/audit",
    "mailbox": "/admin/mailbox",
    "webhooks": "/admin/webhooks",
    "users": "/admin/users",
    "settings": "/admin/settings",
}
# Once the hour of sales is forgotten again, of which the gateway knows nothing.
AFTERWARDS = {"reconciliation": "/admin/payments/reconciliation?span=day"}
# Of what has an id, the first that there is: its page, and the links that lead there.
LINKED = {
    "letter-group": ("/admin/dead-letters/{fingerprint}", "/admin/dead-letters", "tbody a"),
    "letter": ("/admin/dead-letters/letter/{letter_id}", "/admin/dead-letters?error=550", "tbody a", "tbody a"),
    "mail": ("/admin/mailbox/{key:path}", "/admin/mailbox", "tbody a[data-row]"),
    "webhook": ("/admin/webhooks/{webhook_id}", "/admin/webhooks", "tbody a"),
    "preview": ("/admin/sagas/{saga_id}/{verb}", "/admin/stuck", "text=retry"),
    "bulk-act": ("/admin/bulk/{bulk_id}", "/admin/bulk", "tbody a"),
    "bulk-look": ("/admin/bulk/look", "/admin/stuck", "text=Act on all of these"),
    "product": ("/admin/products/{product_id}", "/admin/products?q=grinder", "tbody a"),
    "job": ("/admin/queues/{queue}/{saga_id}", "/admin/queues/payment-processing", "tbody a[data-row]"),
}
# In both languages, on both devices, in light and dark.
TWO = {"overview": "/admin", "order": "/admin/orders/{order_id}"}
ON_PHONES = ("orders", "queues", "letters", "stuck")
# Chromium asks for the system's font: one of these, where Debian's own would be DejaVu.
FONTS = """<?xml version="1.0"?><fontconfig><include>/etc/fonts/fonts.conf</include>
<match><test name="family" qual="first" compare="not_contains"><string>ono</string></test>
<test name="family" qual="first" compare="not_eq"><string>Menlo</string></test>
<test name="family" qual="first" compare="not_eq"><string>Consolas</string></test>
<edit name="family" mode="prepend" binding="strong"><string>Inter</string><string>Noto Sans</string></edit></match>
</fontconfig>
"""
# An hour of sales, as many as there are in a morning: confirmed within a second, paid, now and then slower.
PAST = """
WITH past AS (
    SELECT gen_random_uuid() AS tail, at,
           0.18 + 0.5 * random() ^ 4 + CASE WHEN random() < 0.01 THEN 1.1 ELSE 0 END AS took
      FROM generate_series(1, 59) AS minute
     CROSS JOIN LATERAL generate_series(1, (46 + 26 * sin(minute / 9.0) + 12 * sin(minute * 2.1))::int) AS each_one
     CROSS JOIN LATERAL (
        SELECT now() - make_interval(secs => 60 * minute + 55 * random() + 0 * each_one)) AS moment (at)
), placed AS (
    INSERT INTO orders (id, customer_id, saga_id, state, total_amount, currency, correlation_id, created_at, updated_at,
                        ended_at)
    SELECT (left(uuid_floor(at)::text, 14) || right(tail::text, 22))::uuid, $1, tail, 'CONFIRMED',
           790 * (1 + floor(9 * random())::int), 'USD', 'past', at, at, at + make_interval(secs => took) FROM past
    RETURNING id, total_amount, created_at
)
INSERT INTO payments (id, order_id, key, state, amount, captured, currency, created_at)
SELECT id, id, id::text, 'SUCCEEDED', total_amount, total_amount, 'USD', created_at FROM placed
"""
FORGOTTEN = "DELETE FROM payments USING orders WHERE orders.id = payments.order_id AND orders.correlation_id = 'past'"


def photographed() -> dict[str, str]:
    """Of which page each picture is, that is taken once: its route."""
    kinds = {name: kind_of(path) for name, path in (PATHS | AFTERWARDS).items()}
    assert all(kinds.values()), kinds
    return {name: kind[0] for name, kind in kinds.items() if kind} | {name: page for name, (page, *_) in LINKED.items()}


async def main(words: Sequence[str]) -> int:
    """The exit code."""
    if CHROMIUM is None:
        sys.stderr.write("chromium is not there: `make chromium`, or Debian's package chromium\n")
        return 2
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        fonts = Path(folder) / "fonts.conf"
        fonts.write_text(FONTS, encoding="utf-8")
        looks = {**os.environ, "FONTCONFIG_FILE": str(fonts)}
        async with staged(Path(folder) / "shop", CHECK_SECONDS="3600") as stage, chromium(env=looks) as browser:
            await furnish(stage)
            await stage.ask(PAST, stage.customers[0].id)
            await _act(stage, browser)
            await _all_pages(stage, browser, words)
            for language in ("en", "es"):
                for device in SIZES:
                    for scheme in ("light", "dark"):
                        await _two_pages(stage, browser, (language, device, scheme), words)
            await stage.ask(FORGOTTEN)
            await _some_pages(stage, browser, AFTERWARDS, words)
    return 0


async def _act(stage: Stage, browser: Browser) -> None:
    """As on any morning: an operator retries one, pauses a queue and limits another; orders wait."""
    async with visit(browser, stage.up.api) as one:
        await one.sign_in(STAFF["operator"], PASSWORD)
        await one.go(f"/admin/orders/{stage.orders['stuck'][3]}")
        await one.page.click("text=retry …")
        await one.page.fill("textarea[name=reason]", "The gateway is back: incident 2291")
        await one.page.click("button.main")
        for queue, switch, fields in (
            ("inventory-management", "pause", {"reason": "Stocktaking until 11"}),
            ("notification-sending", "limit", {"reason": "The mail provider asked for less", "rate": "20"}),
        ):
            await one.go(f"/admin/queues/{queue}")
            await one.page.click("summary")
            form = one.page.locator(f"form[action$='/{switch}']")
            for name, value in fields.items():
                await form.locator(f"input[name={name}]").fill(value)
            await form.locator("button").click()
            await one.page.wait_for_url("**?said=*")
    await stage.undelivered(3, "550 5.1.1 no such mailbox here")
    for number in range(3):
        await stage.customers[number].order(stage.products[number])


async def _all_pages(stage: Stage, browser: Browser, words: Sequence[str]) -> None:
    async with visit(browser, stage.up.api) as one:
        await one.go("/admin/login")
        await _take(one.page, "sign-in", DESKTOP, words)
    await _some_pages(stage, browser, PATHS, words)
    async with visit(browser, stage.up.api) as one:
        await one.sign_in(ADMIN, PASSWORD)
        for name, (page, start, *links) in LINKED.items():
            await one.go(start)
            for link in links:
                await one.page.locator(link).first.click()
                await one.page.wait_for_load_state()
            kind = kind_of(one.page.url)
            assert kind is not None, one.page.url
            assert kind[0] == page, (name, kind)
            await _take(one.page, name, DESKTOP, words)
            if name == "letter":
                await one.page.fill("input[name=recipient]", "ana.ruiz@example.com")
                await one.page.click("text=Look at the difference")
                await one.page.wait_for_selector("ins")
                await _take(one.page, "letter-change", DESKTOP, words)
        await one.go(f"/admin/orders/{stage.orders['partly'][0]}")
        await _take(one.page, "order-refunded", DESKTOP, words)
        for name in ON_PHONES:
            await one.go(PATHS[name])
            await _take(one.page, f"{name}-phone", PHONE, words)


async def _some_pages(stage: Stage, browser: Browser, paths: Mapping[str, str], words: Sequence[str]) -> None:
    async with visit(browser, stage.up.api) as one:
        await one.sign_in(ADMIN, PASSWORD)
        for name, path in paths.items():
            await one.go(path)
            await _take(one.page, name, DESKTOP, words)


async def _two_pages(stage: Stage, browser: Browser, how: tuple[str, str, str], words: Sequence[str]) -> None:
    """The first page, and the page of an order that waits for somebody."""
    language, device, scheme = how
    async with visit(browser, stage.up.api, viewport=SIZES[device], color_scheme=scheme) as one:
        await one.sign_in(ADMIN, PASSWORD)
        await one.go(f"/admin/language/{language}")
        await one.page.wait_for_selector("#live-mark[data-on]")
        await _take(one.page, f"overview-{language}-{device}-{scheme}", SIZES[device], words)
        await one.go(f"/admin/orders/{stage.orders['stuck'][0]}")
        await _take(one.page, f"order-{language}-{device}-{scheme}", SIZES[device], words)


async def _take(page: Page, name: str, size: ViewportSize, words: Sequence[str]) -> None:
    if words and not any(word in name for word in words):
        return
    width = size["width"]
    await page.set_viewport_size({"width": width, "height": size["height"]})
    high = await page.evaluate("document.documentElement.scrollHeight")
    await page.set_viewport_size({"width": width, "height": min(max(high, size["height"]), HIGHEST)})
    raw = await page.screenshot(animations="disabled", caret="initial")
    picture = _with_few_colours(Image.open(io.BytesIO(raw)).convert("RGB"))
    path = FOLDER / f"{name}.png"
    picture.save(path, optimize=True)
    sys.stderr.write(f"{path.name}: {path.stat().st_size // 1024} KB\n")


def _with_few_colours(picture: Image.Image) -> Image.Image:
    """A palette of the commonest, as they are, and of others near to what is rare."""
    rest = picture.quantize(96, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).getpalette() or []
    pixels = np.asarray(picture, dtype=np.int32) @ (1 << 16, 1 << 8, 1)
    colours, which, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    palette = np.concatenate([_parts(colours[np.argsort(-counts)[:160]]), np.reshape(rest[: 96 * 3], (-1, 3))])
    nearest = ((_parts(colours)[:, None] - palette[None]) ** 2).sum(-1).argmin(1)
    made = Image.fromarray(nearest[which].reshape(pixels.shape).astype(np.uint8), "P")
    made.putpalette(palette.astype(np.uint8).tobytes())
    return made


def _parts(colours: Any) -> Any:
    """Red, green and blue."""
    return np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD")
    sys.exit(asyncio.run(main(parser.parse_args().words)))
