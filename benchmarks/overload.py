"""More orders than can be finished: what is finished meanwhile, how soon the others are refused, and what is lost.

    python benchmarks/overload.py [--seconds 20] [--runs 3] [--rate N]

Offers 1.5 and 3 times the best sustained rate, with a backlog of several seconds' work (COMANDA_MAX_BACKLOG). A probe
asks twenty times a second beside the load and times its refusals. Prints a JSON line for each: goodput, which is what
is confirmed a second from the moment on when the backlog is full, against the best rate seen in the same run.

A phase that offered too little, or refused nothing, is no overload: in the first run it is repeated with shorter
pauses, then with more connections, and where that is of no use the row says so. Every order that was answered 202, to
wrk or to the probe, is looked up by its id once all has settled; and no more may be there than were answered, but for
those asked for when wrk hung up.
"""

import argparse
import asyncio
import json
import resource
import statistics
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import aiohttp
from end_to_end import CONNECTIONS, PARTS, best_rate, offered, reference, settle
from harness import Stand, ask, comanda_up, report, say, wrk

REFUSED_WITHIN = 50  # ms
TIMES = (1.5, 3.0)
ENOUGH = 14 / 15  # of the load that was meant: 1.4 and 2.8 times
COUNTED = 0.25  # of a phase at least, for a rate that can be believed
REPEATS = 2  # of a phase that was no overload, in the first run
MORE = 1.1  # asks for so much more than what is needed
COUNT = "SELECT count(*) FILTER (WHERE state = 'CONFIRMED') AS confirmed, count(*) AS placed FROM orders"
OF_TOLD = (
    "SELECT count(*) FILTER (WHERE orders.id IS NULL) AS lost,"
    " count(*) FILTER (WHERE orders.id IS NOT NULL AND orders.ended_at IS NULL) AS unended"
    " FROM unnest($1::uuid[]) AS told (id) LEFT JOIN orders USING (id)"
)
Figures = dict[str, float]


@dataclass
class Probe:
    """Single requests beside the load, as a customer sees them: ms of each refusal, and what was accepted."""

    refusals: list[float] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)

    async def ask(self, stand: Stand, stop: threading.Event) -> None:
        """Twenty times a second, until told to stop."""
        headers = {"Authorization": f"Bearer {stand.token}"}
        body = {"items": [{"productId": stand.products[0], "quantity": 1}]}

        async def ask_once(session: aiohttp.ClientSession) -> None:
            began = time.monotonic()
            key = {"Idempotency-Key": str(uuid.uuid4())}
            async with session.post(f"{stand.api}/api/v1/orders", json=body, headers={**headers, **key}) as answer:
                said = await answer.read()
            if answer.status == 503:
                self.refusals.append((time.monotonic() - began) * 1000)
            elif answer.status == 202:
                self.accepted.append(json.loads(said)["orderId"])

        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as asking:
            while not stop.is_set():
                asking.create_task(ask_once(session))
                await asyncio.sleep(0.05)


def overloaded(stand: Stand, rate: float, seconds: float, connections: int) -> Figures:
    """Offer this rate: confirmed a second from the moment on when the backlog is full, and what the probe saw."""
    probe, stop = Probe(), threading.Event()
    told = stand.folder / "told"
    told.write_text("")
    pause = max(1, round(1000 * connections / rate))
    before, used = ask(stand, COUNT)[0], stand.cpu()
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        load = pool.submit(wrk, stand, connections=connections, seconds=seconds, pause_ms=pause, told=told)
        probing = pool.submit(asyncio.run, probe.ask(stand, stop))
        try:
            full, full_at = _when_full(stand, probe, load) or (before, began)
            run = load.result()
        finally:
            stop.set()
        probing.result()
    after, ended_at = ask(stand, COUNT)[0], time.monotonic()
    cpu = stand.cpu().items()
    say("  CPU, cores", **{name: round((spent - used[name]) / (ended_at - began), 2) for name, spent in cpu})
    settle(stand)
    placed = ask(stand, COUNT)[0]["placed"] - before["placed"]
    answered = [*told.read_text().split(), *probe.accepted]
    found = ask(stand, OF_TOLD, answered)[0]
    refusals = sorted(probe.refusals)
    return {
        "goodput": (after["confirmed"] - full["confirmed"]) / (ended_at - full_at),
        "counted_seconds": ended_at - full_at,
        "offered": run["requests"] / run["seconds"],
        "connections": float(connections),
        "refused": run["non2xx"] / run["seconds"],
        "refusal_p50_ms": statistics.median(refusals) if refusals else 0.0,
        "refusal_p99_ms": refusals[int(len(refusals) * 0.99)] if refusals else 0.0,
        "answered": float(len(answered)),
        "lost": float(found["lost"]),
        "unended": float(found["unended"]),
        "unanswered": float(placed - (len(answered) - found["lost"])),
    }


