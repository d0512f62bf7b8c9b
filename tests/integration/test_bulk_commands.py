"""From the command line: acts on many by filter, watched to their end; messages of dead letters put right."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
from test_console_bulk import open_count, undelivered
from typer.testing import CliRunner

from comanda.bulk import chunks
from comanda.bulk.chunks import Pace
from comanda.cli import shapes
from comanda.cli.table import app
from comanda.errors import Fault
from lines import told
from shop import Shop, shop, until


@dataclass(frozen=True)
class Ran:
    code: int
    lines: list[dict[str, Any]]
    err: str


async def comanda(open_shop: Shop, *arguments: str) -> Ran:
    """The command, in a thread of this process: a process for each takes its seconds."""
    known = open_shop.assembly.settings
    settings = {"COMANDA_DATABASE_URL": known.database_url, "COMANDA_REDIS_URL": known.redis_url}
    ran = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--json"], env=settings)
    said = f"{ran.stderr}{ran.exception or ''}"
    words = 2 if arguments[0] in {"bulk", "dead-letters"} else 1
    told(" ".join(arguments[:words]), ran.stdout.splitlines())
    code = ran.exception.exit_code if isinstance(ran.exception, Fault) else ran.exit_code
    kinds = next(kinds for name, kinds in shapes.OF.items() if [*arguments[: name.count(" ") + 1]] == name.split())
    for line in ran.stdout.splitlines():
        assert any(_is(kind, line) for kind in kinds), f"docs/cli.md has nothing like {line}"
    return Ran(code, [json.loads(line) for line in ran.stdout.splitlines()], said)


def _is(kind: type[msgspec.Struct], line: str) -> bool:
    try:
        msgspec.json.decode(line, type=kind)
    except msgspec.ValidationError:
        return False
    return True


async def test_letters_that_match_go_round_and_a_dry_run_moves_none(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url, bulk_rate=1000) as open_shop:
        await undelivered(open_shop, 150)
        act = ("dead-letters", "redrive", "--filter", "error=MAILBOX", "--filter", "queue=notification-sending")
        dry = await comanda(open_shop, *act, "--dry-run")
        assert (dry.code, await open_count(open_shop)) == (0, 150)
        *counts, summary = dry.lines
        assert counts == [{"count": 150, "stands": "RUNNING at deliver"}]
        assert (summary["match"], summary["tried"], summary["filter"]["error"]) == (150, 150, "MAILBOX")
        assert "with the same key as before" in dry.err
        assert (await comanda(open_shop, *act)).code == 2, "it needs a reason"
        assert (await comanda(open_shop, "retry", "--reason", "x")).code == 2, "nothing is named"
        one = str(await open_shop.value("SELECT saga_id FROM dead_letters LIMIT 1"))
        assert (await comanda(open_shop, "retry", one, "--dry-run", "--reason", "x")).code == 2, "it would do it"
        assert (await comanda(open_shop, *act, "--limit", "5", "--reason", "x")).code == 2, "it would do more"
        assert await open_count(open_shop) == 150
        assert (await comanda(open_shop, *act, "--filter", "state=stuck", "--reason", "x")).code == 2
        done = await comanda(open_shop, *act, "--reason", "they are back")
        assert (done.code, [(row["state"], row["done"]) for row in done.lines]) == (0, [("ENDED", 150)]), done
        assert await open_count(open_shop) == 0
        unknown = await comanda(open_shop, "dead-letters", "redrive", str(uuid4()), "--reason", "they are back")
        assert (unknown.code, "There is no dead letter" in unknown.err) == (1, True)
        again = await comanda(open_shop, *act, "--reason", "they are back")
        assert (again.code, again.lines) == (0, [])

        async def is_sent() -> bool:
            return bool(await open_shop.value("SELECT count(*) = 150 FROM mailbox"))

        await until(is_sent)


async def test_an_act_is_begun_stopped_shown_resumed_and_says_what_was_not_done(
    database_url: str, redis_url: str
) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as open_shop:
        await undelivered(open_shop, 4)
        begun = await comanda(open_shop, "retry", "--of", "stuck", "--filter", "kind=notification", "--detach",
                              "--reason", "mended")  # fmt: skip
        (one,) = begun.lines
        assert (begun.code, one["verb"], one["items"], one["filter"]) == (
            0, "retry", 4, {"of": "stuck", "kind": "notification"},
        )  # fmt: skip
        stopped = await comanda(open_shop, "bulk", "stop", one["bulk"], "--reason", "wait")
        assert (stopped.code, stopped.lines[0]["state"]) == (0, "STOPPED")
        assert (await comanda(open_shop, "bulk", "stop", one["bulk"], "--reason", "wait")).code == 1
        async with open_shop.database.transaction() as tx:
            left = await tx.fetchval("SELECT saga_id FROM bulk_items WHERE position = 4")
            await tx.execute("UPDATE sagas SET step = 'elsewhere' WHERE id = $1", left)
        assert (await comanda(open_shop, "bulk", "resume", one["bulk"], "--reason", "on")).code == 0

        await chunks.advance(open_shop.database, lambda _: open_shop.by_hand, Pace(100, 1000))
        *items, standing = (await comanda(open_shop, "bulk", "show", one["bulk"], "--refused")).lines
        assert [(item["saga"], "moved on" in item["because"]) for item in items] == [(str(left), True)]
        assert (standing["done"], standing["refused"]) == (3, 1)
        assert [row["bulk"] for row in (await comanda(open_shop, "bulk", "list")).lines] == [one["bulk"]]


async def test_a_message_is_put_right(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as open_shop:
        await undelivered(open_shop, 1)
        letter = str(await open_shop.value("SELECT id FROM dead_letters"))
        edit = ("dead-letters", "edit", letter, "--recipient", "ana@example.com")
        dry = await comanda(open_shop, *edit, "--dry-run")
        assert [(row["field"], row["was"], row["is"]) for row in dry.lines] == [
            ("recipient", "ana-1@exmaple.com", "ana@example.com")
        ]
        assert await open_count(open_shop) == 1
        wrong = await comanda(open_shop, "dead-letters", "edit", letter, "--language", "xx", "--reason", "a test")
        assert (wrong.code, "no messages in this language" in wrong.err) == (1, True)
        assert (await comanda(open_shop, *edit, "--reason", "she called")).code == 0

        async def mail() -> Any:
            return await open_shop.ask("SELECT recipient FROM mailbox")

        (sent,) = await until(mail)
        assert sent["recipient"] == "ana@example.com"
        _, message, correction = (await comanda(open_shop, "dead-letters", "show", letter)).lines
        assert message["recipient"] == "ana@example.com"
        assert correction["before"] == {"recipient": "ana-1@exmaple.com", "language": "en"}
