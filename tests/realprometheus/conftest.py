"""A real Prometheus for every test of this folder; without one they skip."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from simulations.cluster.real_prometheus import is_installed

ABSENT = "no prometheus and promtool on PATH (Debian package: prometheus)"


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.skipif(not is_installed(), reason=ABSENT))
