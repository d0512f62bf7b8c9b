"""Where a running Comanda is: from the settings, or from what `comanda up` wrote into its data folder."""

from pathlib import Path

from comanda.errors import ConfigurationFault
from comanda.proof import instance
from comanda.proof.instance import Instance
from comanda.settings import Settings


def located(settings: Settings, data_dir: Path) -> Instance:
    """What the environment says; what it does not say, from `<data-dir>/up.json`.

    Raises:
        ConfigurationFault: neither says where PostgreSQL and Redis are.
    """
    up = instance.written(data_dir) if (data_dir / instance.UP_FILE).exists() else Instance()
    found = Instance(
        api=up.api,
        gateway_url=settings.gateway_url or up.gateway_url,
        database_url=settings.database_url or up.database_url,
        redis_url=settings.redis_url or up.redis_url,
    )
    if not found.database_url or not found.redis_url:
        raise ConfigurationFault(
            f"Nothing runs in {data_dir} (it has no {instance.UP_FILE}): start `comanda up` there, name another "
            "--data-dir, or set COMANDA_DATABASE_URL and COMANDA_REDIS_URL."
        )
    return found