def _when_full(stand: Stand, probe: Probe, load: "Future[Figures]") -> tuple[Figures, float] | None:
    """What had been confirmed when the first was refused, and when that was; None: nobody was."""
    while not probe.refusals:
        if wait([load], timeout=0.05).done:
            return None
    return ask(stand, COUNT)[0], time.monotonic()


@dataclass
class Load:
    """How hard a phase pushes to offer what it should: wrk's connections wait for answers between their pauses."""

    connections: int = CONNECTIONS
    push: float = 1.0
    repeats: int = 0

    def raise_by(self, missing: float) -> None:
        self.push *= min(2.0, max(1.0, missing) * MORE)
        if self.repeats:
            self.connections *= 2
        self.repeats += 1


def is_overload(found: Figures, times: float, best: float, seconds: float) -> bool:
    is_full = found["refused"] > 0 and found["counted_seconds"] >= COUNTED * seconds
    return is_full and found["offered"] >= ENOUGH * times * best


def told(runs: Sequence[Figures], times: float, best: Sequence[float], seconds: float) -> dict[str, float | str]:
    """A row's conditions: the worst of what must not be, medians of the others, and whether this was an overload."""
    worst = ("refusal_p99_ms", "lost", "unended", "unanswered")
    said: dict[str, float | str] = {
        name: round(max(values) if name in worst else statistics.median(values), 1)
        for name in runs[0]
        if name != "goodput" and (values := [one[name] for one in runs])
    }
    said["offered_times"] = round(min(one["offered"] / rate for one, rate in zip(runs, best, strict=True)), 2)
    if not all(is_overload(one, times, rate, seconds) for one, rate in zip(runs, best, strict=True)):
        said["load"] = f"less than the {times:g} times that were meant"
    return said


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=20)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--backlog", type=int, default=4000)
    arguments.add_argument("--rate", type=float, help="the best sustained rate, where it is known")
    asked = arguments.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    runs: dict[float, list[Figures]] = {times: [] for times in TIMES}
    best: list[float] = []
    loads = {times: Load() for times in TIMES}
    bad: list[str] = []
    with comanda_up("--workers", "1", GATEWAY="instant", MAX_BACKLOG=str(asked.backlog)) as stand:
        wrk(stand, connections=16, seconds=3, pause_ms=50)
        settle(stand)
        rate = asked.rate or best_rate(stand, [reference(stand, 5) * part for part in PARTS])
        for _ in range(asked.runs):
            seen = [offered(stand, rate, asked.seconds)["confirmed"]]
            for times, found in runs.items():
                load, tried = loads[times], list[Figures]()
                while True:
                    one = overloaded(stand, load.push * times * max(rate, *seen), asked.seconds, load.connections)
                    tried.append(one)
                    say(f"{times} x {rate:.0f}/s", **{name: round(value, 1) for name, value in one.items()})
                    if one["lost"] or one["unended"] or one["unanswered"] > one["connections"]:
                        bad.append(json.dumps(one))
                    if one["counted_seconds"] >= COUNTED * asked.seconds:
                        seen.append(one["goodput"])
                    if is_overload(one, times, max(seen), asked.seconds) or found or load.repeats == REPEATS:
                        break
                    load.raise_by(times * max(seen) / one["offered"])
                found.append(
                    max(tried, key=lambda one: (is_overload(one, times, max(seen), asked.seconds), one["offered"]))
                )
            best.append(max(seen))
    for times, found in runs.items():
        report(
            f"overload_{times:g}", [one["goodput"] for one in found], best, 0.9,
            {"refusal_p99_ms": REFUSED_WITHIN, "lost": 0, "unended": 0},
            **told(found, times, best, asked.seconds), repeated=loads[times].repeats,
            refused_within_ms=REFUSED_WITHIN, backlog=asked.backlog, seconds=asked.seconds,
            reference="the best rate of the same run",
        )  # fmt: skip
    if bad:
        raise SystemExit("accepted and lost, not ended, or placed without an answer:\n" + "\n".join(bad))


if __name__ == "__main__":
    main()
