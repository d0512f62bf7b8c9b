"""How the console shows states, and says lines of a story."""

import ast
import inspect
from collections.abc import Iterator

import pytest

from comanda.bulk import filters
from comanda.console.render import _environment, lasted, tone, words_of
from comanda.saga import verbs
from comanda.sentences import Sentence


@pytest.mark.parametrize(
    ("state", "shown"),
    [("204", "good"), ("302", "bad"), ("503", "bad"), ("no answer", "bad"), ("CONFIRMED", "good"), ("later", "wait")],
)
def test_what_a_receiver_answered_is_shown_as_it_was_meant(state: str, shown: str) -> None:
    assert tone(state) == shown


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("order accepted", "pedido aceptado"),
        ("process_payment (undoing), attempt 3", "process_payment (deshaciendo), intento 3"),
        ("process_payment (undoing)", "process_payment (deshaciendo)"),
        ("OrderCreated → https://example.com/hook, attempt 1", "OrderCreated → https://example.com/hook, intento 1"),
        ("correlation 0198", "correlación 0198"),
        ("a customer wrote: attempt two, undoing it", "a customer wrote: attempt two, undoing it"),
    ],
)
def test_a_story_is_told_in_spanish_and_its_names_stay(line: str, said: str) -> None:
    assert _environment("es").filters["told"](line) == said
    assert _environment("en").filters["told"](line) == line


def test_a_text_turns_nobody_elses_direction() -> None:
    shown = _environment("en").from_string("{{ name }} <b>{{ sku }}</b>").render(name="\u202eCup\u2066 & co", sku="A")
    assert shown == "Cup &amp; co <b>A</b>"


def _refusals() -> Iterator[str]:
    """Every text of `verbs` that says why something is not done, as its pattern."""
    for node in ast.walk(ast.parse(inspect.getsource(verbs))):
        match node:
            case ast.Return(value=value) | ast.Assign(targets=[ast.Name(id="refusal")], value=value) if value:
                yield from (_texts(value))
            case ast.Call(func=ast.Name(id="Sentence" | "Acted")):
                yield from _texts(node)
            case _:
                pass


def _texts(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str) and ": " in one.value:
            yield one.value


def test_whatever_stands_in_the_way_of_an_act_is_said_in_spanish() -> None:
    found = {*_refusals(), "there is no such saga, and none of such an order or message"}
    assert len(found) > 12
    assert sorted(found - words_of("es").keys()) == []


@pytest.mark.parametrize(
    ("of", "asked"),
    [
        ("everything", {}), ("orders", {}), ("orders", {"queue": "a"}), ("orders", {"age": "-1"}),
        ("orders", {"state": "nearly"}), ("letters", {"queue": "nope"}),
    ],
)  # fmt: skip
def test_whatever_is_wrong_with_a_filter_is_said_in_spanish(of: str, asked: dict[str, str]) -> None:
    wrong = filters.read(of, asked)
    assert isinstance(wrong, str)
    assert (wrong.pattern if isinstance(wrong, Sentence) else wrong) in words_of("es")
    assert _environment("es").filters["said"](wrong) != wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stuck at pay (undoing)", "atascado en pay (deshaciendo)"),
        ("skip: stuck at pay (undoing) → RUNNING at one", "saltar: atascado en pay (deshaciendo) → en curso en one"),
        ("COMPLETED", "completado"),
        (
            Sentence("it has moved on since it was looked at, as {stood}: look again", stood="stuck at two (undoing)"),
            "ha avanzado desde que se miró, cuando estaba atascado en two (deshaciendo): vuelva a mirarlo",
        ),
        ("a customer wrote: stuck", "a customer wrote: stuck"),
    ],
)
def test_where_a_saga_stands_and_why_it_is_left_alone_is_said_in_the_pages_language(text: str, said: str) -> None:
    assert _environment("es").filters["said"](text) == said
    assert _environment("en").filters["said"](text) == text


@pytest.mark.parametrize(
    ("milliseconds", "english", "spanish"),
    [(None, "—", "—"), (0.04, "0 ms", "0 ms"), (271.84, "271.8 ms", "271,8 ms"), (100, "100 ms", "100 ms"),
     (1500, "1.5 s", "1,5 s"), (30_000, "30 s", "30 s"), (1_234_560, "1,234.56 s", "1.234,56 s")],
)  # fmt: skip
def test_a_duration_is_written_as_its_reader_writes_numbers(
    milliseconds: float | None, english: str, spanish: str
) -> None:
    assert (lasted(milliseconds, "en"), lasted(milliseconds, "es")) == (english, spanish)
