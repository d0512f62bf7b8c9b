"""`comanda restart` signals nobody who isn't there."""

import asyncio
from pathlib import Path

import pytest

from comanda.cli.restart import restart
from comanda.engines import data_folder
from comanda.errors import ConfigurationFault


async def test_what_a_killed_up_left_behind_is_not_trusted(tmp_path: Path) -> None:
    """Its pids may be anybody's by now."""
    folder = data_folder.make(tmp_path / "data")
    somebody = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        facts = {"api": "http://127.0.0.1:1", "processes": [{"name": "api-1", "pid": somebody.pid}]}
        data_folder.replace(folder / "up.json", facts)
        with data_folder.locked(folder):
            assert data_folder.is_locked(folder)
        with pytest.raises(ConfigurationFault, match=r"was killed and left up\.json behind"):
            await restart(folder, only=None, json=False)
        assert somebody.returncode is None
    finally:
        somebody.kill()
        await somebody.wait()
