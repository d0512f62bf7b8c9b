"""How the console shows states, and says lines of a story."""

import pytest

from comanda.console.render import _environment, tone


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
