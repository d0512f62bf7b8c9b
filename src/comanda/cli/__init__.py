"""The command line. Data goes to stdout, everything else to stderr.

Exit codes: 0 fine, 1 failed, 2 usage, 3 invariant broken, 4 dependency down.
"""

import errno
import gc
import os
import sys

from rich.console import Console

from comanda.errors import Fault


def main() -> None:
    """Run a command; a fault is one clear sentence and its exit code."""
    # What is loaded lives for ever, and what a batch makes is freed by its reference counts: look for garbage rarely.
    gc.set_threshold(50_000, 20, 50)
    # Both after the interpreter has a console to complain on.
    from comanda.cli.commands import app  # noqa: PLC0415

    if not any(sys.argv[1:2] == [command.name] for command in app.registered_commands):
        # What the operator's commands load would make each process of `comanda up` start half a second later.
        from comanda.cli import table  # noqa: F401, PLC0415

    try:
        "".join(sys.argv).encode()
    except UnicodeEncodeError:
        Console(stderr=True).print("An argument is no UTF-8 text.", style="bold red")
        sys.exit(2)
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as full:
        if full.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it is tried once more at the end
        Console(stderr=True).print(f"The output can't be written: {full.strerror}.", style="bold red")
        sys.exit(1)
    except Fault as fault:
        Console(stderr=True).print(str(fault), style="bold red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(fault.exit_code)
