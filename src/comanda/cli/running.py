"""Where a running Comanda is: from the settings, or from what `comanda up` wrote into its data folder."""

from pathlib import Path

from comanda.errors import ConfigurationFault
from comanda.proof import instance
from comanda.proof.instance import Instance
from comanda.settings import Settings


def located(settings: Settings, data_dir: Path) -> Instance:
    """What the environment says; what it does not say, from `<data-dir>/up.json`.

    Where the environment names another database, nothing is taken from there: parts of two instances are none, and a
    refund would be asked about at a gateway that has never heard of it.

    Raises:
        ConfigurationFault: neither says where PostgreSQL and Redis are.
    """
    up = instance.written(data_dir) if (data_dir / instance.UP_FILE).exists() else Instance()
    if settings.database_url and settings.database_url != up.database_url:
        up = Instance()
    found = Instance(
        api=up.api,
        gateway_url=settings.gateway_url or up.gateway_url,
        database_url=settings.database_url or up.database_url,
        redis_url=settings.redis_url or up.redis_url,
    )
    if found.database_url and not found.redis_url:
        raise ConfigurationFault("COMANDA_DATABASE_URL is set and COMANDA_REDIS_URL is not: set both, or none.")
    if not found.database_url or not found.redis_url:
        raise ConfigurationFault(
            f"Nothing runs in {data_dir} (it has no {instance.UP_FILE}): start `comanda up` there, name another "
            "--data-dir, or set COMANDA_DATABASE_URL and COMANDA_REDIS_URL."
        )
    return found
