"""Lines of the log: one for an event, whole, whoever speaks, with nothing in them that is nobody's business."""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from comanda import telemetry

SPEAKS = """
import logging, os, signal, sys, threading
from pathlib import Path
from comanda import telemetry
telemetry.configure(level="info", directory=Path(sys.argv[1]), process="worker-7")
log = telemetry.log("saga")
with telemetry.correlated("ticket-1"):
    log.info("first\\nand second line", email="ana@example.com", userId="u-1")
    try:
        raise OSError("postgresql://ana:s3cret@db.example.com/shop is away")  # pragma: allowlist secret
    except OSError:
        log.exception("failed", shipping_address={"street": "Calle Mayor 1"})
deep = {"who": [{"Email": "ana@example.com"}, "ana@example.com"], "phone_number": "+34 600"}
log.warning("deep", deep=deep, error=OSError("redis://:s3cret@cache is away"))  # pragma: allowlist secret
logging.getLogger("library").warning("a library says %s", "Bearer abc.def")
other = threading.Thread(target=lambda: logging.getLogger("library").error("from another thread"))
other.start(); other.join()
for n in range(1000):
    log.info("one of many", n=n)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_each_event_is_one_whole_line_and_none_is_lost(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", SPEAKS, str(tmp_path)], capture_output=True, check=False)
    assert ran.returncode == -9
    kept = (tmp_path / "worker-7.log").read_bytes()
    lines, told = ([json.loads(line) for line in said.splitlines()] for said in (kept, ran.stderr))
    assert [one["message"] for one in lines] == [one["message"] for one in told], "though the process was killed"
    assert len(lines) == 1005
    for line in lines:
        assert {"timestamp", "level", "message", "process", "context"} <= line.keys(), line
        assert line["process"] == "worker-7"
    first, failed, deep, library, thread, *many = lines
    assert (first["message"], first["email"], first["userId"]) == ("first\nand second line", "***", "u-1")
    assert first["correlationId"] == failed["correlationId"] == "ticket-1"
    assert "postgresql://***@db.example.com/shop is away" in failed["exception"]
    assert failed["shipping_address"] == "***"
    assert deep["deep"] == {"who": [{"Email": "***"}, "***@example.com"], "phone_number": "***"}
    assert deep["error"] == "redis://***@cache is away"
    assert library["message"] == "a library says Bearer ***"
    assert (thread["context"], thread["message"]) == ("library", "from another thread")
    assert [line["n"] for line in many] == list(range(1000))
    assert not re.search(rb"s3cret|ana@|Calle Mayor|abc\.def", kept)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("nothing to hide", "nothing to hide"),
        ("to ana.ruiz+shop@mail.example.com failed", "to ***@mail.example.com failed"),
        ("redis://:pw@127.0.0.1:6379/0", "redis://***@127.0.0.1:6379/0"),
        ("token eyJhbGciOi.eyJzdWIi.c2ln ended", "token *** ended"),
        ("signed by whsec_c2VjcmV0", "signed by whsec_***"),
        ("host=db password='a b\\' c' user=ana", "host=db password=*** user=ana"),  # pragma: allowlist secret
        ("?user=ana&password=geheim&x=1", "?user=ana&password=***&x=1"),
        ("authorization: Bearer a.b-c", "authorization: Bearer ***"),
    ],
)
def test_what_is_nobodys_business_is_masked(said: str, shown: str) -> None:
    assert telemetry.masked(said) == shown


@pytest.fixture
def _afterwards() -> Iterator[None]:
    """The log of the other tests as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.usefixtures("_afterwards")
def test_files_are_daily_and_the_last_fourteen_are_kept(tmp_path: Path) -> None:
    """The days pass in the file's own time; what begins to speak later goes by that."""
    noon = datetime.now(UTC).replace(hour=12)
    days = [noon - timedelta(days=number) for number in range(20, -1, -1)]
    (other := tmp_path / "relay.log.2020-01-01").touch()
    for day in days:
        telemetry.configure(level="info", directory=tmp_path, process="worker-7")
        for time in ("morning", "evening"):
            telemetry.log("saga").info(f"{time} of {day:%F}")
        logging.getLogger().handlers[-1].close()  # as its process ends
        os.utime(tmp_path / "worker-7.log", (day.timestamp(), day.timestamp()))
    written = {file.name: file.read_text().splitlines() for file in tmp_path.glob("worker-7*")}
    kept = {name: [json.loads(line)["message"] for line in lines] for name, lines in written.items()}
    names = ["worker-7.log", *(f"worker-7.log.{day:%F}" for day in days[-2::-1])][:15]
    said = [[f"morning of {day:%F}", f"evening of {day:%F}"] for day in days[::-1]]
    assert kept == dict(zip(names, said[:15], strict=True)), "that of today, and those of fourteen days"
    assert other.exists(), "another process keeps its own"
