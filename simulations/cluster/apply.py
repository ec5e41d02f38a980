"""Objects of manifests brought to a cluster: created, or merged into those there are, as `kubectl apply` would."""

from collections.abc import Iterable
from pathlib import Path

import yaml

from simulations.cluster.api import NAMESPACES, ApiError, Object, ObjectApi, Resource
from simulations.cluster.apiserver.kinds import Registry

# libyaml reads our CRDs ten times as fast; Python's own loader is there where PyYAML was built without it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BUILT_IN = {(kind.resource.api_version, kind.resource.kind): kind.resource for kind in Registry().all()}


async def apply(api: ObjectApi, files: Iterable[Path]) -> None:
    """Every object of the files, in order; built-in kinds and CRDs."""
    for file in files:
        for obj in yaml.load_all(file.read_text(encoding="utf-8"), Loader=_LOADER):
            await put(api, _BUILT_IN[obj["apiVersion"], obj["kind"]], obj)


async def put(api: ObjectApi, resource: Resource, obj: Object) -> None:
    """One object."""
    try:
        await api.create(resource, obj)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
        if resource != NAMESPACES:  # a namespace that stands is as good
            metadata = obj["metadata"]
            await api.patch(resource, metadata.get("namespace", ""), metadata["name"], obj)
