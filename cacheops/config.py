"""ModelCache and NodeModelCache as they are written: checked here, then turned into plain values at once.

The models are the one source of the CRDs (`cacheops.crds`). A field that is absent or null takes its default.
"""

import functools
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from cacheops.budget import HIGH_RATIO, LOW_RATIO
from cacheops.errors import InvalidRequestError
from cacheops.model import ALLOW_DEFAULT, ModelRef, storage_key
from cacheops.status import ModelCacheStatus, NodeModelCacheStatus
from cacheops.stock import WantedTree
from cacheops.tasks import CacheTask as CacheTask
from cacheops.tasks import NodeTask as NodeTask
from cacheops.tasks import NodeWish as NodeWish

MODELS_MAX = 256  # per node: a list that stays far below etcd's 1.5 MiB, and far above what disks hold
PATTERNS_MAX = 32
SPEC_MAX_CHARS = 512 * 1024  # 256 models with long URIs and patterns
SHOWN_VALUE_CHARS = 80

URI = r"^(hf|s3|https|pvc|file)://[^\s\\]+$"
DNS_NAME = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_KEY, _DIGEST = r"^[0-9a-f]{16}$", r"^[0-9a-f]{64}$"
_LABEL_KEY = r"^([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$"
_YEAR_S = 366 * 86_400
_MAX_BYTES = 2**53  # what JSON numbers hold exactly
_DAYS_S = 7 * 86_400

_Spec = TypeVar("_Spec", bound=BaseModel)


class _Model(BaseModel):
    """No unknown fields, no coercion, no NaN."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
    )


Pattern = Annotated[str, Field(min_length=1, max_length=256)]
Patterns = Annotated[list[Pattern], Field(max_length=PATTERNS_MAX)]
LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?)?$")]
Key = Annotated[str, Field(pattern=_KEY)]
Labels = Annotated[dict[str, LabelValue], Field(max_length=16)]


class SourceModel(_Model):
    """Where the model comes from. Resolved once, so that every node holds the same bytes."""

    uri: str = Field(min_length=6, max_length=1024, pattern=URI)
    """hf://org/name, s3://bucket/prefix, https://host/path, pvc://claim/path or file:///path. As the service has it;
    but a claim is one that Warmtide's own pods have mounted (manifests/components/claims)."""
    revision: str | None = Field(default=None, min_length=1, max_length=128, pattern=r"^[-._/A-Za-z0-9]+$")
    """Branch, tag or commit. Absent: the source's default; a branch is pinned to its commit of now."""
    allow_patterns: Patterns = list(ALLOW_DEFAULT)
    """Shell patterns of files to have. Default: weights, configuration and tokenizers, but no code and no pickles."""
    ignore_patterns: Patterns = []
    """Shell patterns of files to leave out; they win."""
    allow_unverified: bool = False
    """Take files for which the source has no digest: trusted on the first node, compared on every other."""


class PlacesModel(_Model):
    """Which nodes hold the model."""

    selector: Labels = {}
    """Labels that a node must have. Empty: any node with an agent."""
    min: int = Field(default=0, ge=0, le=10_000)
    """Copies to have ready though nothing is expected."""
    max: int | None = Field(default=None, ge=1, le=10_000)
    """No more copies than this. Absent: as many as are expected to be of use."""


class VolumeModel(_Model):
    """A PersistentVolumeClaim of the cache's name, through which pods read the model."""

    enabled: bool = False
    """Make the claim, and its volume."""
    storage_class: str = Field(default="", max_length=63, pattern=r"^([a-z0-9]([-.a-z0-9]{0,61}[a-z0-9])?)?$")
    """Storage class of both. Empty: none, so that no provisioner gets in between."""
    only_warm_nodes: bool = False
    """Let pods go only where the model lies. Keeps a cluster autoscaler from adding nodes for them."""


class ModelCacheSpecModel(_Model):
    """A model to keep on nodes."""

    source: SourceModel
    """Where the model comes from."""
    places: PlacesModel = PlacesModel()
    """Which nodes hold it."""
    pinned: bool = False
    """Never evict it from the nodes it was placed on."""
    ttl_seconds: int | None = Field(default=None, ge=600, le=_YEAR_S)
    """Give it up this long after a pod last used it. Absent: when its room is needed."""
    volume: VolumeModel = VolumeModel()
    """A claim through which pods read it."""


