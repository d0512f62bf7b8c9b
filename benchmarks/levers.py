"""What single settings are worth: orders accepted with each as it is, against the same with it otherwise.

    python benchmarks/levers.py [--runs 5] [--seconds 5] [--uvloop-site DIR]

Starts one Comanda as it is and one for each lever, and lets them accept orders at 64 connections in pairs, in turn,
with everybody else stopped. `lever_gc`: Python's own thresholds, and nothing frozen. `lever_vacuum`: PostgreSQL's own
moments to clean. `lever_uvloop`: another release, in the folder that `pip install --no-deps --target DIR uvloop==…`
filled. Prints a JSON line for each: more than 1, and what we have is faster. See docs/decisions/0020-levers.md.
"""

import argparse
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from end_to_end import EMPTY, settle
from harness import Stand, ask, comanda_up, nobody_working, report, say, wrk

# Put first on the path of all processes: what they ask of the collector is not done.
_OWN_GC = "import gc\ngc.freeze = gc.set_threshold = lambda *_: None\n"
_OWN_VACUUM = """
DO $$
DECLARE
    cleaned regclass;
BEGIN
    FOR cleaned IN SELECT oid FROM pg_class WHERE relkind = 'r' AND reloptions::text LIKE '%autovacuum%' LOOP
        EXECUTE format('ALTER TABLE %s RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor,
                                              autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay)', cleaned);
    END LOOP;
END $$
"""


@contextmanager
def stand(site: Path | None = None) -> Iterator[Stand]:
    """A Comanda whose processes look into this folder first."""
    before = os.environ.pop("PYTHONPATH", None)
    if site is not None:
        os.environ["PYTHONPATH"] = str(site)
    with comanda_up("--workers", "1", GATEWAY="instant", MAX_BACKLOG="500000") as started:
        os.environ.pop("PYTHONPATH", None)
        if before is not None:
            os.environ["PYTHONPATH"] = before
        yield started


def accepted(stand: Stand, seconds: float) -> float:
    """A second; nothing of it is left."""
    rate = wrk(stand, connections=64, seconds=seconds)["rate"]
    ask(stand, EMPTY)
    return rate


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=5)
    arguments.add_argument("--uvloop-site", type=Path)
    asked = arguments.parse_args()
    with ExitStack() as stack:
        own_gc = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (own_gc / "sitecustomize.py").write_text(_OWN_GC)
        ours = stack.enter_context(stand())
        others = {"gc": stack.enter_context(stand(own_gc)), "vacuum": stack.enter_context(stand())}
        ask(others["vacuum"], _OWN_VACUUM)
        if asked.uvloop_site is not None:
            others["uvloop"] = stack.enter_context(stand(asked.uvloop_site))
        for one in (ours, *others.values()):
            wrk(one, connections=64, seconds=2)
            settle(one)
            stack.enter_context(nobody_working(one))
        rates: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for number in range(1, asked.runs + 1):
            for name, other in others.items():
                # Who is first changes: what a run leaves to the next one, and the drift of the machine, cancel out.
                pair = [ours, other] if number % 2 else [other, ours]
                found = [accepted(one, asked.seconds) for one in pair]
                rates[name].append((found[0], found[1]) if number % 2 else (found[1], found[0]))
                say(f"run {number}: {name}", ours=round(rates[name][-1][0]), otherwise=round(rates[name][-1][1]))
    for name, pairs in rates.items():
        report(
            f"lever_{name}",
            [pair[0] for pair in pairs],
            [pair[1] for pair in pairs],
            1,
            connections=64,
            seconds=asked.seconds,
            reference="otherwise",
        )


if __name__ == "__main__":
    main()
