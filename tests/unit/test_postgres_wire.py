"""Commits are seen in PostgreSQL's protocol, wherever the network cuts its bytes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comanda.proof.chaos.postgres_wire import Part, Piece, Session, Statement

PLAIN, NOTIFICATION, MAY_COMMIT, COMMITTED = Part
Turn = tuple[str, bytes]  # "client" or "server" says it

START = struct.pack("!II", 17, 196608) + b"user\0me\0\0"
SSL = struct.pack("!II", 8, 80877103)
CANCEL = struct.pack("!IIII", 16, 80877102, 7, 7)


def message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def ready(status: str) -> bytes:
    return message("Z", status.encode())


def done(tag: str) -> bytes:
    return message("C", tag.encode() + b"\0")


def query(text: str) -> bytes:
    return message("Q", text.encode() + b"\0")


def parse(name: str, text: str) -> bytes:
    return message("P", f"{name}\0{text}\0".encode() + b"\0\0")


def run(name: str, *, portal: str = "") -> bytes:
    bind = message("B", f"{portal}\0{name}\0".encode() + bytes(6))
    return bind + message("E", portal.encode() + b"\0" + bytes(4)) + message("S")


HELLO: list[Turn] = [("client", START), ("server", message("R", bytes(4)) + message("S", b"a\0b\0") + ready("I"))]
INSERT = "WITH a AS (SELECT 1) INSERT INTO t SELECT 1"
NEWS = message("A", bytes(4) + b"channel\0payload\0")


def parts(turns: list[Turn], session: Session | None = None) -> list[tuple[Part, bytes]]:
    """What the server said, stretch by stretch."""
    session = session or Session()
    pieces: list[Piece] = []
    for who, data in turns:
        if who == "client":
            session.client_sent(data)
        else:
            pieces += session.server_sent(data)
    return joined(pieces)


def joined(pieces: list[Piece]) -> list[tuple[Part, bytes]]:
    together: list[tuple[Part, bytes]] = []
    for part, data in pieces:
        if together and together[-1][0] is part:
            together[-1] = (part, together[-1][1] + data)
        else:
            together.append((part, bytes(data)))
    return together


def kinds(turns: list[Turn]) -> list[Part]:
    """Of what comes after the greeting."""
    session = Session()
    parts(HELLO, session)
    return [part for part, _ in parts(turns, session)]


def test_a_write_outside_a_transaction_commits_with_its_answer() -> None:
    turns = [("client", parse("s", INSERT) + message("S")), ("server", message("1") + ready("I"))]
    assert kinds(turns) == [PLAIN]
    turns += [("client", run("s")), ("server", message("2") + done("INSERT 0 1") + ready("I"))]
    assert kinds(turns) == [PLAIN, MAY_COMMIT, COMMITTED]
    assert kinds([*turns, *turns[2:]]) == [PLAIN, MAY_COMMIT, COMMITTED, MAY_COMMIT, COMMITTED]


def test_a_transaction_that_wrote_commits_with_its_commit() -> None:
    turns = [
        ("client", query("BEGIN;")),
        ("server", done("BEGIN") + ready("T")),
        ("client", parse("", INSERT) + run("")),
        ("server", message("1") + message("2") + done("INSERT 0 1") + ready("T")),
    ]
    assert kinds(turns) == [PLAIN]
    commit = [("client", query("COMMIT;")), ("server", done("COMMIT") + ready("I"))]
    assert kinds([*turns, *commit]) == [PLAIN, MAY_COMMIT, COMMITTED]
    rollback = [("client", query("ROLLBACK;")), ("server", done("ROLLBACK") + ready("I"))]
    assert kinds([*turns, *rollback]) == [PLAIN]
    assert kinds([*turns, *rollback, *turns[:2], *commit]) == [PLAIN]


def test_a_transaction_that_read_commits_nothing() -> None:
    turns = [
        ("client", query("BEGIN;")),
        ("server", done("BEGIN") + ready("T")),
        ("client", query("SELECT 1 FROM t FOR UPDATE")),
        ("server", done("SELECT 1") + ready("T")),
        ("client", query("COMMIT;")),
        ("server", done("COMMIT") + ready("I")),
    ]
    assert kinds(turns) == [PLAIN]


def test_a_commit_that_the_server_turns_into_a_rollback_is_none() -> None:
    turns = [
        ("client", query("BEGIN")),
        ("server", done("BEGIN") + ready("T")),
        ("client", query(INSERT)),
        ("server", message("E", b"\0") + ready("E")),
        ("client", query("COMMIT")),
        ("server", done("ROLLBACK") + ready("I")),
    ]
    assert kinds(turns) == [PLAIN, MAY_COMMIT, PLAIN]


def test_a_write_that_fails_commits_nothing() -> None:
    turns = [("client", query(INSERT)), ("server", message("E", b"\0") + ready("I"))]
    assert kinds(turns) == [MAY_COMMIT, PLAIN]
    turns += [("client", query("SELECT 1")), ("server", done("SELECT 1") + ready("I"))]
    turns += [("client", query(INSERT)), ("server", done("INSERT 0 1") + ready("I"))]
    assert kinds(turns) == [MAY_COMMIT, PLAIN, MAY_COMMIT, COMMITTED]


def test_requests_sent_ahead_are_told_apart() -> None:
    turns = [
        ("client", query("SELECT 1") + query(INSERT) + query("SELECT 2")),
        ("server", done("SELECT 1") + ready("I") + done("INSERT 0 1") + ready("I") + done("SELECT 1") + ready("I")),
    ]
    assert kinds(turns) == [PLAIN, MAY_COMMIT, COMMITTED, PLAIN]


def test_a_statement_that_was_replaced_or_closed_counts_no_more() -> None:
    turns = [
        ("client", parse("s", INSERT) + parse("s", "SELECT 1") + run("s", portal="p")),
        ("server", message("1") * 2 + message("2") + done("SELECT 1") + ready("I")),
        ("client", parse("w", INSERT) + message("C", b"Sw\0") + run("w")),
        ("server", message("1") + message("3") + message("E", b"\0") + ready("I")),
    ]
    assert kinds(turns) == [PLAIN]


def test_what_the_server_wants_from_the_client_is_not_kept_from_it() -> None:
    turns = [
        ("client", query("COPY t FROM STDIN")),
        ("server", message("G", bytes(3))),
        ("client", message("d", b"1\n") + message("c")),
        ("server", done("COPY 1") + ready("I")),
    ]
    assert kinds(turns) == [PLAIN, MAY_COMMIT, COMMITTED]
    half = [("client", message("P", b"\0" + INSERT.encode() + b"\0\0\0") + run("")[:-5]), ("server", message("1"))]
    assert kinds(half) == [PLAIN]


def test_notifications_are_told_apart() -> None:
    assert kinds([("server", NEWS)]) == [NOTIFICATION]
    turns = [("client", query("SELECT 1")), ("server", NEWS + done("SELECT 1") + ready("I") + NEWS)]
    assert kinds(turns) == [NOTIFICATION, PLAIN, NOTIFICATION]


def test_a_wish_for_encryption_that_is_refused_comes_before_the_start() -> None:
    turns = [("client", SSL), ("server", b"N"), *HELLO]
    turns += [("client", query(INSERT)), ("server", done("INSERT 0 1") + ready("I"))]
    assert [part for part, _ in parts(turns)] == [PLAIN, MAY_COMMIT, COMMITTED]


def test_what_can_not_be_read_passes() -> None:
    encrypted: list[Turn] = [("client", SSL), ("server", b"S"), ("client", b"\x16\x03\x01"), ("server", b"\x16\x03A")]
    assert parts(encrypted) == [(PLAIN, b"S\x16\x03A")]
    cancelled: list[Turn] = [("client", CANCEL), ("server", b"?")]
    assert parts(cancelled) == [(PLAIN, b"?")]


def test_half_a_message_is_handed_out_when_the_server_ends() -> None:
    session = Session()
    assert joined(session.server_sent(ready("I") + b"E\0\0\0\x50half")) == [(PLAIN, ready("I"))]
    assert session.server_ended() == b"E\0\0\0\x50half"
    assert session.server_ended() == b""


@pytest.mark.parametrize(
    ("text", "writes", "commits"),
    [
        ("INSERT INTO t VALUES (1)", True, False),
        ("insert\n into t values (1)", True, False),
        ("WITH a AS (DELETE FROM t RETURNING id) SELECT id FROM a", True, False),
        ("WITH a AS (\n    UPDATE t SET a = 1 RETURNING id\n) SELECT id FROM a", True, False),
        ("UPDATE ONLY public.t SET a = 1", True, False),
        ('UPDATE "t" AS t SET a = 1', True, False),
        ("SELECT * FROM t FOR UPDATE SKIP LOCKED", False, False),
        ("SELECT * FROM t FOR UPDATE OF t NOWAIT", False, False),
        ("SELECT * FROM t FOR NO KEY UPDATE OF t SKIP LOCKED", False, False),
        ("SELECT updated_at FROM inserts -- UPDATE t SET a", False, False),
        ("SELECT 1 /* DELETE FROM t */", False, False),
        ("COPY t (a) FROM STDIN", True, False),
        ("COPY (SELECT * FROM t) TO STDOUT", False, False),
        ("SELECT CASE WHEN true THEN 1 END", False, False),
        ("COMMIT;", False, True),
        ("  commit", False, True),
        ("INSERT INTO t VALUES (1); END", True, True),
        ("ROLLBACK;", False, False),
    ],
)
def test_a_statement_is_known_by_its_text(text: str, writes: bool, commits: bool) -> None:
    assert Statement.of(text.encode()) == Statement(writes=writes, commits=commits)


CONVERSATION: list[Turn] = [
    ("client", SSL),
    ("server", b"N"),
    *HELLO,
    ("client", parse("s", INSERT) + message("D", b"Ss\0") + message("S")),
    ("server", message("1") + message("t", bytes(2)) + message("n") + ready("I")),
    ("server", NEWS),
    ("client", run("s")),
    ("server", message("2") + done("INSERT 0 1") + NEWS + ready("I")),
    ("client", query("BEGIN;")),
    ("server", done("BEGIN") + ready("T")),
    ("client", run("s")),
    ("server", message("2") + message("D", bytes(300)) + done("INSERT 0 1") + ready("T")),
    ("client", query("COMMIT;")),
    ("server", done("COMMIT") + ready("I") + NEWS),
    ("client", query("SELECT 1")),
    ("server", message("D", b"1") + done("SELECT 1") + ready("I")),
]
WHOLE = parts(CONVERSATION)


def test_the_conversation_is_understood_when_it_comes_whole() -> None:
    assert [part for part, _ in WHOLE] == [
        *(PLAIN, NOTIFICATION, MAY_COMMIT, NOTIFICATION, COMMITTED),
        *(PLAIN, MAY_COMMIT, COMMITTED, NOTIFICATION, PLAIN),
    ]


def test_it_does_not_matter_where_two_chunks_meet() -> None:
    for at, (who, data) in enumerate(CONVERSATION):
        for middle in range(1, len(data)):
            cut: list[Turn] = [(who, data[:middle]), (who, data[middle:])]
            assert parts([*CONVERSATION[:at], *cut, *CONVERSATION[at + 1 :]]) == WHOLE


def test_it_does_not_matter_if_every_byte_comes_alone() -> None:
    assert parts([(who, bytes([byte])) for who, data in CONVERSATION for byte in data]) == WHOLE


@given(st.data())
def test_it_does_not_matter_how_the_bytes_are_cut(data: st.DataObject) -> None:
    turns: list[Turn] = []
    for who, said in CONVERSATION:
        cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(said) - 1)), max_size=8)))
        turns += [(who, said[start:end]) for start, end in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    turns = [(who, said) for who, said in turns if said]
    assert parts(turns) == WHOLE
