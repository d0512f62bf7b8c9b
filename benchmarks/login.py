"""What a wrong password costs whose account is known, against one of nobody: over HTTP, in turn.

    python benchmarks/login.py [--samples 200]

Prints one JSON line: medians in ms of known and of unknown accounts, and their ratio, which should tell nobody who is
known. Each guess has an address of its own, so that none is slowed down.
"""

import argparse
import json
import random
import statistics
import time
import urllib.error
import urllib.request
from uuid import uuid4

from harness import Stand, comanda_up, report, say

WARM = 10  # of each, not counted: the first ones open connections and fill caches


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--samples", type=int, default=200, help="of known and of unknown accounts together")
    asked = arguments.parse_args()
    each = asked.samples // 2
    # Signed in to through a proxy that is believed: the address of each guess is what it says.
    with comanda_up("--workers", "1", GATEWAY="instant", TRUSTED_PROXIES="127.0.0.0/8") as stand:
        known = [registered(stand) for _ in range(WARM + each)]
        took: dict[bool, list[float]] = {True: [], False: []}
        for number, email in enumerate(known):
            # By lot, which of the two comes first: what drifts must not look like a difference.
            for is_known in random.sample([True, False], 2):
                address = f"10.{int(is_known)}.{number // 256}.{number % 256}"
                spent = guess(stand, email if is_known else f"{uuid4().hex}@example.com", address)
                if number >= WARM:
                    took[is_known].append(spent)
    medians = {is_known: statistics.median(spent) for is_known, spent in took.items()}
    say("medians in ms", known=round(medians[True], 2), unknown=round(medians[False], 2))
    # One ratio of two medians: pairs drift apart on a busy machine.
    report(
        "login", [medians[True]], [medians[False]], 1, unit="ms, median", samples=2 * each,
        reference="an unknown account",
    )  # fmt: skip


def registered(stand: Stand) -> str:
    email = f"{uuid4().hex}@example.com"
    person = {"email": email, "password": "benchmark-password", "firstName": "Ana", "lastName": "Ruiz"}
    stand.call("POST", "/auth/register", person)
    return email


def guess(stand: Stand, email: str, address: str) -> float:
    """Milliseconds until a wrong password is refused."""
    request = urllib.request.Request(
        f"{stand.api}/api/v1/auth/login",
        data=json.dumps({"email": email, "password": "a wrong one"}).encode(),
        headers={"Content-Type": "application/json", "X-Forwarded-For": address},
    )
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=30):
            raise SystemExit("a wrong password was taken")
    except urllib.error.HTTPError as refused:
        refused.read()
        if refused.code != 401:
            raise SystemExit(f"it was answered {refused.code}, not 401") from None
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
