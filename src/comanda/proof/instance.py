"""Where a running instance is: what `comanda up` wrote into its data folder, for those who look at it from outside."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comanda.engines.data_folder import SECRETS
from comanda.errors import ConfigurationFault
from comanda.settings import Settings

UP_FILE = "up.json"
DEFAULT_FOLDER = Path(".comanda")


@dataclass(frozen=True, slots=True)
class Instance:
    """Its addresses; `gateway_url` is empty where there is no gateway with a ledger."""

    api: str = ""
    gateway_url: str = ""
    database_url: str = ""
    redis_url: str = ""


def find(settings: Settings, data_dir: Path | None) -> Instance:
    """What the settings say; what they don't say, of the folder that was named, or of the usual one."""
    gateway_url = settings.gateway_url if settings.gateway == "mock" else ""
    is_told = bool(settings.database_url) and (data_dir is None or not (data_dir / UP_FILE).exists())
    up = Instance() if is_told else written(data_dir or DEFAULT_FOLDER)
    return replace(up, database_url=settings.database_url or up.database_url, gateway_url=gateway_url or up.gateway_url)


def written(folder: Path) -> Instance:
    """What runs in that folder.

    Raises:
        ConfigurationFault: nothing does.
    """
    path = folder / UP_FILE
    if not path.exists():
        raise ConfigurationFault(
            f"Nothing runs in {folder} (there is no {path.name}): start `comanda up`, or name another --data-dir"
        )
    known = _read(path)
    return Instance(*(known.get(name) or "" for name in ("api", "gateway", "databaseUrl", "redisUrl")))


def admin_password(settings: Settings, data_dir: Path | None) -> str:
    """The first user's: of the settings, else the one that `comanda up` made up.

    Raises:
        ConfigurationFault: there is neither.
    """
    password = settings.admin_password.get_secret_value()
    path = (data_dir or DEFAULT_FOLDER) / SECRETS
    if not password and path.exists():
        password = _read(path).get("adminPassword") or ""
    if not password:
        raise ConfigurationFault("The admin's password is not known: set COMANDA_ADMIN_PASSWORD or name the --data-dir")
    return password


def _read(path: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as broken:
        raise ConfigurationFault(f"{path} can't be read: {broken}") from None
    return known
