"""The report as one page that needs nothing else."""

from collections.abc import Mapping
from typing import Any


def rendered(report: Mapping[str, Any]) -> str:
    return str(report)
