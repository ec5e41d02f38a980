"""PersistentVolumes and claims through which pods read a published tree: what should exist, and what to do. Pure.

One pair for each cache: a local volume whose `path` is the single published tree, read-only, reserved for its claim
by claimRef. The kubelet mounts a local volume only where its path exists, so a pod that comes before the bytes
waits for them instead of starting on an empty folder (as KServe 0.20 lets it).
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cacheops.model import STORAGE_KEY_HEX

Object = dict[str, Any]

OURS = {"app.kubernetes.io/managed-by": "warmtide"}
CACHE_LABEL = "warmtide.dev/model-cache"  # hash of namespace/name: both together may exceed a label's 63 characters
CACHE_ANNOTATION = "warmtide.dev/model-cache"  # namespace/name, for people
MODEL_LABEL_PREFIX = "warmtide.dev/model-"  # of nodes that hold the tree; the autoscaler reads it
_MIB = 2**20  # capacities are told in whole MiB: readable, and never below what is there
_QUANTITY = re.compile(r"([0-9]+)(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$")
_UNITS = {
    "": 1,
    **{f"{u}i": 1024**n for n, u in enumerate("KMGTP", 1)},
    **{u: 1000**n for n, u in enumerate("kMGTP", 1)},
}


class Act(StrEnum):
    """What is to be done with an object."""

    CREATE = "Create"
    ADOPT = "Adopt"  # ours in name only: take it over
    RESIZE = "Resize"
    DELETE = "Delete"
    REFUSE = "Refuse"  # a human must decide


class Why(StrEnum):
    """The reason of a change. Stable names."""

    MISSING = "Missing"
    CLAIM_IS_GONE = "ClaimIsGone"
    MADE_BY_HAND = "MadeByHand"
    GREW = "Grew"
    NOT_WANTED = "NotWanted"
    CANNOT_BE_CHANGED = "CannotBeChanged"
    TAKEN = "Taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedTree:
    """One published tree that pods of a namespace may mount."""

    namespace: str
    cache: str  # name of the ModelCache; the claim has the same
    cache_uid: str
    key: str
    size_bytes: int
    root: str  # the agent's folder on the nodes
    node_selector: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = ""  # empty: no class at all, so that no provisioner and no default gets in between
    only_warm_nodes: bool = False  # True: pods go only where the tree lies; keeps an autoscaler from adding nodes

    def __post_init__(self) -> None:
        if not re.fullmatch(rf"[0-9a-f]{{{STORAGE_KEY_HEX}}}", self.key):
            raise ValueError(f"tree of {self.namespace}/{self.cache}: key {self.key!r} is no storage key")
        if not self.root.startswith("/") or ".." in self.root.split("/"):
            raise ValueError(f"tree of {self.namespace}/{self.cache}: root {self.root!r} is no absolute path")

    @property
    def owner_hash(self) -> str:
        """The cache in 16 characters."""
        return hashlib.sha256(f"{self.namespace}/{self.cache}".encode()).hexdigest()[:16]

    @property
    def volume_name(self) -> str:
        """Cluster-wide unique: the same model may be served to several namespaces."""
        return f"warmtide-{self.key}-{self.owner_hash}"

    @property
    def path(self) -> str:
        """The single tree, not the folder of all models: other namespaces' models stay out of reach."""
        return f"{self.root.rstrip('/')}/models/{self.key}"

    @property
    def capacity(self) -> str:
        """As a Kubernetes quantity, rounded up."""
        return _quantity(self.size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing to do: the object to create, or the merge patch. `version` is expected where it matters."""

    act: Act
    kind: str  # PersistentVolume or PersistentVolumeClaim
    namespace: str  # empty for volumes
    name: str
    why: Why
    body: Object = field(default_factory=dict)
    detail: str = ""


def volume(tree: ServedTree, *, asked_bytes: int = 0) -> Object:
    """The PersistentVolume of a tree. A claim asks for what a larger revision had, or what its author guessed."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": tree.volume_name, **_marks(tree)},
        "spec": {
            "capacity": {"storage": _quantity(max(tree.size_bytes, asked_bytes))},
            "accessModes": ["ReadOnlyMany"],
            "mountOptions": ["ro"],  # also for a pod that forgets readOnly
            "persistentVolumeReclaimPolicy": "Retain",  # only the agent deletes bytes
            "storageClassName": tree.storage_class,
            "volumeMode": "Filesystem",
            "local": {"path": tree.path},
            "claimRef": _claim_ref(tree),
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": _where(tree)}]}},
        },
    }


