"""What a real API server asks of a CRD beyond what its schema language says, for every file that is shipped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

FILES = sorted((Path(__file__).parents[2] / "manifests" / "crds").glob("*.yaml"))


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of a structural schema with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from nodes(schema["items"], f"{path}[]")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_keys_of_list_maps_are_required_or_have_a_default(file: Path) -> None:
    root = yaml.safe_load(file.read_text(encoding="utf-8"))["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    optional = [
        f"{path}[].{key}"
        for path, node in nodes(root)
        for key in node.get("x-kubernetes-list-map-keys", [])
        if key not in node["items"].get("required", []) and "default" not in node["items"]["properties"][key]
    ]

    assert optional == []
