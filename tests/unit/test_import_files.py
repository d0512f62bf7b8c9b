"""Lines of files: both formats say the same; what can't be read is one line's trouble."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comanda.imports import files
from comanda.imports.files import MOST_OF_LINE, MOST_OF_RECORD, Format, Head, Line, Malformed
from comanda.imports.imports import File, Intake, Unreadable
from comanda.imports.lines import Kind, ProductLine, Rejection, StockLine, columns_of, judge
from comanda.imports.report import cells

# What a cell can say: no empty texts (they are left out), no tag with a bar in it, no letter that UTF-8 doesn't have.
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXT = st.text(LETTERS, min_size=1, max_size=20)
TAG = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0|"), min_size=1, max_size=5)
PRODUCT = st.fixed_dictionaries(
    {"sku": TEXT},
    optional={
        "name": TEXT,
        "price": st.integers(-1, 2**63),
        "description": TEXT,
        "tags": st.lists(TAG, min_size=1, max_size=3),
        # One of more digits than are read is no JSON at all: in a cell the field is refused, in NDJSON the line.
        "attributes": st.dictionaries(TEXT, st.integers(-(2**70), 2**70) | TEXT, max_size=2),
        "weight": st.integers(0, 9999).map(lambda grams: grams / 1000),
        "isActive": st.booleans(),
        "categoryId": st.uuids().map(str),
    },
)
STOCK = st.fixed_dictionaries(
    {"sku": TEXT, "quantity": st.integers(-5, 2**64)},
    optional={"location": TEXT, "mode": st.sampled_from(["set", "add", "sub"])},
)


def _cell(value: Any) -> str:
    match value:
        case str():
            return value
        case list():
            return "|".join(value)
        case _:
            return json.dumps(value)


def _written(rows: list[dict[str, Any]], columns: list[str]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([_cell(row[name]) if name in row else "" for name in columns] for row in rows)
    return out.getvalue().encode()


def _file(content: bytes, format_: Format, kind: Kind = "products", chunk: int = 7) -> File | Unreadable:
    intake = Intake(kind, format_, io.BytesIO())
    for at in range(0, len(content), chunk):
        intake.take(content[at : at + chunk])
    return intake.done()


def _lines(content: bytes, format_: Format, kind: Kind = "products", *, most: int = 3) -> list[Line]:
    """Batch by batch, as they are worked off."""
    file = _file(content, format_, kind, chunk=max(7, len(content) // 3))
    assert isinstance(file, File), file
    file.spool.seek(0)
    assert file.spool.read() == content
    at, number = file.begin, file.first
    found: list[Line] = []
    while at < len(content):
        window = content[at : at + 2 * MOST_OF_RECORD]
        is_last = at + len(window) == len(content)
        read = files.read(window, format_, file.columns, number=number, is_last=is_last, most=most)
        assert read.size > 0
        found += read.lines
        at, number = at + read.size, read.following
    assert number == file.lines + 1
    return found


def _said(line: Line, kind: Kind, format_: Format) -> Any:
    judged = judge(line, kind, format_)
    return (judged.field, judged.code) if isinstance(judged, Rejection) else judged


@pytest.mark.parametrize(("kind", "rows"), [("products", PRODUCT), ("stock", STOCK)])
def test_csv_and_ndjson_say_the_same(kind: Kind, rows: st.SearchStrategy[dict[str, Any]]) -> None:
    @given(st.lists(rows, min_size=1, max_size=8))
    def check(rows: list[dict[str, Any]]) -> None:
        from_csv = _lines(_written(rows, columns_of(kind)), "csv", kind)
        from_json = _lines("".join(json.dumps(row) + "\n" for row in rows).encode(), "ndjson", kind)
        assert [_said(one, kind, "csv") for one in from_csv] == [_said(one, kind, "ndjson") for one in from_json]
        for row, one in zip(rows, from_json, strict=True):
            if not isinstance(said := judge(one, kind, "ndjson"), Rejection):
                assert said.model_dump(by_alias=True, exclude_unset=True, mode="json") == row

    check()


def test_lines_are_numbered_as_they_lie_in_the_file() -> None:
    content = (
        b'\xef\xbb\xbfsku,name,price\r\n\r\nA,"two\r\nlines",1\r\nB,5" pipe,2\r\n'
        b"C,caf\xe9,3\r\nD,x\r\nE,nul\0,4\r\n\r\nF,last,5"
    )
    found = _lines(content, "csv")
    assert [(one.number, one.text.partition("\r")[0]) for one in found] == [
        (3, 'A,"two'), (5, 'B,5" pipe,2'), (6, "C,caf\ufffd,3"), (7, "D,x"), (8, "E,nul\ufffd,4"), (10, "F,last,5"),
    ]  # fmt: skip
    judged = [judge(one, "products", "csv") for one in found]
    assert [one.name for one in judged if isinstance(one, ProductLine)] == ["two\r\nlines", '5" pipe', "last"]
    assert [(one.line, one.field, one.code) for one in judged if isinstance(one, Rejection)] == [
        (6, "", "INVALID_ENCODING"), (7, "", "MALFORMED_LINE"), (8, "name", "VALIDATION_FAILED"),
    ]  # fmt: skip


@pytest.mark.parametrize("after", [1, 99, 101, 5000])
def test_a_quote_that_does_not_end_costs_its_own_line(after: int) -> None:
    content = b'sku,name\nA,"x\n' + b"".join(b"B%d,y\n" % number for number in range(after))
    found = _lines(content, "csv", most=500)
    assert [one.number for one in found] == list(range(2, after + 3))
    assert isinstance(found[0].values, Malformed)
    assert not any(isinstance(one.values, Malformed) for one in found[1:])


@pytest.mark.parametrize("format_", ["csv", "ndjson"])
def test_large_files_are_read_window_by_window(format_: Format) -> None:
    rows = [{"sku": f"{number}", "description": "x" * (number * 997 % 90_000)} for number in range(60)]
    content = _written(rows, ["sku", "description"]) if format_ == "csv" else b""
    content = content or "".join(json.dumps(row) + "\n" for row in rows).encode()
    assert len(content) > 4 * MOST_OF_RECORD
    found = _lines(content, format_, most=500)
    assert [one.values["sku"] for one in found if not isinstance(one.values, Malformed)] == [row["sku"] for row in rows]


@pytest.mark.parametrize(
    "text",
    [
        '{"sku": "A", "sku": "B"}',
        '{"sku": NaN}',
        "[1]",
        "7",
        "{",
        '{"sku": ' + "[" * 20_000,
        "{'sku': 1}",
        '{"price": ' + "1" * 26 + "}",
    ],
)
def test_what_only_looks_like_json_is_rejected(text: str) -> None:
    (one,) = _lines(text.encode(), "ndjson")
    assert isinstance(one.values, Malformed)
    assert one.values.code == "MALFORMED_LINE"


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"sku,colour,name\nA,red,x\n", [("colour", "There is no such column. There are: ")]),
        (b"sku;name\nA;x\n", [("sku;name", "There is no such column"), ("sku", "This column is needed")]),
        (b"sku,sku\nA,B\n", [("sku", "This column stands twice")]),
        (b"name\nx\n", [("sku", "This column is needed")]),
        (b"", [("", "There is no header")]),
        (b"\r\n\r\n", [("", "There is no header")]),
        (b"sku,name\n", [("", "There are no lines in it")]),
        (b"sk\xff,name\nA,x\n", [("", "The header is not UTF-8")]),
        (b"sku,name\rA,x\r", [("", "The header can't be read")]),
        (b"sku,name\nA,x\nB," + b"y" * MOST_OF_LINE + b"\n", [("", f"Line 3 is longer than {MOST_OF_LINE} bytes")]),
    ],
)
@pytest.mark.parametrize("chunk", [7, 2**20])
def test_a_file_that_is_none_is_refused_as_a_whole(content: bytes, wrong: list[tuple[str, str]], chunk: int) -> None:
    file = _file(content, "csv", chunk=chunk)
    assert isinstance(file, Unreadable)
    assert [column for column, _ in file.wrong] == [column for column, _ in wrong]
    for (_, said), (_, expected) in zip(file.wrong, wrong, strict=True):
        assert said.startswith(expected)


def test_a_header_names_what_there_is() -> None:
    found = files.head(b"sku,name\n", "csv", is_whole=True)
    assert found == Head(["sku", "name"], 9, 2)


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"sku": "A", "price": "12.50"}, "price", "A whole number is needed"),
        ({"sku": "A", "isActive": "yes"}, "isActive", "true or false is needed"),
        ({"sku": "A", "attributes": "{]"}, "attributes", "An object is needed"),
        ({"sku": "A", "weight": "1e3"}, "weight", "A number is needed"),
        ({"name": "x", "price": "x"}, "price", "A whole number is needed; sku: This field is required"),
    ],
)
def test_a_rejection_says_what_is_wrong(values: dict[str, str], field: str, message: str) -> None:
    said = judge(Line(2, "…", values), "products", "csv")
    assert isinstance(said, Rejection)
    assert (said.line, said.text, said.field, said.message) == (2, "…", field, message)


@pytest.mark.parametrize("sku", [" A", "A ", "A\n", "\tA", "A\nB", "A\r\nB", "A\u2028B"])
@pytest.mark.parametrize("kind", ["products", "stock"])
def test_a_sku_is_one_line_without_white_space_at_its_ends(kind: Kind, sku: str) -> None:
    said = judge(Line(2, "…", {"sku": sku, "quantity": 1}), kind, "ndjson")
    assert isinstance(said, Rejection)
    assert "This has to be one line without white space at its ends" in said.message


def test_stock_is_set_unless_it_is_added() -> None:
    said = judge(Line(2, "", {"sku": "A", "quantity": "5"}), "stock", "csv")
    assert said == StockLine(sku="A", location="MAIN", quantity=5, mode="set")
    refused = judge(Line(2, "", {"sku": "A", "quantity": "-5"}), "stock", "csv")
    assert isinstance(refused, Rejection)
    assert isinstance(judge(Line(2, "", {"sku": "A", "quantity": "-5", "mode": "add"}), "stock", "csv"), StockLine)


@pytest.mark.parametrize("text", ["=cmd()", "+1", "-1", "@x", "\tx"])
def test_a_report_holds_no_formula(text: str) -> None:
    assert cells(Rejection(2, text, "", "MALFORMED_LINE", "x"))[-1] == f"'{text}"
    assert cells(Rejection(2, f"x{text}", "", "MALFORMED_LINE", "x"))[-1] == f"x{text}"