class ModelCacheModel(_Model):
    """Spec and status of a ModelCache, for its CRD."""

    spec: ModelCacheSpecModel
    """A model to keep on nodes."""
    status: ModelCacheStatus
    """What became of it."""


class WantedModel(_Model):
    """One model that the node should hold, at one immutable revision."""

    key: Key
    """Folder of the model: 16 hex digits of its URI's sha256."""
    uri: str = Field(min_length=6, max_length=1024, pattern=URI)
    """Where it comes from."""
    revision: str = Field(default="", max_length=128)
    """Commit or version to fetch; empty where the source has none."""
    digest: str = Field(pattern=_DIGEST)
    """Digest of the manifest: what is fetched must be just this."""
    bytes: int = Field(ge=0, le=_MAX_BYTES)
    """Size of the model."""
    allow_patterns: Patterns = list(ALLOW_DEFAULT)
    """Files to have."""
    ignore_patterns: Patterns = []
    """Files to leave out."""
    need: float = Field(default=1, ge=0, le=1)
    """Chance that it is needed on this node before the planning horizon."""
    replicas: int = Field(default=1, ge=0, le=10_000)
    """Replicas that would wait for it."""
    refetch_seconds: float | None = Field(default=None, ge=0, le=_DAYS_S)
    """How long a fetch takes. Absent: as measured on this node, else by size."""
    pinned: bool = False
    """Never evict it."""
    due: bool = False
    """A replica is about to start: bring it into the page cache."""
    allow_unverified: bool = False
    """Take files for which the source has no digest: trusted on first use."""
    content_digest: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """What the bytes must come to where the source gives no digests: what the first node found. Empty: not known."""
    labelled: bool = False
    """The node's label says that it is here. The controller takes label and mark away before the tree may go."""


class NodeLimitsModel(_Model):
    """How much the agent may take."""

    quota_bytes: int | None = Field(default=None, ge=0, le=_MAX_BYTES)
    """Bytes for all models. Absent: as far as the watermarks allow."""
    high_watermark: float = Field(default=HIGH_RATIO, gt=0, le=0.95)
    """Share of the disk in use above which models are evicted; capped 5 points below the kubelet's own eviction."""
    low_watermark: float = Field(default=LOW_RATIO, gt=0, le=0.95)
    """Share of the disk in use down to which models that nobody wants are evicted then."""
    bytes_per_second: int = Field(default=0, ge=0, le=_MAX_BYTES)
    """Speed of all fetches together. 0: as fast as it goes."""
    warm_bytes: int = Field(default=0, ge=0, le=_MAX_BYTES)
    """Page cache to fill ahead of replicas. 0: none."""


class NodeModelCacheSpecModel(_Model):
    """What one node should hold: written by the controller, never by people."""

    models: list[WantedModel] = Field(default=[], max_length=MODELS_MAX)
    """Models, each at one immutable revision."""
    evict: list[Key] = Field(default=[], max_length=MODELS_MAX)
    """Folders of models to give up though there is room: their time is over. None of them is among the models."""
    limits: NodeLimitsModel = NodeLimitsModel()
    """How much the agent may take."""


class NodeModelCacheModel(_Model):
    """Spec and status of a NodeModelCache, for its CRD."""

    spec: NodeModelCacheSpecModel
    """What the node should hold."""
    status: NodeModelCacheStatus
    """What the node's agent says."""


def parse_node_model_cache(obj: Mapping[str, Any]) -> NodeTask:
    """A NodeModelCache object; InvalidRequestError names object, field and value."""
    metadata = obj["metadata"]
    owner = f"NodeModelCache {metadata['name']}"
    spec = _checked(NodeModelCacheSpecModel, owner, obj.get("spec") or {})
    limits = spec.limits
    if limits.low_watermark > limits.high_watermark:
        words = f"{limits.low_watermark:g} exceeds spec.limits.highWatermark ({limits.high_watermark:g})"
        raise InvalidRequestError(f"{owner}: spec.limits.lowWatermark: {words}")
    _check_keys(owner, spec.models)
    if kept := {model.key for model in spec.models} & set(spec.evict):
        raise InvalidRequestError(f"{owner}: spec.evict: {min(kept)} is among spec.models, too")
    return NodeTask(
        wishes=tuple(_wish(model) for model in spec.models),
        evict=tuple(spec.evict),
        quota_bytes=limits.quota_bytes,
        high_ratio=limits.high_watermark,
        low_ratio=limits.low_watermark,
        bytes_per_s=float(limits.bytes_per_second),
        warm_bytes=limits.warm_bytes,
        generation=metadata.get("generation", 0),
    )


