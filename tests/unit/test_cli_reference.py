"""The command line is what docs/cli.md says that it is."""

import msgspec
import pytest
from typer.core import TyperCommand

import promql
from comanda.cli import reference, shapes, terminal

PAGE = promql.ROOT / "docs" / "cli.md"
COMMANDS = dict(reference.commands())


def test_the_page_is_made_of_the_commands() -> None:
    assert PAGE.read_text() == reference.page(), "python -m comanda.cli.reference > docs/cli.md"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_that_prints_has_json_and_its_shape(name: str) -> None:
    command: TyperCommand = COMMANDS[name]
    has_json = "--json" in {option for one in command.params for option in one.opts}
    assert has_json == (name not in shapes.SILENT)
    assert has_json == (name in shapes.OF), "comanda.cli.shapes says what it prints"
    assert command.help
    assert f"## comanda {name}\n" in PAGE.read_text()


def test_no_shape_is_of_a_command_that_is_not_there() -> None:
    assert shapes.OF.keys() <= COMMANDS.keys()
    assert COMMANDS.keys() >= shapes.SILENT


def test_only_the_fields_of_a_shape_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"queue": "q", "limit": None, "paused": True, "a_column_of_tomorrow": 1}
    terminal.show([row], {}, json=True, empty="", line=shapes.Switch)
    assert msgspec.json.decode(capsys.readouterr().out) == {"queue": "q", "limit": None, "paused": True}
    terminal.show([{"waits_until": None, "isActive": 1}], {}, json=True, empty="")
    assert msgspec.json.decode(capsys.readouterr().out) == {"waitsUntil": None, "isActive": 1}


@pytest.mark.parametrize(("width", "below"), [(200, []), (80, ["note"])])
def test_on_a_narrow_terminal_what_does_not_fit_stands_below(width: int, below: list[str]) -> None:
    columns = {"id": "saga", "state": "state", "note": "last said"}
    row = {"id": "0" * 36, "state": "COMPENSATION_FAILED", "note": "the gateway does not answer " * 3}
    cells = {name: [terminal._cell(row[name])] for name in columns}
    shown, left = terminal._fitting(columns, cells, width)
    assert left == below
    assert [*shown, *left] == list(columns)


def test_a_narrow_terminal_shows_every_value_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "80", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    columns = {"id": "saga", "state": "state", "step": "step", "direction": "", "note": "last said"}
    row = {"id": "0" * 36, "state": "COMPENSATION_FAILED", "step": "process_payment", "direction": "backward"}
    terminal.show([row | {"note": "the gateway does not answer"}], columns, json=False, empty="")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["0" * 36, "COMPENSATION_FAILED", "process_payment"]
    assert all(len(one) <= 80 for one in lines), lines
    assert " ".join(lines[1].split()) == "direction backward last said the gateway does not answer"
    assert len(lines) == 2
