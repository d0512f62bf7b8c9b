"""Where a running Comanda is: from the settings, or from the `up.json` of `comanda up`."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from comanda.errors import ConfigurationFault
from comanda.settings import Settings


@dataclass(frozen=True, slots=True)
class Running:
    """`api` and `gateway_url` are empty where nobody said."""

    database_url: str
    redis_url: str
    api: str
    gateway_url: str


class _UpFile(msgspec.Struct, rename="camel"):
    api: str
    database_url: str
    redis_url: str
    gateway: str | None = None


def located(settings: Settings, data_dir: Path) -> Running:
    """What the environment says; what it does not say, from `<data-dir>/up.json`.

    Raises:
        ConfigurationFault: neither says it.
    """
    file = data_dir / "up.json"
    try:
        up = msgspec.json.decode(file.read_bytes(), type=_UpFile)
    except FileNotFoundError:
        up = _UpFile("", "", "")
    except (OSError, msgspec.DecodeError) as fault:
        raise ConfigurationFault(f"{file} can't be read: {fault}") from None
    found = Running(
        settings.database_url or up.database_url,
        settings.redis_url or up.redis_url,
        up.api,
        settings.gateway_url or up.gateway or "",
    )
    if not found.database_url or not found.redis_url:
        raise ConfigurationFault(
            f"Nothing runs in {data_dir} (it has no up.json): start `comanda up` there, name another --data-dir, "
            "or set COMANDA_DATABASE_URL and COMANDA_REDIS_URL."
        )
    return found
