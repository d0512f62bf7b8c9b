"""The console in a real browser, in front of a running Comanda: what operators do there, from the keyboard too; every
page in light and dark, on a desk and in a hand; and what customers, gateways and receivers write, which never runs."""

import re
import time
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any, Literal
from urllib.parse import quote
from uuid import uuid4

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

import servers
from browser import DESKTOP, PATIENCE, PHONE, chromium, kind_of, needs_chromium, visit
from scene import STAFF, Stage, furnish, staged
from up import ADMIN, PASSWORD, eventually

pytestmark = [needs_chromium, pytest.mark.asyncio(loop_scope="module")]
expect.set_options(timeout=PATIENCE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One for all of them; each places what it acts on."""
    async with staged(tmp_path_factory.mktemp("console"), BULK_RATE="500") as found:
        await furnish(found)
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


async def gone_wrong(stage: Stage, said: str) -> str:
    """An order whose payment can neither be made nor called off: the gateway says why."""
    stage.link.fail("*", body={"code": "INTERNAL_ERROR", "message": said})
    order_id = await stage.customers[0].order(stage.products[0])
    await stage.stuck(order_id)
    return order_id


async def test_a_payment_that_failed_is_found_explained_mended_and_written_down(stage: Stage, browser: Browser) -> None:
    said = f"the acquirer is away {uuid4().hex}"
    order_id = await gone_wrong(stage, said)
    async with visit(browser, stage.up.api) as one:
        page = one.page
        await one.sign_in(STAFF["operator"], PASSWORD)
        await page.click("text=dead letters that nobody has taken care of")
        await expect(page.locator("tbody")).to_contain_text(said)
        await page.click("nav >> text=Orders")
        await page.fill("input[name=error]", said)
        await page.click("button.main")
        (row,) = await page.locator("tbody a[data-row]").all()
        await row.click()
        await page.wait_for_url(f"**/admin/orders/{order_id}")
        where = page.get_by_role("region", name="Where it stands")
        await expect(where).to_contain_text("Stuck at process_payment: it waits for an operator (undoing)")
        await expect(where).to_contain_text(said)
        await page.click("#first-failure")
        await expect(page.locator("ol.story li.failed:target")).to_be_in_viewport()
        stage.link.fail()
        await page.click("text=retry …")
        await expect(page.locator("main")).to_contain_text("asked with the same key as before")
        await page.click("button.main")
        assert "/retry" in page.url, "without a reason nothing is done"
        await page.fill("textarea[name=reason]", "the acquirer is back: ticket 4711")
        await page.click("button.main")
        await expect(page.get_by_role("status")).to_contain_text("retry")
        await stage.customers[0].ended(order_id)
        await page.reload()
        await expect(page.get_by_role("region", name="Where it stands")).to_contain_text("It has ended")
        await expect(page.locator("ol.story")).to_contain_text("the acquirer is back: ticket 4711")
        await page.click("nav >> text=Audit log")
        act = page.locator("tbody tr", has_text="ticket 4711")
        await expect(act).to_contain_text(STAFF["operator"])
        await expect(act).to_contain_text("saga.retry")


async def test_a_viewer_is_offered_nothing_and_forms_made_by_hand_are_refused(stage: Stage, browser: Browser) -> None:
    order_id = await gone_wrong(stage, "for the viewer")
    stage.link.fail()
    (row,) = await stage.ask("SELECT saga_id FROM orders WHERE id = $1", order_id)
    before = await stage.ask("SELECT count(*) FROM audit")
    async with visit(browser, stage.up.api) as one:
        page = one.page
        await one.sign_in(STAFF["viewer"], PASSWORD)
        fingerprint = ""
        async for path in one.walk(role="viewer"):
            offered = await page.locator("main form[method=post], main a[href*='/admin/sagas/']").count()
            assert offered == 0, path
            fingerprint = path.rpartition("/")[2] if path.startswith("/admin/dead-letters/") else fingerprint
        await one.go(f"/admin/orders/{order_id}")
        token = await page.input_value("form[action='/admin/logout'] input[name=csrf]", strict=True)
        by_hand = {"csrf": token, "reason": "test", "count": "all", "rate": "1"}
        for verb in ("retry", "skip", "compensate", "resolve"):
            assert await one.post(f"/admin/sagas/{row['saga_id']}/{verb}", by_hand) == 403
        assert await one.post(f"/admin/dead-letters/{fingerprint}/redrive", by_hand) == 403
        for switch in ("pause", "resume", "limit"):
            assert await one.post(f"/admin/queues/payment-processing/{switch}", by_hand) == 403
    assert await stage.ask("SELECT count(*) FROM audit") == before
    (row,) = await stage.ask("SELECT state FROM sagas WHERE subject = $1", order_id)
    assert row["state"] == "COMPENSATION_FAILED"


async def test_two_thousand_letters_are_sent_round_again_stopped_half_way_and_resumed(
    stage: Stage, browser: Browser
) -> None:
    said = f"no such mailbox {uuid4().hex}"
    await stage.undelivered(2000, said)
    async with visit(browser, stage.up.api) as one:
        page = one.page
        await one.sign_in(STAFF["operator"], PASSWORD)
        await page.click("nav >> text=Dead letters")
        await page.fill("input[name=error]", said)
        await page.click("button.main")
        await page.click("main a[href^='/admin/bulk/look']")
        await expect(page.locator("dl.facts b")).to_have_text("2,000")
        await page.fill("textarea[name=reason]", "the provider is back: ticket 4712")
        await page.click("button.main")
        await page.wait_for_url("**/admin/bulk/*")
        await page.fill("input[name=reason]", "slowly")
        worked = page.locator("#live .big")
        await expect(worked).to_have_text(re.compile(r"^([3-9]\d\d|1,\d{3})$"))
        await page.click("text=Stop")
        await expect(page.locator("#live")).to_contain_text("stopped")
        (row,) = await stage.ask("SELECT id, done FROM bulk_acts WHERE reason LIKE '%4712'")
        assert 300 <= row["done"] < 2000
        (left,) = await stage.ask("SELECT count(*) FROM dead_letters WHERE error = $1 AND redriven_at IS NULL", said)
        assert left["count"] == 2000 - row["done"]
        await page.fill("input[name=reason]", "and on")
        await page.click("text=Resume")
        await expect(page.locator("#live .big")).to_have_text("2,000")

        async def all_sent() -> bool:
            statement = "SELECT count(*) FROM sagas WHERE note = $1 AND ended_at IS NULL"
            return not (await stage.ask(statement, said))[0]["count"]

        await eventually(all_sent)
        await one.go(f"/admin/audit?subject={row['id']}")
        for act, reason in (("start", "the provider is back: ticket 4712"), ("stop", "slowly"), ("resume", "and on")):
            await expect(page.locator("tbody tr", has_text=f"bulk.{act}")).to_contain_text(reason)
    (row,) = await stage.ask("SELECT done, refused, failed FROM bulk_acts WHERE id = $1", row["id"])
    assert tuple(row) == (2000, 0, 0)
    acts = await stage.ask("SELECT subject FROM audit WHERE act = 'saga.retry' AND reason LIKE '%4712'")
    assert len({act["subject"] for act in acts}) == len(acts) == 2000


FOCUSED = """() => {
  const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
  const all = [...document.querySelectorAll("a, button, input, select, textarea, summary")];
  return {
    at: all.indexOf(one), name: one.name || "", text: one.innerText || "", href: one.getAttribute("href") || "",
    isSeen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1 && box.width > 0 && box.height > 0,
  };
}"""


async def focused(page: Page) -> dict[str, Any]:
    """What has the focus; it can be seen that it has."""
    found: dict[str, Any] = await page.evaluate(FOCUSED)
    assert found["isSeen"], found
    return found


async def test_who_has_no_mouse_gets_everywhere(stage: Stage, browser: Browser) -> None:
    order_id = await gone_wrong(stage, "for the keyboard")
    stage.link.fail()
    async with visit(browser, stage.up.api) as one:
        page, keys = one.page, one.page.keyboard
        await one.go("/admin/login")
        assert (await focused(page))["name"] == "email"
        await keys.type(STAFF["operator"])
        await keys.press("Tab")
        await keys.type(PASSWORD)
        await keys.press("Enter")
        await page.wait_for_url("**/admin")
        await keys.press("/")
        await page.wait_for_url("**/admin/orders#search")
        assert (await focused(page))["name"] == "q"
        await keys.type(stage.customers[0].email)
        await keys.press("Enter")
        await page.wait_for_url("**/admin/orders?q=*")
        for key, at in (("j", 0), ("j", 1), ("k", 0)):
            await keys.press(key)
            links = await page.eval_on_selector_all("tbody a[data-row]", "all => all.map((one) => one.innerText)")
            assert (await focused(page))["text"] == links[at]
        await keys.press("Enter")
        await page.wait_for_url(f"**/admin/orders/{order_id}")
        await keys.press("f")
        await expect(page.locator("ol.story li.failed:target")).to_be_in_viewport()
        for _ in range(20):
            await keys.press("Shift+Tab")
            if (await focused(page))["text"].startswith("retry"):
                break
        await keys.press("Enter")
        await page.wait_for_url("**/retry")
        assert (await focused(page))["name"] == "reason", "asked for at once"
        await keys.type("by keyboard")
        await keys.press("Tab")
        await keys.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text("retry")
        await stage.customers[0].ended(order_id)


async def test_the_focus_goes_through_a_page_in_its_order(stage: Stage, browser: Browser) -> None:
    async with visit(browser, stage.up.api) as one:
        page, keys = one.page, one.page.keyboard
        await one.sign_in(ADMIN, PASSWORD)
        for path in ("/admin/orders", "/admin/queues/payment-processing", "/admin/webhooks"):
            await one.go(path)
            await keys.press("Tab")
            first = await focused(page)
            assert first["href"] == "#main", "to the content, past the menu"
            order, count = [first["at"]], await page.locator("main a, main button, main input, main select").count()
            for _ in range(min(count, 25)):
                await keys.press("Tab")
                order.append((await focused(page))["at"])
            assert order == sorted(set(order)), path
            await page.focus(".skip")
            await keys.press("Enter")
            await keys.press("Tab")
            assert await page.evaluate("document.querySelector('main').contains(document.activeElement)"), path


async def test_the_overview_tells_of_an_order_without_being_asked(stage: Stage, browser: Browser) -> None:
    async with visit(browser, stage.up.api) as one:
        page = one.page
        await one.sign_in(STAFF["viewer"], PASSWORD)
        await page.wait_for_selector("#live-mark[data-on]")
        await page.evaluate("window.isTheSame = true")
        counted = page.locator("section[aria-labelledby=rate] .big")
        before = int(await counted.inner_text())
        began = time.monotonic()
        await stage.customers[1].order(stage.products[0])
        await expect(counted).to_have_text(str(before + 1))
        print(f"the overview told of it after {time.monotonic() - began:.2f} s")
        assert await page.evaluate("window.isTheSame")


async def test_the_story_of_an_order_outlives_everything_but_the_database(stage: Stage, browser: Browser) -> None:
    told = {}
    for when in ("before", "after"):
        async with visit(browser, stage.up.api) as one:
            await one.sign_in(STAFF["viewer"], PASSWORD)
            for name in ("refunded", "stuck", "flaky", "late"):
                await one.go(f"/admin/orders/{stage.orders[name][0]}")
                told[name, when] = await one.page.inner_text("ol.story")
        if when == "before":
            await servers.empty(stage.up.facts["redisUrl"])
            assert await stage.up.stop() == 0
            stage.up.again()
            stage.customers = [await stage.up.signed_in(each.email) for each in stage.customers]
    assert told["refunded", "before"].count("\n") > 20
    # Webhooks that are tried again meanwhile add to a story, and change nothing of it.
    for name in ("refunded", "stuck", "flaky", "late"):
        assert told[name, "after"].startswith(told[name, "before"])


AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
# A mail in its frame is somebody else's page. In the dark nothing but the colours is another.
LIGHT = {"resultTypes": ["violations"], "iframes": False}
DARK = {**LIGHT, "runOnly": ["color-contrast", "link-in-text-block"]}
SCHEMES: tuple[tuple[Literal["light", "dark"], dict[str, Any]], ...] = (("light", LIGHT), ("dark", DARK))


async def _looked_at(page: Page, where: str) -> list[str]:
    """What is seriously wrong with a page, in light and dark, on a desk and in a hand."""
    wrongs = []
    await page.evaluate(AXE)
    for device, size in (("desktop", DESKTOP), ("phone", PHONE)):
        await page.set_viewport_size(size)
        if (over := await page.evaluate("document.documentElement.scrollWidth - innerWidth")) > 0:
            wrongs.append(f"{where}, {device}: {over} pixels stick out")
        for scheme, options in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            found = await page.evaluate("(options) => axe.run(document, options)", options)
            wrongs += [
                f"{where}, {device}, {scheme}: {one['id']} at {[node['target'] for node in one['nodes']][:3]}"
                for one in found["violations"]
                if one["impact"] in {"serious", "critical"}
            ]
    return wrongs


async def test_every_page_can_be_read_and_used_by_everybody(stage: Stage, browser: Browser) -> None:
    async with visit(browser, stage.up.api, reduced_motion="reduce") as one:
        await one.go("/admin/login")
        wrongs = await _looked_at(one.page, "sign in")
        await one.sign_in(ADMIN, PASSWORD)
        await one.page.keyboard.press("?")
        await expect(one.page.locator("#help")).to_be_visible()
        wrongs += await _looked_at(one.page, "keys")
        await one.page.keyboard.press("Escape")
        await expect(one.page.locator("#help")).to_be_hidden()
        async for path in one.walk():
            wrongs += await _looked_at(one.page, path)
        await one.go(f"/admin/orders/{stage.orders['stuck'][1]}")
        wrongs += await _looked_at(one.page, "a stuck order")
    assert not wrongs, "\n".join(wrongs)


HOSTILE = "javascript:__pwned=1//<script>__pwned=1</script>\"><img src=x onerror=__pwned=1>'{{7*7}}"
HOSTILE_EMAIL = "'onfocus='__pwned=1'autofocus{{7*7}}@evil.example"
# Attributes that run, links that run, and what is only there if a text became a part of the page.
RUNS = """() => window.__pwned !== undefined
  || [...document.querySelectorAll("*")].some((one) => [...one.attributes].some((each) => /^on/i.test(each.name)))
  || document.querySelector("[href^='javascript:' i], [action^='javascript:' i], img:not([alt='']), main script")"""


async def _plant(stage: Stage) -> None:
    """Hostile texts by every way that is open to customers, the gateway, receivers, operators and whoever sells."""
    admin = await stage.admin()
    sold = {"name": HOSTILE, "sku": f"{uuid4()}{HOSTILE}"[:100], "brand": HOSTILE, "description": HOSTILE, "price": 100}
    product = (await admin.made("/products", sold))["id"]
    await admin.made("/inventory", {"productId": product, "initialStock": 50, "location": HOSTILE[:50]})
    await admin.made("/webhooks", {"url": f"{stage.receiver.url}?{HOSTILE}", "description": HOSTILE})
    buyer = await stage.up.registered(email=HOSTILE_EMAIL, firstName=HOSTILE, lastName=HOSTILE)
    stage.receiver.status, stage.receiver.answer = 500, HOSTILE.encode()
    items = {"items": [{"productId": product, "quantity": 1}]}
    wishes = {"paymentMethod": "pm_success", "notes": HOSTILE, "shippingAddress": {"street": HOSTILE}}
    confirmed = (await buyer.made("/orders", {**items, **wishes}))["orderId"]
    await buyer.ended(confirmed)
    await admin.made(f"/orders/{confirmed}/shipments", {"carrier": HOSTILE, "trackingNumber": HOSTILE})
    await admin.made(f"/orders/{confirmed}/notes", {"text": HOSTILE})
    refund = {"amount": 10, "reason": HOSTILE}
    await admin.made(f"/orders/{confirmed}/refunds", refund, Idempotency_Key=uuid4().hex)
    stage.link.fail("/charges", status=402, body={"code": HOSTILE, "message": HOSTILE})
    await buyer.ended((await buyer.made("/orders", {**items, **wishes}))["orderId"])
    stage.link.fail("*", body={"code": HOSTILE, "message": HOSTILE})
    await stage.stuck((await buyer.made("/orders", {**items, "paymentMethod": HOSTILE}))["orderId"])
    stage.link.fail()
    await stage.ask(
        "INSERT INTO mailbox (key, channel, recipient, subject, body_text, body_html, order_id)"
        " VALUES ($1, 'email', $1, $1, $1, $1, $2)", HOSTILE, confirmed,
    )  # fmt: skip
    for statement in (
        "UPDATE orders SET correlation_id = $1 WHERE id = $2",
        "UPDATE saga_attempts SET worker = $1, detail = $1 WHERE saga_id = (SELECT saga_id FROM orders WHERE id = $2)",
    ):
        await stage.ask(statement, HOSTILE, confirmed)


async def test_whatever_anybody_writes_is_read_and_never_run(stage: Stage, browser: Browser) -> None:
    """Without the policy, which would stop it once more: no text becomes a part of a page."""
    await _plant(stage)
    read = set()
    async with visit(browser, stage.up.api, bypass_csp=True, forgives=r"^said at \S+/admin/mailbox/") as one:
        await one.sign_in(ADMIN, PASSWORD)
        queue = "/admin/queues/notification-sending"
        await one.go(queue)
        await one.page.click("summary")
        form = one.page.locator(f"form[action='{queue}/limit']")
        await form.locator("input[name=reason]").fill(HOSTILE)
        await form.locator("button").click()
        await one.page.wait_for_url(f"**{queue}?said=*")
        async for path in one.walk(3):
            await one.page.eval_on_selector_all("details", "all => all.forEach((one) => { one.open = true; })")
            if "{{7*7}}" in await one.text():
                read.add(kind_of(path))
            assert not await one.page.evaluate(RUNS), path
        for asked in (
            "orders?q={}&error={}&product={}",
            "stock?q={}",
            "audit?subject={}",
            "users?q={}",
            "?said={}",
        ):
            await one.go(f"/admin/{asked.replace('{}', quote(HOSTILE))}".replace("/?", "?"))
            assert not await one.page.evaluate(RUNS), asked
        await one.go(f"/admin/language/en?back={quote('javascript:__pwned=1')}")
        assert one.page.url == f"{stage.up.api}/admin"
    assert {
        ("/admin/orders",), ("/admin/orders/{order_id}",), ("/admin/stuck",), ("/admin/dead-letters",),
        ("/admin/dead-letters/{fingerprint}",), ("/admin/audit",), ("/admin/mailbox",), ("/admin/mailbox/{key:path}",),
        ("/admin/stock",), ("/admin/webhooks",), ("/admin/webhooks/{webhook_id}",), ("/admin/users",),
    } <= read  # fmt: skip


async def test_another_site_can_neither_frame_the_console_nor_act_in_it(stage: Stage, browser: Browser) -> None:
    """In the same browser, signed in: by its cookie, its forms and its answers nothing is to be had."""
    path = "/admin/queues/order-processing"
    async with visit(browser, stage.up.api, forgives=r"evil\.example|frame|chrome-error") as one:
        await one.sign_in(STAFF["operator"], PASSWORD)
        token = await one.page.input_value("form[action='/admin/logout'] input[name=csrf]", strict=True)
        page = await one.context.new_page()
        evil = f"""<iframe src="{one.origin}{path}"></iframe><form method="post" action="{one.origin}{path}/pause">
          <input name="csrf" value="{token}"><input name="reason" value="mine"><button>Win</button></form>"""
        await page.route("http://evil.example/", lambda route: route.fulfill(content_type="text/html", body=evil))
        await page.goto("http://evil.example/")
        (frame,) = page.main_frame.child_frames
        assert frame.url.startswith("chrome-error:"), "nothing of ours is in it"
        await page.click("button")
        await page.wait_for_url(f"{one.origin}/**")
        assert path not in await page.title()
    (row,) = await stage.ask("SELECT is_paused FROM queues WHERE name = 'order-processing'")
    assert not row["is_paused"]
    assert not await stage.ask("SELECT 1 FROM audit WHERE reason = 'mine'")
