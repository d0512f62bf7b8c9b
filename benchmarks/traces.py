"""What traces cost: CPU of all processes for an order, from its request to its end, with 10 % of them traced.

    python benchmarks/traces.py [--runs 3] [--seconds 10]

Prints a JSON line: milliseconds of CPU an order, traced, beside the same without. Needs wrk and `comanda[otel]`. Who
collects the traces is another process, and not counted.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from end_to_end import settle
from harness import ask, comanda_up, report, say, wrk

SAMPLED = "0.1"
MOST = 1.05
_SINK = """
import http.server
class Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@contextmanager
def collector() -> Iterator[str]:
    """Somebody who takes traces; the URL."""
    process = subprocess.Popen([sys.executable, "-c", _SINK], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def cpu_of_an_order(seconds: float) -> float:
    """Milliseconds, of everything that `comanda up` started."""
    with comanda_up("--workers", "1", GATEWAY="instant", MAX_BACKLOG="500000") as stand:
        wrk(stand, connections=16, seconds=2)
        settle(stand)
        before, were = sum(stand.cpu().values()), ask(stand, "SELECT count(*) AS n FROM orders")[0]["n"]
        wrk(stand, connections=16, seconds=seconds, pause_ms=20)
        settle(stand)
        used, placed = sum(stand.cpu().values()) - before, ask(stand, "SELECT count(*) AS n FROM orders")[0]["n"] - were
        traced = ask(stand, "SELECT count(*) AS n FROM sagas WHERE kind = 'order' AND traceparent IS NOT NULL")[0]["n"]
    say("cpu", orders=placed, ms_an_order=round(1000 * used / placed, 3), traced=traced)
    return float(1000 * used / placed)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=10)
    asked = arguments.parse_args()
    traced, plain = [], []
    with collector() as url:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": SAMPLED,
        }
        for _ in range(asked.runs):
            plain.append(cpu_of_an_order(asked.seconds))
            os.environ.update(variables)
            traced.append(cpu_of_an_order(asked.seconds))
            for name in variables:
                del os.environ[name]
    report(
        "traces", traced, plain, MOST, unit="ms of CPU an order", sampled=SAMPLED, reference="the same without traces"
    )


if __name__ == "__main__":
    main()