def claim(tree: ServedTree) -> Object:
    """The PersistentVolumeClaim of a tree, gone with its ModelCache."""
    owner = {
        "apiVersion": "warmtide.dev/v1alpha1",
        "kind": "ModelCache",
        "name": tree.cache,
        "uid": tree.cache_uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": tree.cache, "namespace": tree.namespace, "ownerReferences": [owner], **_marks(tree)},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "resources": {"requests": {"storage": tree.capacity}},
            "storageClassName": tree.storage_class,
            "volumeMode": "Filesystem",
            "volumeName": tree.volume_name,
        },
    }


def changes(trees: Sequence[ServedTree], volumes: Iterable[Object], claims: Iterable[Object]) -> tuple[Change, ...]:
    """What brings the objects there are to those that should be; nothing when they are. Volumes come first."""
    there = {pv["metadata"]["name"]: pv for pv in volumes}
    held = {(pvc["metadata"]["namespace"], pvc["metadata"]["name"]): pvc for pvc in claims}
    found: list[Change] = []
    for tree in trees:
        pv, pvc = there.get(tree.volume_name), held.get((tree.namespace, tree.cache))
        found += _for_tree(tree, pv, pvc)
    return (*found, *_leftovers(trees, there, held))


def size_bytes(quantity: str) -> int:
    """A storage quantity in bytes; 0 for what nobody writes in one."""
    parsed = _QUANTITY.match(quantity)
    return int(parsed[1]) * _UNITS[parsed[2] or ""] if parsed else 0


def _for_tree(tree: ServedTree, pv: Object | None, pvc: Object | None) -> Iterator[Change]:
    if pvc is not None and (taken := _taken(tree, pvc)):
        yield _refused("PersistentVolumeClaim", tree.namespace, tree.cache, Why.TAKEN, taken)
        return
    if pv is None:
        yield _change(Act.CREATE, tree, "PersistentVolume", Why.MISSING, volume(tree, asked_bytes=_asked_bytes(pvc)))
    elif not _is_ours(pv, tree):
        yield _refused("PersistentVolume", "", tree.volume_name, Why.TAKEN, "exists and is not Warmtide's")
        return
    else:
        yield from _for_volume(tree, pv, pvc)
    if pvc is None:
        yield _change(Act.CREATE, tree, "PersistentVolumeClaim", Why.MISSING, claim(tree))
    elif not _is_ours(pvc, tree) and _spec(pvc).get("volumeName") != tree.volume_name:
        body = {"metadata": _version(pvc), "spec": {"volumeName": tree.volume_name}}
        yield _change(Act.ADOPT, tree, "PersistentVolumeClaim", Why.MADE_BY_HAND, body)


def _for_volume(tree: ServedTree, pv: Object, pvc: Object | None) -> Iterator[Change]:
    """Bring our volume up to date, as far as an API server lets anyone."""
    differing = _differing(_spec(pv), volume(tree)["spec"])
    if differing:
        yield from _renewed(tree, pv, differing)
        return
    ref = _spec(pv).get("claimRef") or {}
    if ref.get("uid") and (pvc is None or pvc["metadata"].get("uid") != ref["uid"]):
        # Released: it waits for the claim that was deleted until someone clears its uid.
        body = {"metadata": _version(pv), "spec": {"claimRef": {"uid": None, "resourceVersion": None}}}
        yield _change(Act.ADOPT, tree, "PersistentVolume", Why.CLAIM_IS_GONE, body)
    capacity = _quantity(max(tree.size_bytes, _asked_bytes(pvc)))
    if size_bytes(_spec(pv)["capacity"]["storage"]) < size_bytes(capacity):
        # Only ever larger: a claim may not ask for more than its volume has, and cannot be made smaller.
        body = {"metadata": _version(pv), "spec": {"capacity": {"storage": capacity}}}
        yield _change(Act.RESIZE, tree, "PersistentVolume", Why.GREW, body)


def _renewed(tree: ServedTree, pv: Object, differing: Sequence[str]) -> Iterator[Change]:
    """Path, nodes and class of a volume are for ever: one that nobody is bound to is made anew."""
    words = f"differs in {', '.join(differing)}"
    if (pv.get("status") or {}).get("phase") == "Bound":
        words += "; delete the claim once no pod uses it"
        yield _refused("PersistentVolume", "", tree.volume_name, Why.CANNOT_BE_CHANGED, words)
    elif "deletionTimestamp" not in pv["metadata"]:
        yield Change(
            act=Act.DELETE,
            kind="PersistentVolume",
            namespace="",
            name=tree.volume_name,
            why=Why.CANNOT_BE_CHANGED,
            detail=words,
        )


