"""An origin that misbehaves on order, a hub as a process, and a cache in a fresh folder."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cacheops.addresses import AddressRules
from cacheops.layout import Layout, open_cache
from cacheops.sources import SourceSettings
from simulations.hub import HubProcess, hub_process
from simulations.origin import Origin, serving

LOOPBACK = AddressRules(hosts=frozenset({"127.0.0.1", "localhost"}))


@pytest.fixture
def origin() -> Iterator[Origin]:
    with serving(Origin()) as made:
        yield made


@pytest.fixture
def settings() -> SourceSettings:
    """Loopback allowed, local files too."""
    return SourceSettings(rules=LOOPBACK, local_files=True, stall_s=20.0)


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    made = open_cache(tmp_path / "cache")
    yield made
    for folder, _, _ in os.walk(made.root):
        os.chmod(folder, 0o700)  # published folders are read-only, pytest wants to delete them


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    (tmp_path / "hub").mkdir()
    with hub_process(tmp_path / "hub") as made:
        yield made


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """The claim `share`, with a model `m`."""
    folder = tmp_path / "claims" / "share" / "m"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(os.urandom(1 << 20))
    (folder / "sub" / "config.json").write_text("{}")
    (folder / "train.py").write_text("import os")
    return folder.parent


@pytest.fixture
def mounted(settings: SourceSettings, share: Path) -> SourceSettings:
    return replace(settings, claims=share.parent)
