"""What operators and customers wrote is shown as it was written: it is neither markup nor a command to the terminal."""

import pytest
import typer

from comanda.cli import terminal
from comanda.clock import now


@pytest.mark.parametrize("written", ["see [/foo]", "[red]x[/red]", "a [link=http://x]b[/link]"])
def test_markup_is_shown_as_it_was_written(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show([{"reason": written}], {"reason": "because"}, json=False, empty="")
    assert written in capsys.readouterr().out


def test_no_escape_sequence_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show([{"reason": "\x1b[2Jgone\x07\r\nnext"}], {"reason": "because"}, json=False, empty="")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "gone" in shown


def test_numbers_and_names_are_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"step": "confirm_reservation", "ms": 4.894486904144287, "at": now(), "said": "x" * 60}
    terminal.show([row], {"step": "step", "ms": "ms", "at": "at", "said": "said"}, json=False, empty="")
    assert "confirm_reservation  4.9" in " ".join(capsys.readouterr().out.split("\n"))


@pytest.mark.parametrize("reason", ["\udcff bad", "nul\0", "x" * 1001])
def test_a_reason_that_can_not_be_kept_is_refused(reason: str) -> None:
    with pytest.raises(typer.BadParameter):
        terminal._said(reason)
