"""What the command line takes, and what it says where it can't go on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from comanda.audit.acts import is_blank
from comanda.cli.running import located
from comanda.cli.table import app
from comanda.errors import ConfigurationFault
from comanda.proof import instance
from comanda.proof.instance import Instance
from comanda.settings import Settings

UNSEEN = ["", "  ", "\t\n", "\u200b\u200d", "\ufeff \u2060", "\u3164", "\u2800"]
ENDPOINT = "00000000-0000-7000-8000-000000000001"


@pytest.mark.parametrize("reason", UNSEEN)
def test_what_nobody_sees_is_no_reason(reason: str) -> None:
    assert is_blank(reason)
    assert not is_blank(f"{reason}.{reason}")


@pytest.mark.parametrize("extra", [[], ["--dry-run"]])
def test_a_report_is_never_written_over_the_file_that_is_read(tmp_path: Path, extra: list[str]) -> None:
    file, link = tmp_path / "products.csv", tmp_path / "link.csv"
    file.write_text("sku,name,price\nA,Apple,100\n")
    link.symlink_to(file)
    for report in (file, link):
        ran = CliRunner().invoke(app, ["import", "products", str(file), "--rejections", str(report), *extra])
        assert isinstance(ran.exception, ConfigurationFault)
        assert "--rejections needs another" in str(ran.exception)
    assert file.read_text() == "sku,name,price\nA,Apple,100\n"


def test_parts_of_two_instances_are_none(tmp_path: Path) -> None:
    here = {"api": "http://127.0.0.1:1", "gateway": "http://127.0.0.1:2", "databaseUrl": "postgresql://here/here",
            "redisUrl": "redis://here"}  # fmt: skip
    (tmp_path / instance.UP_FILE).write_text(json.dumps(here))
    other = Settings(database_url="postgresql://shop/shop", redis_url="redis://shop")
    assert located(other, tmp_path).gateway_url == "", "a refund of the one is nothing to the other's gateway"
    with pytest.raises(ConfigurationFault, match="COMANDA_REDIS_URL"):
        located(Settings(database_url="postgresql://shop/shop"), tmp_path)
    for same in (Settings(), Settings(database_url=here["databaseUrl"])):
        assert located(same, tmp_path) == Instance(*here.values())


@pytest.mark.parametrize("reason", [None, *UNSEEN])
@pytest.mark.parametrize(
    "act",
    [
        ["queue", "pause", "order-processing"],
        ["queue", "resume", "order-processing"],
        ["queue", "limit", "order-processing", "5"],
        ["webhooks", "redeliver", ENDPOINT, "--since", "1"],
        ["dead-letters", "redrive", "--all"],
        ["skip", ENDPOINT],
    ],
)
def test_every_act_needs_a_reason(act: list[str], reason: str | None) -> None:
    ran = CliRunner().invoke(app, [*act, *([] if reason is None else ["--reason", reason])])
    assert ran.exit_code == 2
    assert "--reason" in ran.stderr


@pytest.mark.parametrize(
    "asked",
    [
        ["reconcile", "--since", "99999999999"],
        ["reconcile", "--until", "1e300"],
        ["reconcile", "--since", "nan"],
        ["reconcile", "--timeout", "inf"],
        ["doctor", "--since", "1e300"],
        ["webhooks", "listen", "--forward", "ftp://example.com/hook"],
        ["doctor", "--since", "nan"],
        ["webhooks", "redeliver", ENDPOINT, "--reason", "x", "--since", "1e300"],
        ["dead-letters", "redrive", "--filter", "queue=nope", "--dry-run"],
    ],
)
def test_what_can_not_be_meant_is_a_wrong_usage(asked: list[str]) -> None:
    ran = CliRunner().invoke(app, asked)
    assert ran.exit_code == 2, ran.exception
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("asked", "known"),
    [("state=zzz", "stuck, open, PENDING"), ("colour=red", "age"), ("age=abc", "")],
)
def test_a_filter_that_can_not_be_read_says_what_there_is(asked: str, known: str) -> None:
    ran = CliRunner().invoke(app, ["retry", "--filter", asked, "--dry-run"], terminal_width=400)
    assert ran.exit_code == 2
    told = " ".join(ran.stderr.replace("│", " ").split())
    assert known in told
    assert ("choose from" in told) == bool(known)


def test_an_argument_that_is_no_text_is_a_wrong_usage() -> None:
    command: list[str | bytes] = [sys.executable, "-m", "comanda", "audit", "list", "--subject", b"\xff"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr.strip()) == (2, "An argument is no UTF-8 text.")


def test_nothing_is_imported_where_the_report_can_not_be_written(tmp_path: Path) -> None:
    file, report = tmp_path / "products.csv", tmp_path / "nowhere" / "rejected.csv"
    file.write_text("sku,name,price\nA,Cup,100\n")
    ran = CliRunner().invoke(app, ["import", "products", str(file), "--rejections", str(report)])
    assert isinstance(ran.exception, ConfigurationFault)
    assert str(ran.exception) == f"Nothing was imported. {report} can't be written: No such file or directory"


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="there is no /dev/full here")
def test_output_that_can_not_be_written_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        version = [sys.executable, "-m", "comanda", "--version"]
        ran = subprocess.run(version, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ran.returncode == 1
    assert ran.stderr == "The output can't be written: No space left on device.\n"


def test_what_the_environment_says_comes_before_what_the_folder_does(tmp_path: Path) -> None:
    (tmp_path / instance.UP_FILE).write_text('{"gateway": "http://folder", "api": "http://api"}')
    here = Settings(database_url="postgresql://here/shop", gateway="mock", gateway_url="http://here")
    found = instance.find(here, tmp_path)
    assert (found.database_url, found.gateway_url) == ("postgresql://here/shop", "http://here")
    unsaid = Settings(database_url="postgresql://here/shop", gateway="mock", gateway_url="")
    assert instance.find(unsaid, tmp_path).gateway_url == instance.written(tmp_path).gateway_url != ""
    nowhere = instance.find(here, tmp_path / "empty")
    assert (nowhere.database_url, nowhere.gateway_url) == ("postgresql://here/shop", "http://here")
