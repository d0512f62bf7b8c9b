"""At the console: acts on all that a filter shows, and messages of dead letters that are put right."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html import unescape
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from test_console_access import Browser, Seen, browser

from api_client import Client, running_api
from comanda.accounts.accounts import Role
from comanda.bulk import bulks, chunks, filters, selection
from comanda.bulk.chunks import Pace
from comanda.bulk.filters import Filter
from comanda.clock import new_id
from shop import Shop, shop, until

HOSTILE = "<script>alert(1)</script>\"'{{7*7}}"


@asynccontextmanager
async def scene(
    database_url: str, redis_url: str, *, role: Role = "operator", **more: Any
) -> AsyncIterator[tuple[Client, Shop, Browser]]:
    async with (
        running_api(database_url, redis_url) as api,
        shop(database_url, redis_url, **more) as open_shop,
        browser(api, role) as one,
    ):
        yield api, open_shop, one


async def undelivered(open_shop: Shop, count: int, kind: str = "order_confirmation") -> None:
    """Messages that were given up on, as an outage of their provider leaves them."""
    async with open_shop.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO notifications (id, order_id, kind, channel, recipient, language, variables, state, error)"
            " SELECT uuid_v7(), CASE WHEN $2 <> 'password_reset' THEN uuid_v7() END, $2, 'email',"
            "        'ana-' || n || '@exmaple.com', 'en', jsonb_build_object('order_id', n::text, 'first_name', 'Ana',"
            "        'currency', 'USD', 'total_amount', 1000, 'lines', '[]'::jsonb), 'FAILED', 'given up on'"
            "   FROM generate_series(1, $1::int) AS n",
            count,
            kind,
        )
        await tx.execute(
            "INSERT INTO sagas (id, kind, version, subject, state, step, queue, priority, reached, attempt, since,"
            " reason, note, correlation_id, created_at, updated_at)"
            " SELECT uuid_v7(), 'notification', 1, id, 'COMPENSATION_FAILED', 'deliver', 'notification-sending', 2,"
            "        'STARTED', 7, now(), 'STEP_FAILED', 'no such mailbox', 'test', now(), now()"
            "   FROM notifications WHERE kind = $1 AND state = 'FAILED' ORDER BY id",
            kind,
        )
        await tx.execute(
            "INSERT INTO dead_letters (id, saga_id, queue, step, direction, error, payload)"
            " SELECT uuid_v7(), sagas.id, queue, step, direction, note, jsonb_build_object('kind', sagas.kind)"
            "   FROM sagas JOIN notifications ON notifications.id = subject AND notifications.kind = $1"
            " ORDER BY sagas.id",
            kind,
        )


async def looked(one: Browser, path: str, match: int) -> tuple[Seen, dict[str, str]]:
    """The look, once it shows so many, and the fields of its form."""

    async def seen() -> Seen | None:
        page = await one.get(path)
        return page if f"<b>{match:,}</b>" in page.text else None

    page = await until(seen)
    form = page.text.partition('action="/admin/bulk">')[2].partition("</form>")[0]
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form)
    return page, {name: unescape(value) for name, value in fields if name != "csrf"}


async def oldest(one: Browser, group: str) -> dict[str, str]:
    """The letters that its page shows as those that go first."""
    return dict(re.findall(r'name="(oldest)" value="([^"]+)"', (await one.get(group)).text))


def bulk_of(seen: Seen) -> UUID:
    assert seen.status == 303, seen
    return UUID(seen.headers["Location"].partition("?")[0].rpartition("/")[2])


async def test_two_thousand_letters_are_redriven_stopped_half_way_resumed_and_all_end(
    database_url: str, redis_url: str
) -> None:
    async with scene(database_url, redis_url, bulk_rate=400) as (_, open_shop, one):
        await undelivered(open_shop, 2000)
        fingerprint = await open_shop.value("SELECT min(fingerprint) FROM dead_letters")
        group = f"/admin/dead-letters/{fingerprint}"
        seen = await one.post(f"{group}/redrive", {"count": "five", "reason": "five first", **await oldest(one, group)})
        assert (seen.status, await open_count(open_shop)) == (303, 1995)
        seen = await one.post(f"{group}/redrive", {"count": "all", "reason": "then the rest"})
        assert seen.headers["Location"].startswith("/admin/bulk/look?"), "too many for one transaction"
        assert await open_count(open_shop) == 1995
        page, form = await looked(one, seen.headers["Location"], 1995)
        assert "500 of them" in page.text
        assert "RUNNING at deliver" in page.text
        assert await open_count(open_shop) == 1995, "a look does nothing"
        assert (await one.post("/admin/bulk", {**form, "reason": "  "})).status == 422
        bulk_id = bulk_of(await one.post("/admin/bulk", {**form, "reason": "they are back"}))
        path = f"/admin/bulk/{bulk_id}"

        async def is_half_way() -> bool:
            return bool(await open_shop.value("SELECT done >= 500 FROM bulk_acts"))

        await until(is_half_way)
        assert (await one.post(f"{path}/stop", {"reason": "wait"})).status == 303
        assert (await one.post(f"{path}/stop", {"reason": "wait"})).status == 409
        done = await open_shop.value("SELECT done FROM bulk_acts")
        assert done < 1995
        assert await chunks.advance(open_shop.database, lambda _: open_shop.by_hand, Pace(100, 10_000)) is None
        assert await open_count(open_shop) == 1995 - done
        assert await open_shop.value("SELECT count(*) FROM bulk_items WHERE outcome = 'done'") == done
        stopped = unescape((await one.get(path)).text)
        for said in ("stopped", f"{done:,}", "they are back", fingerprint, "Resume"):
            assert said in stopped, said
        assert (await one.post(f"{path}/resume", {"reason": "on"})).status == 303

        async def is_over() -> bool:
            mails = await open_shop.value("SELECT count(*) FROM mailbox")
            return bool(await open_shop.value("SELECT state = 'ENDED' FROM bulk_acts")) and mails == 2000

        await until(is_over)
        row = (await open_shop.ask("SELECT * FROM bulk_acts"))[0]
        assert (row["done"], row["refused"], row["failed"]) == (1995, 0, 0)
        assert await open_count(open_shop) == 0
        acts = await open_shop.ask(
            "SELECT subject FROM audit WHERE act = 'saga.retry' AND detail->>'bulk' = $1", str(bulk_id)
        )
        assert (len(acts), len({act["subject"] for act in acts})) == (1995, 1995)
        told = await open_shop.ask("SELECT act FROM audit WHERE subject = $1 ORDER BY id", str(bulk_id))
        assert [act["act"] for act in told] == ["bulk.start", "bulk.stop", "bulk.resume"]
        assert bulk_of(await one.post("/admin/bulk", {**form, "reason": "sent twice"})) == bulk_id
        assert await open_shop.value("SELECT count(*) FROM bulk_acts") == 1
        positions: list[str] = []
        following: str | None = path
        while following:
            text = (await one.get(following)).text
            positions += re.findall(r'<tr><td class="n">([\d,]+)</td>', text)
            more = re.search(r'rel="next" href="([^"]+)"', text)
            following = unescape(more[1]) if more else None
        assert positions == [f"{number:,}" for number in range(1, 1996)]
        assert "they are back" in (await one.get("/admin/bulk")).text
        assert str(bulk_id) in (await one.get("/admin/audit")).text


async def open_count(open_shop: Shop) -> int:
    count: int = await open_shop.value("SELECT count(*) FROM dead_letters WHERE redriven_at IS NULL")
    return count


async def test_what_an_act_is_about_is_what_the_list_shows(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url, workers=0, has_relay=False) as (_, open_shop, one):
        ids = await open_shop.sells(coffee=100, tea=100)
        (other,) = await open_shop.customers(1)
        placed = [
            await open_shop.order({ids["coffee" if number % 2 else "tea"]: 1}, customer=other if number % 3 else None)
            for number in range(12)
        ]
        async with open_shop.database.transaction() as tx:
            for number, order_id in enumerate(placed):
                match number % 4:
                    case 1:
                        await tx.execute(
                            "UPDATE sagas SET state = 'COMPENSATION_FAILED', step = 'process_payment',"
                            " direction = 'backward', note = '100% on fire' WHERE subject = $1", order_id,
                        )  # fmt: skip
                        await tx.execute("UPDATE orders SET state = 'PAYMENT_FAILED' WHERE id = $1", order_id)
                    case 2:
                        await tx.execute("UPDATE sagas SET note = 'a 1000 errors' WHERE subject = $1", order_id)
                    case 3:
                        await tx.execute(
                            "UPDATE sagas SET state = 'COMPENSATED', reason = '100%', ended_at = now()"
                            " WHERE subject = $1",
                            order_id,
                        )
                        await tx.execute(
                            "UPDATE orders SET state = 'CANCELLED', failure_reason = '100%', ended_at = now()"
                            " WHERE id = $1", order_id,
                        )  # fmt: skip
        email = await open_shop.value("SELECT email FROM accounts WHERE id = $1", other)
        asked: list[Mapping[str, str]] = [
            {"state": "open"}, {"state": "stuck"}, {"state": "CANCELLED"}, {"state": "PENDING"}, {"error": "100%"},
            {"error": "1000"}, {"error": "_"}, {"step": "verify_stock"}, {"step": "process_payment", "state": "stuck"},
            {"product": "coffee"}, {"product": str(ids["tea"])}, {"product": "no such"}, {"q": email},
            {"q": str(other)}, {"q": "nobody@example.com"}, {"q": email, "state": "stuck"},
            {"q": email, "state": "open", "product": "tea"}, {"state": "open", "age": "0"},
            {"error": "fire", "age": "9"},
        ]  # fmt: skip
        matched = 0
        for fields in asked:
            wanted = filters.read("orders", fields)
            assert isinstance(wanted, Filter)

            async def selected(wanted: Filter = wanted) -> list[UUID]:
                async with open_shop.database.connection() as tx:
                    return [
                        row.subject
                        for row in await selection.select(tx, wanted, await selection.moment(tx))
                        if row.subject
                    ]

            page = (await one.get(f"/admin/orders?{urlencode(fields)}")).text
            shown = {UUID(found) for found in re.findall(r'href="/admin/orders/([0-9a-f-]{36})"', page)}
            ended = {placed[number] for number in range(3, 12, 4)}
            found = await selected()
            assert set(found) == shown - ended, fields
            assert found == sorted(found), "the oldest first"
            assert ("/admin/bulk/look?" in page) == bool(shown), fields
            matched += len(found)
        assert matched > 30


async def test_stuck_and_letters_are_filtered_and_acted_on_so(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url, workers=0, has_relay=False) as (_, open_shop, one):
        await undelivered(open_shop, 6)
        async with open_shop.database.transaction() as tx:
            await tx.execute(
                "UPDATE dead_letters SET error = 'quite another', created_at = now() - interval '1 hour',"
                " queue = 'order-processing'"
                " WHERE id IN (SELECT id FROM dead_letters ORDER BY id LIMIT 2)"
            )
            await tx.execute(
                "UPDATE sagas SET updated_at = now() - interval '1 hour', kind = 'webhook'"
                " WHERE id IN (SELECT saga_id FROM dead_letters ORDER BY id LIMIT 2)"
            )
        for path, of, count in (
            ("/admin/stuck", "stuck", 6), ("/admin/stuck?kind=webhook", "stuck", 2),
            ("/admin/stuck?age=30", "stuck", 2),
            ("/admin/stuck?error=mailbox", "stuck", 6), ("/admin/stuck?step=nowhere", "stuck", 0),
            ("/admin/dead-letters", "letters", 6), ("/admin/dead-letters?error=ANOTHER", "letters", 2),
            ("/admin/dead-letters?queue=notification-sending", "letters", 4),
            ("/admin/dead-letters?age=30", "letters", 2), ("/admin/dead-letters?age=90", "letters", 0),
        ):  # fmt: skip
            page = (await one.get(path)).text
            rows = (
                len(re.findall(r"<tr><td>(?!<)", page))
                if of == "stuck"
                else sum(int(found) for found in re.findall(r'data-row href="/admin/dead-letters/\w+">(\d+)</a>', page))
            )
            assert rows == count, path
            link = re.search(r'href="(/admin/bulk/look\?[^"]+)"', page)
            assert (link is not None) == bool(count), path
            if link is not None:
                await looked(one, unescape(link[1]), count)
        assert (await one.get("/admin/stuck?age=ten")).status == 422
        assert await open_shop.value("SELECT count(*) FROM audit") == 0


async def test_a_look_tells_what_it_is_worth_what_is_refused_and_what_it_leads_to(
    database_url: str, redis_url: str
) -> None:
    async with scene(database_url, redis_url, workers=0, has_relay=False) as (_, open_shop, one):
        coffee = (await open_shop.sells(coffee=100))["coffee"]
        for _number in range(3):
            await open_shop.order({coffee: 2})
        async with open_shop.database.transaction() as tx:
            await tx.execute(
                "UPDATE sagas SET waits_until = now() + interval '1 hour'"
                " WHERE id = (SELECT id FROM sagas ORDER BY id LIMIT 1)"
            )
        before = await open_shop.ask("SELECT sagas::text FROM sagas ORDER BY id")
        page, _form = await looked(one, "/admin/bulk/look?of=orders&state=open", 3)
        text = unescape(page.text)
        for said in (
            "$60.00", "verify_stock is tried again by a worker of order-processing", "RUNNING at verify_stock",
            "it is due already: workers take it by themselves",
        ):  # fmt: skip
            assert said in text, said
        page, _form = await looked(one, "/admin/bulk/look?of=orders&state=open&verb=compensate", 3)
        assert "An order ends CANCELLED" in page.text
        assert "not possible" not in page.text
        spoken = await one.get("/admin/bulk/look?of=orders&state=open", **{"Accept-Language": "es"})
        text = unescape(spoken.text)
        for said in ("en curso en verify_stock", "ya le toca: los trabajadores lo toman por sí solos"):
            assert said in text, said
        for english in ("RUNNING at", "it is due already"):
            assert english not in text
        async with open_shop.database.transaction() as tx:
            waiting = await tx.fetchval(
                "UPDATE sagas SET waits_until = NULL WHERE waits_until IS NOT NULL RETURNING id"
            )
        page, form = await looked(one, "/admin/bulk/look?of=orders&state=open&verb=skip", 3)
        assert "None of these can be acted on so." in page.text, "none is stuck or waits"
        assert form == {}, "nothing to confirm"
        assert "counts as done" not in page.text
        async with open_shop.database.transaction() as tx:
            await tx.execute(
                "UPDATE sagas SET waits_until = (SELECT created_at + interval '1 hour' FROM sagas s WHERE s.id = $1)"
                " WHERE id = $1",
                waiting,
            )
        before = await open_shop.ask("SELECT sagas::text FROM sagas ORDER BY id")
        assert await open_shop.ask("SELECT sagas::text FROM sagas ORDER BY id") == before
        assert await open_shop.value("SELECT count(*) FROM audit") == 0


async def test_a_form_that_was_tampered_with_or_is_old_does_nothing(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url, workers=0, has_relay=False) as (_, open_shop, one):
        await undelivered(open_shop, 3)
        _page, form = await looked(one, "/admin/bulk/look?of=letters&error=mailbox", 3)
        form["reason"] = "a test"
        for status, change in (
            (422, {"of": "everything"}), (422, {"of": "orders"}), (422, {"verb": "skip"}), (422, {"verb": ""}),
            (422, {"age": "-1"}), (422, {"state": "open"}), (422, {"id": str(uuid4())}), (422, {"id": "1"}),
            (422, {"seen_at": "yesterday"}), (422, {"seen_at": "2026-01-01T00:00:00"}), (422, {"shown": "many"}),
            (409, {"seen_at": "2026-01-01T00:00:00+00:00"}), (409, {"shown": "2"}), (409, {"error": "no such error"}),
        ):  # fmt: skip
            seen = await one.post("/admin/bulk", {**form, **change})
            assert seen.status == status, (change, seen.text)
        for path in ("?of=letters&verb=skip", "?of=stuck&age=x", "?of=orders", ""):
            assert (await one.get(f"/admin/bulk/look{path}")).status == 422, path
        assert (await one.post_raw("/admin/bulk", form, Origin=one.url)).status == 403, "without its token"
        assert await open_shop.value("SELECT count(*) FROM bulk_acts") == 0
        later = {**form, "seen_at": "2999-01-01T00:00:00+00:00"}
        assert (await one.post("/admin/bulk", later)).status == 303
        assert await open_shop.value("SELECT items FROM bulk_acts") == 3


async def test_a_viewer_sees_acts_and_is_offered_none(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url, role="viewer", workers=0, has_relay=False) as (_, open_shop, one):
        await undelivered(open_shop, 2)
        bulk_id = await begun(open_shop)
        for path in ("/admin/bulk", f"/admin/bulk/{bulk_id}", "/admin/stuck", "/admin/dead-letters"):
            page = await one.get(path)
            assert page.status == 200
            assert "/admin/bulk/look" not in page.text
            assert f"{bulk_id}/stop" not in page.text
        assert (await one.post(f"/admin/bulk/{bulk_id}/stop", {"reason": "no"})).status == 403
        assert await open_shop.value("SELECT state FROM bulk_acts") == "RUNNING"


async def begun(open_shop: Shop, reason: str = "a test", error: str = "mailbox") -> UUID:
    wanted = filters.read("letters", {"error": error})
    assert isinstance(wanted, Filter)
    async with open_shop.database.transaction() as tx:
        selected = await selection.select(tx, wanted, await selection.moment(tx))
        one = await bulks.begin(tx, new_id(), "redrive", wanted, selected, actor="ana", reason=reason)
    assert one is not None
    return one.id


async def test_hostile_texts_are_shown_on_the_pages_of_acts_and_never_run(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url, workers=0, has_relay=False) as (_, open_shop, one):
        await undelivered(open_shop, 1)
        async with open_shop.database.transaction() as tx:
            await tx.execute("UPDATE dead_letters SET error = $1, step = $1, queue = $1", HOSTILE)
            await tx.execute("UPDATE dead_letters SET payload = jsonb_build_object('kind', $1::text)", HOSTILE)
            await tx.execute("UPDATE sagas SET step = $1, note = $1", HOSTILE)
            await tx.execute("UPDATE notifications SET recipient = $1, error = $1, language = 'en'", HOSTILE)
        bulk_id = await begun(open_shop, HOSTILE, HOSTILE)
        async with open_shop.database.transaction() as tx:
            await tx.execute("UPDATE bulk_acts SET actor = $1", HOSTILE)
            await tx.execute(
                "UPDATE bulk_items SET outcome = 'refused', said = $1, stood = $1, kind = $1, acted_at = now()", HOSTILE
            )
        letter = await open_shop.value("SELECT id FROM dead_letters")
        look = urlencode({"of": "letters", "error": HOSTILE})
        for path in (
            "/admin/bulk", f"/admin/bulk/{bulk_id}", f"/admin/bulk/{bulk_id}?only=refused", f"/admin/bulk/look?{look}",
            f"/admin/dead-letters/letter/{letter}", "/admin/stuck", f"/admin/dead-letters?{look[11:]}",
        ):  # fmt: skip
            seen = await one.get(path)
            assert seen.status == 200, (path, seen.text)
            assert "&lt;script&gt;" in seen.text, path
            assert "<script>alert" not in seen.text, path
            assert "{{7*7}}" in seen.text, path


async def test_an_act_is_watched_live(api: Client, database_url: str, redis_url: str) -> None:
    async with (
        shop(database_url, redis_url, workers=0, has_relay=False) as open_shop,
        browser(api, "viewer") as one,
    ):
        await undelivered(open_shop, 3)
        bulk_id = await begun(open_shop)
        for view in ("bulks", f"bulk.{bulk_id}"):
            async with one.session.get(f"{api.url}/admin/live?view={view}") as stream:
                piece = b""
                while b"<progress" not in piece:
                    piece += await stream.content.readline()
        assert b'max="3" value="0"' in piece
        for view in ("bulk", "bulk.1", f"queues.{bulk_id}"):
            assert (await one.get(f"/admin/live?view={view}")).status == 404


async def test_a_message_is_put_right_after_a_look_at_the_difference_and_what_it_was_is_kept(
    database_url: str, redis_url: str
) -> None:
    async with scene(database_url, redis_url) as (_, open_shop, one):
        await undelivered(open_shop, 1)
        letter = await open_shop.value("SELECT id FROM dead_letters")
        path = f"/admin/dead-letters/letter/{letter}"
        page = (await one.get(path)).text
        assert "ana-1@exmaple.com" in page
        wish = {"recipient": "ana-1@example.com", "language": "es"}
        look = unescape((await one.post(path, wish)).text)
        for said in (
            "<del>ana-1@exmaple.com</del> <ins>ana-1@example.com</ins>",
            "<del>en</del> <ins>es</ins>",
            "Hola",
        ):
            assert said in look, said
        assert await open_shop.value("SELECT recipient FROM notifications") == "ana-1@exmaple.com", (
            "a look does nothing"
        )
        sent = {**wish, "confirmed": "yes"}
        assert (await one.post(path, {**sent, "reason": " "})).status == 422
        assert (await one.post(path, {**sent, "reason": "she called"})).status == 303

        async def mail() -> Any:
            return await open_shop.ask("SELECT * FROM mailbox")

        (mailed,) = await until(mail)
        assert (mailed["recipient"], "Hola" in mailed["body_text"]) == ("ana-1@example.com", True)
        (kept,) = await open_shop.ask("SELECT before::text, after::text, reason, letter_id FROM message_corrections")
        assert (kept["before"], kept["reason"]) == (
            '{"language": "en", "recipient": "ana-1@exmaple.com"}',
            "she called",
        )
        assert kept["letter_id"] == letter
        (act,) = await open_shop.ask("SELECT * FROM audit WHERE act = 'letter.edit'")
        assert (act["reason"], "exmaple" in act["detail"]) == ("she called", False)
        page = (await one.get(path)).text
        assert "<del>ana-1@exmaple.com</del> <ins>ana-1@example.com</ins>" in page
        assert "she called" in page
        assert (await one.post(path, {**sent, "recipient": "eve@example.com", "reason": "again"})).status == 422
        assert await open_shop.value("SELECT count(*) FROM message_corrections") == 1


async def test_what_can_not_be_put_right_is_refused_and_nothing_is_sent(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url, role="admin", workers=0, has_relay=False) as (api, open_shop, one):
        await undelivered(open_shop, 1)
        await undelivered(open_shop, 1, "password_reset")
        async with open_shop.database.transaction() as tx:
            await tx.execute(
                "INSERT INTO dead_letters (id, queue, step, direction, error, payload)"
                " VALUES (uuid_v7(), 'order-processing', 'read', 'forward', 'unreadable message', '{\"body\": \"{}\"}')"
            )
        rows = await open_shop.ask(
            "SELECT dead_letters.id, coalesce(notifications.kind, 'none') AS kind FROM dead_letters"
            " LEFT JOIN sagas ON sagas.id = saga_id LEFT JOIN notifications ON notifications.id = subject"
        )
        letters = {row["kind"]: row["id"] for row in rows}
        good = {"recipient": "ana@example.com", "language": "en", "confirmed": "yes", "reason": "a test"}
        asked = [
            ("order_confirmation", change)
            for change in (
                {"recipient": "nowhere"}, {"recipient": "a@b.c\r\nBcc: eve@example.com"}, {"recipient": ""},
                {"recipient": f"{'a' * 65}@example.com"}, {"language": "xx"}, {"language": ""},
                {"recipient": "ana-1@exmaple.com"},
            )
        ] + [("password_reset", {}), ("none", {})]  # fmt: skip
        for kind, change in asked:
            seen = await one.post(f"/admin/dead-letters/letter/{letters[kind]}", {**good, **change})
            assert seen.status == (404 if kind == "none" else 422), (kind, change)
        reset = (await one.get(f"/admin/dead-letters/letter/{letters['password_reset']}")).text
        assert "it goes there or nowhere" in reset
        assert "exmaple.com" not in reset
        assert (await one.get(f"/admin/dead-letters/letter/{letters['none']}")).status == 200
        async with browser(api, "viewer") as viewer:
            path = f"/admin/dead-letters/letter/{letters['order_confirmation']}"
            assert "Look at the difference" not in (await viewer.get(path)).text
            assert (await viewer.post(path, good)).status == 403
        assert await open_count(open_shop) == 3
        assert await open_shop.value("SELECT count(*) FROM audit") == 0
