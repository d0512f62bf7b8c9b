"""The command line. Data goes to stdout, everything else to stderr.

Exit codes: 0 fine, 1 failed, 2 usage, 3 invariant broken, 4 dependency down.
"""

import sys

from rich.console import Console

from comanda.errors import Fault


def main() -> None:
    """Run a command; a fault is one clear sentence and its exit code."""
    from comanda.cli.commands import app  # noqa: PLC0415 - after the interpreter has a console to complain on

    try:
        app()
    except Fault as fault:
        Console(stderr=True).print(str(fault), style="bold red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(fault.exit_code)