def _leftovers(
    trees: Sequence[ServedTree], there: Mapping[str, Object], held: Mapping[tuple[str, str], Object]
) -> Iterator[Change]:
    """Ours, and nobody's any more. A volume goes after its claim: bound, it would only hang in deletion."""
    claims, volumes = {(tree.namespace, tree.cache) for tree in trees}, {tree.volume_name for tree in trees}
    bound_to = {_spec(pvc).get("volumeName") for pvc in held.values()}
    for (namespace, name), pvc in sorted(held.items()):
        if (namespace, name) not in claims and _is_managed(pvc) and not _is_going(pvc):
            yield _gone("PersistentVolumeClaim", namespace, name)
    for name, pv in sorted(there.items()):
        if name not in volumes and name not in bound_to and _is_managed(pv) and not _is_going(pv):
            yield _gone("PersistentVolume", "", name)


def _taken(tree: ServedTree, pvc: Object) -> str:
    """Why a claim of that name cannot be served with the tree; empty: it can."""
    spec = _spec(pvc)
    if _is_going(pvc):
        return "is being deleted"
    if spec.get("volumeName") not in (None, "", tree.volume_name):
        return f"is bound to volume {spec['volumeName']}"
    if spec.get("storageClassName") != tree.storage_class:
        return f"asks for storage class {spec.get('storageClassName')!r}, not {tree.storage_class!r}"
    if "ReadOnlyMany" not in (spec.get("accessModes") or ()) or len(spec["accessModes"]) > 1:
        return f"asks for access {', '.join(spec.get('accessModes') or ())}; a published tree is ReadOnlyMany"
    return ""


def _asked_bytes(pvc: Object | None) -> int:
    requests = (_spec(pvc or {}).get("resources") or {}).get("requests") or {}
    return size_bytes(str(requests.get("storage", "0")))


def _quantity(count_bytes: int) -> str:
    return f"{max(1, -(-count_bytes // _MIB))}Mi"


def _differing(spec: Object, wanted: Object) -> list[str]:
    """Fields of a volume that are not what they should be and cannot be changed."""
    fields = ("local", "nodeAffinity", "storageClassName")
    return [name for name in fields if (spec.get(name) or "") != (wanted[name] or "")]


def _where(tree: ServedTree) -> list[Object]:
    terms = [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(tree.node_selector.items())]
    if tree.only_warm_nodes:
        terms.append({"key": f"{MODEL_LABEL_PREFIX}{tree.key}", "operator": "Exists"})
    # A local volume must say where it is; every node that is one has this label.
    return terms or [{"key": "kubernetes.io/hostname", "operator": "Exists"}]


def _claim_ref(tree: ServedTree) -> Object:
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": tree.namespace, "name": tree.cache}


def _marks(tree: ServedTree) -> Object:
    return {
        "labels": OURS | {CACHE_LABEL: tree.owner_hash},
        "annotations": {CACHE_ANNOTATION: f"{tree.namespace}/{tree.cache}"},
    }


def _is_managed(obj: Object) -> bool:
    labels = obj["metadata"].get("labels") or {}
    return CACHE_LABEL in labels and OURS.items() <= labels.items()


def _is_ours(obj: Object, tree: ServedTree) -> bool:
    return _is_managed(obj) and obj["metadata"]["labels"][CACHE_LABEL] == tree.owner_hash


def _is_going(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def _spec(obj: Object) -> Object:
    return obj.get("spec") or {}


def _version(obj: Object) -> Object:
    return {"resourceVersion": obj["metadata"].get("resourceVersion")}


def _change(act: Act, tree: ServedTree, kind: str, why: Why, body: Object) -> Change:
    is_volume = kind == "PersistentVolume"
    namespace, name = ("", tree.volume_name) if is_volume else (tree.namespace, tree.cache)
    return Change(act=act, kind=kind, namespace=namespace, name=name, why=why, body=body)


def _refused(kind: str, namespace: str, name: str, why: Why, detail: str) -> Change:
    return Change(act=Act.REFUSE, kind=kind, namespace=namespace, name=name, why=why, detail=detail)


def _gone(kind: str, namespace: str, name: str) -> Change:
    return Change(act=Act.DELETE, kind=kind, namespace=namespace, name=name, why=Why.NOT_WANTED)