def parse_model_cache(obj: Mapping[str, Any]) -> CacheTask:
    """A ModelCache object; InvalidRequestError names object, field and value."""
    metadata = obj["metadata"]
    owner = f"ModelCache {metadata.get('namespace', 'default')}/{metadata['name']}"
    spec = _checked(ModelCacheSpecModel, owner, obj.get("spec") or {})
    places, source = spec.places, spec.source
    if places.max is not None and places.min > places.max:
        raise InvalidRequestError(f"{owner}: spec.places.min: {places.min} exceeds spec.places.max ({places.max})")
    for key in places.selector:
        if not re.fullmatch(_LABEL_KEY, key):
            raise InvalidRequestError(f"{owner}: spec.places.selector: {_shown(key)} is no label key")
    return CacheTask(
        namespace=metadata.get("namespace", "default"),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        ref=ModelRef(
            uri=source.uri,
            revision=source.revision,
            allow=tuple(source.allow_patterns),
            ignore=tuple(source.ignore_patterns),
        ),
        allow_unverified=source.allow_unverified,
        node_selector=places.selector,
        copies_min=places.min,
        copies_max=places.max,
        is_pinned=spec.pinned,
        ttl_s=spec.ttl_seconds,
        has_volume=spec.volume.enabled,
        storage_class=spec.volume.storage_class,
        only_warm_nodes=spec.volume.only_warm_nodes,
        generation=metadata.get("generation", 0),
    )


@functools.cache  # of a handful of models; pydantic works it out anew at every call
def json_schema(model: type[BaseModel]) -> Mapping[str, Any]:
    """Pydantic's JSON schema of a model, as users write it."""
    return model.model_json_schema(by_alias=True, mode="validation")


def _wish(model: WantedModel) -> NodeWish:
    ref = ModelRef(
        uri=model.uri,
        revision=model.revision or None,
        allow=tuple(model.allow_patterns),
        ignore=tuple(model.ignore_patterns),
    )
    tree = WantedTree(
        key=model.key,
        digest=model.digest,
        size_bytes=model.bytes,
        need_ratio=model.need,
        refetch_s=model.refetch_seconds,
        replicas=model.replicas,
        is_pinned=model.pinned,
        is_due=model.due,
    )
    return NodeWish(
        ref=ref,
        tree=tree,
        allow_unverified=model.allow_unverified,
        content_digest=model.content_digest,
        is_labelled=model.labelled,
    )


def _check_keys(owner: str, models: list[WantedModel]) -> None:
    """A key that is not its URI's would publish one model in another's place."""
    seen: set[str] = set()
    for index, model in enumerate(models):
        if model.key != storage_key(model.uri):
            raise InvalidRequestError(f"{owner}: spec.models[{index}].key: {model.key} is not that of {model.uri}")
        if model.key in seen:
            raise InvalidRequestError(f"{owner}: spec.models[{index}].key: {model.key} is there twice")
        seen.add(model.key)


def _checked(model: type[_Spec], owner: str, spec: object) -> _Spec:
    try:
        text = json.dumps(_without_nulls(spec), default=str)
    except RecursionError as exc:
        raise InvalidRequestError(f"{owner}: spec: is nested too deeply") from exc
    if len(text) > SPEC_MAX_CHARS:
        raise InvalidRequestError(f"{owner}: spec: is {len(text)} characters long; at most {SPEC_MAX_CHARS} may be")
    try:
        return model.model_validate_json(text)
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
        # A misspelt field is the cause of the missing one beside it.
        first = min(errors, key=lambda error: error["type"] != "extra_forbidden")
        place = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        value = "" if first["type"] == "missing" else f"{_shown(first['input'])}: "
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InvalidRequestError(f"{owner}: {place}: {value}{first['msg']}{more}") from exc


def _without_nulls(spec: object) -> object:
    """A null field is an absent field, as the API server sees it."""
    if isinstance(spec, Mapping):
        return {key: _without_nulls(value) for key, value in spec.items() if value is not None}
    return [_without_nulls(item) for item in spec] if isinstance(spec, list) else spec


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_VALUE_CHARS else text[:SHOWN_VALUE_CHARS] + "…"
