"""CustomResourceDefinitions of ModelCache and NodeModelCache, from the models in `cacheops.config`.

`python -m cacheops.crds` writes them to manifests/crds.
"""

import sys
from dataclasses import dataclass

from cacheops import schema
from cacheops.config import ModelCacheModel, NodeModelCacheModel, json_schema
from cacheops.schema import Names, Schema, add_rules, crd, structural


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """A rule for the API server; `cacheops.config` checks the same where it reads."""

    at: tuple[str, ...]
    cel: str
    message: str


_CACHE_RULES = (
    _Rule(
        at=("source", "uri"),
        cel="self == oldSelf",
        message="uri cannot be changed: services name the model by it; write another ModelCache",
    ),
    _Rule(
        at=("places",),
        cel="!has(self.max) || !has(self.min) || self.min <= self.max",
        message="min must not exceed max",
    ),
)
_LOW = "(has(self.lowWatermark) ? self.lowWatermark : 0.7)"
_HIGH = "(has(self.highWatermark) ? self.highWatermark : 0.8)"
_NODE_RULES = (_Rule(at=("limits",), cel=f"{_LOW} <= {_HIGH}", message="lowWatermark must not exceed highWatermark"),)
_CACHE_COLUMNS = (
    ("Ready", "string", ".status.summary", "Nodes that hold it, and that should"),
    ("Size", "string", ".status.size", "Size of all files"),
    ("Reason", "string", ".status.reason", "Why it is as it is"),
    ("Source", "string", ".spec.source.uri", "Where it comes from"),
    ("Age", "date", ".metadata.creationTimestamp", "Since when it exists"),
)
_NODE_COLUMNS = (
    ("Ready", "string", ".status.summary", "Models that are there, and that should be"),
    ("Reason", "string", ".status.reason", "Why one of them is not"),
    ("Seen", "date", ".status.time", "When the agent last wrote"),
    ("Age", "date", ".metadata.creationTimestamp", "Since when it exists"),
)
_CONDITIONS = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
_BY_KEY = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["key"]}


def model_cache() -> Schema:
    """CRD of ModelCache."""
    parts = structural(json_schema(ModelCacheModel))["properties"]
    add_rules(parts["spec"], _CACHE_RULES)
    parts["status"]["properties"]["conditions"] |= _CONDITIONS
    names = Names(kind="ModelCache", plural="modelcaches", short="mc")
    description = "A model to keep on nodes, so that replicas start from their own disk."
    return crd(names, parts, description, _CACHE_COLUMNS)


def node_model_cache() -> Schema:
    """CRD of NodeModelCache."""
    parts = structural(json_schema(NodeModelCacheModel))["properties"]
    add_rules(parts["spec"], _NODE_RULES)
    parts["spec"]["properties"]["models"] |= _BY_KEY
    names = Names(kind="NodeModelCache", plural="nodemodelcaches", short="nmc", scope="Cluster")
    description = "What one node should hold, and holds. Named as the node, owned by it, written by Warmtide."
    return crd(names, parts, description, _NODE_COLUMNS)


def all_crds() -> tuple[Schema, ...]:
    """Every CRD of the caches."""
    return model_cache(), node_model_cache()


def as_yaml(definition: Schema) -> str:
    """The text of a CRD's file."""
    return schema.as_yaml(definition, command="python -m cacheops.crds", source="cacheops/config.py")


def main() -> None:
    """Write the CRDs beside this checkout, or into the folder given."""
    schema.write_crds({found["metadata"]["name"]: as_yaml(found) for found in all_crds()}, sys.argv[1:])


if __name__ == "__main__":
    main()
