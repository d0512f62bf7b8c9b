"""Rules of STYLE that imports don't show. Each is a function over a tree, so that it is seen to fail on a bad one."""

import ast
import http
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from comanda.db import Database, migrations
from comanda.db.statements import Twin
from comanda.errors import MigrationFault

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "comanda"
TESTS = ROOT / "tests"

OWNED = {
    "accounts": {
        "account_tokens",
        "accounts",
        "attempts",
        "console_sessions",
        "familiar_addresses",
        "refresh_tokens",
        "reset_requests",
    },
    "audit": {"audit"},
    "bulk": {"bulk_acts", "bulk_items"},
    "catalog": {"catalogue", "categories", "product_words", "products"},
    "idempotency": {"idempotency_keys"},
    "imports": {"import_pieces", "import_rejections", "imports"},
    "inventory": {"movements", "reservation_lines", "reservations", "stock"},
    "messaging": {"dead_letters", "outbox", "outbox_cursors", "queues"},
    "notifications": {"mailbox", "message_corrections", "notifications"},
    "orders": {"order_lines", "order_moves", "order_notes", "orders", "shipment_lines", "shipments"},
    "payments": {"breakers", "payments", "refund_lines", "refunds"},
    "saga": {"saga_attempts", "sagas"},
    "webhooks": {"webhook_attempts", "webhook_deliveries", "webhook_endpoints"},
    # Everything that a 202 promises is written by one statement in one commit: decisions/0001-shared-commits.md.
    "checkout/place_order.sql": {"idempotency_keys", "order_lines", "order_moves", "orders", "outbox", "sagas"},
    # Nobody executes it: these are the statements that `comanda doctor --repair` proposes to an operator.
    "proof/repair.sql": {"movements", "notifications", "payments", "reservations", "sagas", "stock"},
}
EDGES = (
    "api/", "cli/", "console/", "db/", "proof/", "relay.py", "worker.py", "saga/engine.py", "saga/rescue.py",
    "messaging/relay.py", "checkout/place_order.py", "catalog/cache.py", "notifications/providers.py",
    "payments/breaker.py", "webhooks/deliveries.py", "imports/batches.py", "bulk/chunks.py",
)  # fmt: skip
CALLS_OUTSIDE = ("payments/gateway.py", "messaging/streams.py", "notifications/alerts.py", "webhooks/sender.py")
READS_OUTSIDE = {"ledger", "wrote_lately"}  # nothing is changed there
SPEAKS_HTTP = (
    "api/",
    "console/",
    "gateway/",
    "payments/gateway.py",
    "webhooks/sender.py",
    "proof/chaos/",
    "proof/load/",
    "proof/matrix/",
    "proof/receiver.py",
)
# The mock gateway's own SQLite.
OTHER_DATABASES = ("gateway/store.sql", "gateway/store.py")
# A load that is put on from outside has a rhythm; it waits for nothing.
PACED = ("acceptance/test_crashes.py", "acceptance/test_restart.py")
VAGUE = re.compile(r"(base|common|core|handler|helper|manager|misc|service|util)s?", re.IGNORECASE)
VAGUE_CLASS = re.compile(r"\w+(Helper|Manager|Service|Utils?)")

_WRITES = re.compile(
    r"\b(?:INSERT\s+INTO|DELETE\s+FROM|MERGE\s+INTO|TRUNCATE|(?<!FOR )(?<!KEY )(?<!DO )UPDATE)\s+(?:ONLY\s+)?(\w+)",
    re.IGNORECASE,
)
_LOOKED_UP = re.compile(r"""_sql\[["'](\w+)["']\]""")
_SQL = re.compile(r"\s*(SELECT\s|INSERT INTO\s|UPDATE \w+ SET\s|DELETE FROM\s|WITH \w+ AS \()")
_STATUS = {int(one) for one in http.HTTPStatus if one >= 400}

Rule = Callable[[Path], list[str]]


def _modules(root: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root).as_posix(), ast.parse(path.read_text())


def _twins(root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob("*.sql")):
        name = path.relative_to(root).as_posix()
        if name not in OTHER_DATABASES:
            yield name, path


def statements_and_lookups_match(root: Path) -> list[str]:
    """Every named statement is used by the module beside it, once named, and every name that it looks up is there."""
    wrong = []
    for name, path in _twins(root):
        named = re.findall(r"^-- name:[ \t]*(.*?)[ \t]*$", path.read_text(), re.MULTILINE)
        module = path.with_suffix(".py")
        used = _LOOKED_UP.findall(module.read_text()) if module.exists() else []
        wrong += [f"{name}: {one} stands twice" for one in sorted({one for one in named if named.count(one) > 1})]
        wrong += [f"{name}: {one} is used by nobody" for one in sorted(set(named) - set(used))]
        wrong += [f"{name}: there is no {one}" for one in sorted(set(used) - set(named))]
        if not set(named) <= set(Twin(path)):
            wrong.append(f"{name}: a name is not read: {sorted(set(named) - set(Twin(path)))}")
    return wrong


