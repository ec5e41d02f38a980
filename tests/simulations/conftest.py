"""The clusters of these folders live in virtual time."""

from collections.abc import Sequence
from pathlib import Path

import pytest

IN_VIRTUAL_TIME = [Path(__file__).parent / folder for folder in ("kserve", "workloads")]


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if item.path.parent in IN_VIRTUAL_TIME and "cluster" not in item.keywords:
            item.add_marker(pytest.mark.looptime)
