"""Requests that schemathesis makes up from the OpenAPI document: no answer that the document does not promise."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from up import running

# A valid request is more than a schema can say: a price of 3.0, a blank name, half a surrogate pair are refused.
LEFT_OUT = "positive_data_acceptance"
# Would sign out whoever asks; would never end.
NOT_ASKED = "/auth/logout|/orders/{order_id}/events"
LEAST = 3000
LEAST_OF_MANY = 50_000  # with as many examples of each as `make fuzz` asks for
MANY = 700
# What follows an order asks for it to be paid by then.
QUICK = {"GATEWAY_LATENCY_MS": "0", "GATEWAY_OUTCOMES": "100/0/0"}
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


async def test_no_request_is_answered_as_the_document_does_not_say(
    tmp_path: Path, urls: dict[str, str], pytestconfig: pytest.Config
) -> None:
    async with running(tmp_path / "data", "--json", LOG_LEVEL="warning", **QUICK, **urls) as up:
        admin = await up.signed_in()
        before = await _resident(up.processes["api-1"])
        process = await asyncio.create_subprocess_exec(
            str(SCHEMATHESIS), "run", f"{up.api}/api/openapi.json",
            "--header", f"Authorization: {admin.headers['Authorization']}",
            "--checks", "all", "--exclude-checks", LEFT_OUT, "--phases", "fuzzing,stateful",
            "--max-examples", str(pytestconfig.getoption("--examples")), "--exclude-path-regex", NOT_ASKED,
            "--continue-on-failure", "--workers", "2", "--no-color",
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said = (await process.communicate())[0].decode(errors="replace")
        made = re.search(r"^\s*(\d+) generated", said, re.MULTILINE)
        assert process.returncode == 0, said[max(0, said.find("= FAILURES")) :][:6000]
        assert made is not None
        examples = pytestconfig.getoption("--examples")
        assert int(made[1]) >= (LEAST_OF_MANY if examples >= MANY else LEAST), said[-500:]
        after = await _resident(up.processes["api-1"])
        print(f"{made[1]} requests; the API held {before} MiB before and {after} MiB after")
        assert after < before + 100, "memory is steady"
        await admin.all_ended()
        assert (await up.comanda("doctor", "--json")).code == 0


async def _resident(pid: int) -> int:
    """MiB."""
    status = await asyncio.to_thread(Path(f"/proc/{pid}/status").read_text)
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) // 1024 if found else 0