def twins_write_their_own_tables(root: Path) -> list[str]:
    wrong = []
    for name, path in _twins(root):
        text = re.sub(r"--.*", "", path.read_text())
        owned = OWNED.get(name, OWNED.get(name.split("/")[0], set()))
        wrong += [f"{name} writes {table}" for table in sorted({one.lower() for one in _WRITES.findall(text)} - owned)]
    return wrong


def sql_stands_in_twins(root: Path) -> list[str]:
    """No statement is hidden in a module, where nobody looks at whose tables it writes."""
    return [
        f"{name}:{node.lineno} holds SQL"
        for name, tree in _modules(root)
        if not name.startswith(("db/", "engines/")) and name not in OTHER_DATABASES
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.match(node.value)
    ]


def only_edges_open_transactions(root: Path) -> list[str]:
    return [
        f"{name}:{node.lineno} opens a {node.func.attr}"
        for name, tree in _modules(root)
        if not name.startswith(EDGES)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"connection", "transaction"}
    ]


def commits_are_boundaries(root: Path) -> list[str]:
    """Each commit has a failpoint, so that no crash test can forget it. (A read-only transaction commits nothing.)"""
    return [
        f"{name}:{node.lineno} commits without a boundary"
        for name, tree in _modules(root)
        if not name.startswith("db/database.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncWith)
        for item in node.items
        if isinstance(call := item.context_expr, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "transaction"
        and not any(keyword.arg == "readonly" for keyword in call.keywords)
        and ast.unparse(call.func.value) != "tx"  # a savepoint of somebody else's transaction
        and not (call.args and _is_boundary(call.args[0]))
        and not _marks_itself(node)
    ]


def calls_outside_are_boundaries(root: Path) -> list[str]:
    """Each call that changes something outside (gateway, webhook, Redis) stands in a boundary."""
    return [
        f"{name}:{node.lineno} calls outside without a boundary"
        for name, tree in _modules(root)
        if name in CALLS_OUTSIDE
        for node in _outside_boundaries(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _changes_something(node.func)
    ]


def _is_boundary(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id.isupper()


def _marks_itself(block: ast.AsyncWith) -> bool:
    """On a connection of its own: it says by itself where it dies."""
    return any(isinstance(node, ast.Attribute) and node.attr == "before" for node in ast.walk(block))


def _outside_boundaries(node: ast.AST) -> Iterator[ast.AST]:
    """Everything that does not stand in a `with BOUNDARY:` or `with _translated(BOUNDARY):`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.With) and any(
            _is_boundary(one)
            for item in child.items
            for one in (item.context_expr, *getattr(item.context_expr, "args", ()))
        ):
            continue
        if isinstance(child, ast.AsyncFunctionDef) and child.name in READS_OUTSIDE:
            continue
        yield child
        yield from _outside_boundaries(child)


def _changes_something(called: ast.Attribute) -> bool:
    return (
        called.attr in {"_send", "execute", "eval"}
        or ast.unparse(called) == "self._client.post"
        or ast.unparse(called) == "self._redis.set"
        or (ast.unparse(called.value) == "self._redis" and called.attr.startswith("x") and "info" not in called.attr)
    )


def names_say_what_they_hold(root: Path) -> list[str]:
    """The module is the noun and the function the verb; what is called `utils` is neither."""
    wrong = []
    for name, tree in _modules(root):
        parts = Path(name).with_suffix("").parts
        wrong += [f"{name}: {part} says nothing" for part in parts if VAGUE.fullmatch(part)]
        wrong += [
            f"{name}:{node.lineno} {node.name} says nothing"
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and VAGUE_CLASS.fullmatch(node.name)
        ]
    return wrong


def only_http_knows_status_codes(root: Path) -> list[str]:
    """4xx and 5xx. (500 is a round number too: it counts only where something is called a status.)"""
    wrong = []
    for name, tree in _modules(root):
        if name.startswith(SPEAKS_HTTP):
            continue
        for statement in ast.walk(tree):
            if not isinstance(statement, ast.stmt):
                continue
            for node in _own_expressions(statement):
                match node:
                    case ast.Constant(value=int(code)) if code in _STATUS:
                        if code != 500 or "status" in ast.unparse(statement).lower():
                            wrong.append(f"{name}:{node.lineno} knows {code}")
    return wrong


def _own_expressions(statement: ast.stmt) -> Iterator[ast.AST]:
    """What stands in a statement itself, not in the block below it."""
    waiting: list[ast.AST] = [one for one in ast.iter_child_nodes(statement) if not isinstance(one, ast.stmt)]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [one for one in ast.iter_child_nodes(node) if not isinstance(one, ast.stmt)]


def nobody_sleeps_in_tests(root: Path) -> list[str]:
    """A look again inside `while` waits for a condition, and `sleep(0)` gives way; any other sleep is a guess."""
    return [
        f"{name}:{node.lineno} sleeps"
        for name, tree in _modules(root)
        if name not in PACED
        for node in _outside_while(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"asyncio.sleep", "time.sleep", "sleep"}
        and not (isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    ]


def _outside_while(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.While):
            yield child
            yield from _outside_while(child)


def migrations_are_numbered(root: Path) -> list[str]:
    try:
        migrations.stored(root)
    except MigrationFault as fault:
        return [str(fault)]
    return []


RULES: list[tuple[Rule, Path, str, str]] = [
    # rule, the tree it holds for, and a file that breaks it
    (statements_and_lookups_match, SRC, "orders/bad.sql", "-- name: unused\nSELECT 1;\n"),
    (twins_write_their_own_tables, SRC, "orders/bad.sql", "-- name: a\nUPDATE stock SET held = 0;\n"),
    (twins_write_their_own_tables, SRC, "checkout/place_order.sql", "-- name: a\nINSERT INTO payments SELECT 1;\n"),
    (sql_stands_in_twins, SRC, "orders/bad.py", 'HIDDEN = "DELETE FROM stock WHERE true"\n'),
    (
        only_edges_open_transactions,
        SRC,
        "orders/bad.py",
        "async def f(db):\n    async with db.transaction() as tx: ...\n",
    ),
    (commits_are_boundaries, SRC, "relay.py", "async def f(db):\n    async with db.transaction() as tx: ...\n"),
    (
        calls_outside_are_boundaries,
        SRC,
        "messaging/streams.py",
        "class S:\n    async def f(self):\n        await self._redis.xadd('a', {})\n",
    ),
    (
        calls_outside_are_boundaries,
        SRC,
        "messaging/streams.py",
        "class S:\n    async def f(self):\n        await self._redis.set('a', b'')\n",
    ),
    (
        calls_outside_are_boundaries,
        SRC,
        "payments/gateway.py",
        "class G:\n    async def f(self):\n        await self._send('POST')\n",
    ),
    (names_say_what_they_hold, SRC, "orders/utils.py", ""),
    (names_say_what_they_hold, SRC, "orders/bad.py", "class OrderService: ...\n"),
    (only_http_knows_status_codes, SRC, "orders/bad.py", "def f(e):\n    e.code = 409\n"),
    (only_http_knows_status_codes, SRC, "orders/bad.py", "def f(e):\n    return e.status == 500\n"),
    (
        nobody_sleeps_in_tests,
        TESTS,
        "unit/test_bad.py",
        "import asyncio\nasync def f():\n    await asyncio.sleep(1)\n",
    ),
    (migrations_are_numbered, ROOT / "migrations", "0002_gap.sql", "SELECT 1;\n"),
]
_EACH_RULE = {rule.__name__: (rule, tree) for rule, tree, _, _ in RULES}


@pytest.mark.parametrize("rule", _EACH_RULE)
def test_the_rule_holds(rule: str) -> None:
    check, tree = _EACH_RULE[rule]
    assert check(tree) == []


@pytest.mark.parametrize(("rule", "tree", "file", "text"), RULES)
def test_the_rule_sees_a_violation(rule: Rule, tree: Path, file: str, text: str, tmp_path: Path) -> None:
    del tree
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert len(rule(tmp_path)) == 1


def test_a_misspelt_lookup_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("-- name: reserve\nSELECT 1;\n")
    (tmp_path / "a.py").write_text('R = _sql["reserve"]\nX = _sql["resrve"]\n')
    assert statements_and_lookups_match(tmp_path) == ["a.sql: there is no resrve"]


async def test_every_statement_can_be_prepared(database: Database) -> None:
    refused = {}
    async with database.connection() as tx:
        for name, path in _twins(SRC):
            for statement in Twin(path).values():
                try:
                    await tx.prepare(statement.text)
                except Exception as fault:  # noqa: BLE001 - all of them are wanted at once
                    refused[f"{name}: {statement.name}"] = str(fault)
        with pytest.raises(Exception, match="no_such_table"):
            await tx.prepare("SELECT 1 FROM no_such_table")
    assert refused == {}


async def test_every_table_has_one_owner(database: Database) -> None:
    async with database.connection() as tx:
        rows = await tx.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
            " AND NOT relispartition AND relname <> 'migrations'"
        )
    owned = [table for owner, tables in OWNED.items() if "/" not in owner for table in tables]
    assert sorted(row["relname"] for row in rows) == sorted(owned)
