"""Proof that the suite can fail: the code is broken on purpose, in one place at a time, and tests have to notice.

`make mutants`, or `python tests/mutants.py WORD …` for those whose names hold one of the words. Each mutant gets a copy
of the code in a folder that is deleted afterwards. Ends with 1 when a mutant survives, or proves nothing.
"""

import argparse
import asyncio
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from comanda.engines import postgres, valkey
from mutations import ALL, Mutant

ROOT = Path(__file__).parents[1]
COPIED = ("src", "tests", "migrations", "pyproject.toml", "README.md", "docs")
PATIENCE = 240.0  # seconds that the tests of one mutant may take
_FAILED = re.compile(r"^FAILED \S*?(?:::(\S+))?(?: - .*)?$", re.MULTILINE)
_FAILURE, _SUCCESS = 1, 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant. `is_killed` and `detail`: the test that failed, or what was wrong."""

    name: str
    is_killed: bool
    seconds: float
    detail: str


class Unfit(Exception):
    """A mutant that can't be made."""


def mutated(text: str, mutant: Mutant) -> str:
    """The file's text with the change.

    Raises:
        Unfit: what is to be changed does not stand there exactly once.
    """
    if (count := text.count(mutant.text)) != 1:
        raise Unfit(f"its text stands {count} times in {mutant.file}")
    return text.replace(mutant.text, mutant.instead)


def copied(folder: Path, mutant: Mutant | None) -> None:
    """The code in `folder`, changed."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    if mutant is not None:
        file = folder / "src" / "comanda" / mutant.file
        file.write_text(mutated(file.read_text(), mutant))


async def run_tests(folder: Path, tests: Iterable[str], lane: int, servers: dict[str, str]) -> tuple[int, str]:
    """The exit code of these tests on the code in `folder`, and what they said."""
    # As a worker of xdist would: `lane` says which databases are its own.
    environment = {**os.environ, **servers, "PYTHONPATH": str(folder / "src"), "PYTEST_XDIST_WORKER": f"gw{lane}"}
    options = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", *options, *tests,
        cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return -1, f"not done within {PATIENCE:.0f} s"
    return process.returncode or 0, said.decode(errors="replace")


async def judged(mutant: Mutant, lane: int, servers: dict[str, str]) -> Verdict:
    """Whether its killers notice it. Only a test that failed counts: not one that could not even begin."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="comanda-mutant-") as name:
        folder = Path(name)
        try:
            await asyncio.to_thread(copied, folder, mutant)
        except Unfit as fault:
            return Verdict(mutant.name, is_killed=False, seconds=0, detail=str(fault))
        code, said = await run_tests(folder, mutant.killers, lane, servers)
    failed = _FAILED.search(said)
    is_killed = code == _FAILURE and failed is not None
    detail = (failed and failed.group(1)) or (
        "SURVIVED" if code == _SUCCESS else f"pytest ended with {code}: {said[-300:]}"
    )
    return Verdict(mutant.name, is_killed, time.monotonic() - begun, detail)


async def all_judged(mutants: Sequence[Mutant], jobs: int, console: Console) -> list[Verdict] | None:
    """Each of them, so many at a time, on one pair of servers; None: the killers fail on the code as it is."""
    with tempfile.TemporaryDirectory(prefix="comanda-mutants-") as name:
        database = await postgres.start(Path(name) / "postgres")
        redis = await valkey.start(Path(name) / "valkey")
        servers = {"COMANDA_DATABASE_URL": database.url, "COMANDA_REDIS_URL": redis.url}
        lanes: asyncio.Queue[int] = asyncio.Queue()
        for lane in range(jobs):
            lanes.put_nowait(lane)

        async def one(mutant: Mutant) -> Verdict:
            lane = await lanes.get()
            try:
                verdict = await judged(mutant, lane, servers)
            finally:
                lanes.put_nowait(lane)
            console.print(
                f"{'killed' if verdict.is_killed else '[red]NOT KILLED[/red]'}  {verdict.name}", highlight=False
            )
            return verdict

        try:
            killers = sorted({killer for mutant in mutants for killer in mutant.killers})
            begun = time.monotonic()
            code, said = await run_tests(ROOT, killers, 0, servers)
            if code != _SUCCESS:
                console.print(f"On the code as it is, the tests that are to notice mutants fail:\n{said}", markup=False)
                return None
            console.print(f"{len(killers)} tests pass on the code as it is ({time.monotonic() - begun:.0f} s)")
            return await asyncio.gather(*(one(mutant) for mutant in mutants))
        finally:
            await redis.stop()
            await database.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only the mutants whose names hold one of these")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    asked = parser.parse_args()
    mutants = [one for one in ALL if not asked.words or any(word in one.name for word in asked.words)]
    console = Console()
    begun = time.monotonic()
    verdicts = asyncio.run(all_judged(mutants, asked.jobs, console))
    if verdicts is None:
        return 1
    table = Table("mutant", "", "s", "noticed by")
    for one in verdicts:
        table.add_row(one.name, "killed" if one.is_killed else "[red]SURVIVED[/red]", f"{one.seconds:.1f}", one.detail)
    console.print(table)
    killed = sum(one.is_killed for one in verdicts)
    console.print(f"{killed} of {len(verdicts)} mutants were killed in {time.monotonic() - begun:.0f} s")
    return 0 if verdicts and killed == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
