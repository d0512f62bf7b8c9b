"""More orders than can be finished: what is finished meanwhile, how soon the others are refused, and what is lost.

    python benchmarks/overload.py [--seconds 40] [--runs 2] [--rate N]

Offers 1.5 and 3 times the best sustained rate, with a backlog of ten seconds' work (COMANDA_MAX_BACKLOG). A probe asks
twenty times a second beside the load and times its refusals. Prints a JSON line for each: goodput against the best rate
in the same run.
"""

import argparse
import asyncio
import json
import statistics
import threading
import time
import uuid

import aiohttp
from end_to_end import CONNECTIONS, PARTS, best_rate, offered, reference, settle
from harness import Stand, ask, comanda_up, report, say, wrk

REFUSED_WITHIN = 50  # ms
COUNT = "SELECT count(*) FILTER (WHERE state = 'CONFIRMED') AS confirmed, count(*) AS placed FROM orders"


async def probed(stand: Stand, stop: threading.Event) -> list[tuple[int, float]]:
    """Status and ms of single requests beside the load, as a customer sees them."""
    seen: list[tuple[int, float]] = []
    headers = {"Authorization": f"Bearer {stand.token}"}
    body = {"items": [{"productId": stand.products[0], "quantity": 1}]}

    async def ask_once(session: aiohttp.ClientSession) -> None:
        began = time.monotonic()
        key = {"Idempotency-Key": str(uuid.uuid4())}
        async with session.post(f"{stand.api}/api/v1/orders", json=body, headers={**headers, **key}) as answer:
            await answer.read()
            seen.append((answer.status, (time.monotonic() - began) * 1000))

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as asking:
        while not stop.is_set():
            asking.create_task(ask_once(session))
            await asyncio.sleep(0.05)
    return seen


def overloaded(stand: Stand, rate: float, seconds: float) -> dict[str, float]:
    """Offer this rate: confirmed a second from the moment on when the backlog is full, and what the probe saw."""
    load: dict[str, float] = {}
    seen: list[tuple[int, float]] = []
    stop = threading.Event()
    pause = max(1, round(1000 * CONNECTIONS / rate))
    before, used = ask(stand, COUNT)[0], stand.cpu()
    threads = [
        threading.Thread(
            target=lambda: load.update(wrk(stand, connections=CONNECTIONS, seconds=seconds, pause_ms=pause))
        ),
        threading.Thread(target=lambda: seen.extend(asyncio.run(probed(stand, stop)))),
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    threads[0].join()
    stop.set()
    threads[1].join()
    after, lasted = ask(stand, COUNT)[0], time.monotonic() - began
    say("  CPU, cores", **{name: round((spent - used[name]) / lasted, 2) for name, spent in stand.cpu().items()})
    settle(stand)
    ended = ask(stand, COUNT)[0]
    accepted = load["requests"] - load["non2xx"] + sum(status == 202 for status, _ in seen)
    refusals = sorted(took for status, took in seen if status == 503)
    return {
        "goodput": (after["confirmed"] - before["confirmed"]) / lasted,
        "offered": load["requests"] / load["seconds"],
        "refused": load["non2xx"] / load["seconds"],
        "refusal_p50_ms": statistics.median(refusals) if refusals else 0.0,
        "refusal_p99_ms": refusals[int(len(refusals) * 0.99)] if refusals else 0.0,
        "lost": max(0.0, accepted - (ended["placed"] - before["placed"])),
        "unended": float(ended["placed"] - before["placed"] - (ended["confirmed"] - before["confirmed"])),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=40)
    arguments.add_argument("--runs", type=int, default=2)
    arguments.add_argument("--backlog", type=int, default=4000)
    arguments.add_argument("--rate", type=float, help="the best sustained rate, where it is known")
    asked = arguments.parse_args()
    runs: dict[float, list[dict[str, float]]] = {1.5: [], 3.0: []}
    best: list[float] = []
    with comanda_up("--workers", "1", GATEWAY="instant", MAX_BACKLOG=str(asked.backlog)) as stand:
        wrk(stand, connections=16, seconds=3, pause_ms=50)
        settle(stand)
        rate = asked.rate or best_rate(stand, [reference(stand, 5) * part for part in PARTS])
        for _ in range(asked.runs):
            best.append(offered(stand, rate, asked.seconds)["confirmed"])
            settle(stand)
            for times, found in runs.items():
                found.append(overloaded(stand, times * rate, asked.seconds))
                say(f"{times} x {rate:.0f}/s", **{name: round(value, 1) for name, value in found[-1].items()})
    for times, found in runs.items():
        report(
            f"overload_{times:g}", [one["goodput"] for one in found], best, 0.9,
            **{name: round(statistics.median(one[name] for one in found), 1) for name in found[0] if name != "goodput"},
            refused_within_ms=REFUSED_WITHIN, backlog=asked.backlog, reference="the best sustained rate",
        )  # fmt: skip
    lost = [json.dumps(one) for found in runs.values() for one in found if one["lost"] or one["unended"]]
    if lost:
        raise SystemExit("accepted and lost, or not ended:\n" + "\n".join(lost))


if __name__ == "__main__":
    main()
