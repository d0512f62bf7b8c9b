"""However a process of ours ends, its log stays lines of JSON."""

import asyncio
import json
import sys

import pytest

FAULT = 'DatabaseFault("PostgreSQL does not answer")'
ENDING = """
from comanda.cli import processes
from comanda.errors import DatabaseFault
from comanda.settings import Settings

with processes.process(Settings(), "relay"):
    raise {raised}
"""


async def _ended(raised: str) -> tuple[int | None, list[dict[str, str]]]:
    """The exit code and the lines of a process that ends like this."""
    ending = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ENDING.format(raised=raised), stderr=asyncio.subprocess.PIPE
    )
    _, printed = await ending.communicate()
    return ending.returncode, [json.loads(line) for line in printed.splitlines()]


@pytest.mark.parametrize("raised", [FAULT, f'ExceptionGroup("tasks", [{FAULT}])'])
async def test_a_fault_is_one_line_and_its_exit_code(raised: str) -> None:
    code, (line,) = await _ended(raised)
    assert (code, line["level"], line["error"]) == (4, "error", "PostgreSQL does not answer")


async def test_a_defect_is_one_line_with_its_traceback() -> None:
    code, (line,) = await _ended('ExceptionGroup("tasks", [KeyError("one"), ValueError("two")])')
    assert (code, line["level"]) == (1, "critical")
    assert "KeyError: 'one'" in line["exception"]
    assert "ValueError: two" in line["exception"]
