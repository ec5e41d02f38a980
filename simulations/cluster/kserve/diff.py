"""What KServe would change on a live object, and the merge patch that does it: pure.

The real controller asks the API server for a dry run and so compares defaulted objects. Here fields
that the API server fills in are known by name and count as equal where KServe says nothing of them.
"""

from collections.abc import Mapping
from typing import Any

from simulations.cluster.api import Object
from simulations.cluster.kserve.rules import Write

_DEFAULTED = frozenset(
    [
        "replicas",
        "strategy",
        "type",
        "rollingUpdate",
        "maxSurge",
        "maxUnavailable",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
        "minReadySeconds",
        "creationTimestamp",
        "restartPolicy",
        "terminationGracePeriodSeconds",
        "dnsPolicy",
        "schedulerName",
        "securityContext",
        "serviceAccount",
        "serviceAccountName",
        "enableServiceLinks",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "imagePullPolicy",
        "protocol",
        "resources",
        "requests",
        "successThreshold",
        "failureThreshold",
        "periodSeconds",
        "timeoutSeconds",
        "scheme",
        "defaultMode",
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "ipFamilyPolicy",
        "internalTrafficPolicy",
        "sessionAffinity",
        "behavior",
    ]
)
_OPEN_MAPS = frozenset({"labels", "annotations", "matchLabels", "nodeSelector"})  # any key there is somebody's word


def differs(live: object, wanted: object, *, is_open: bool = False) -> bool:
    """Whether the live value is not what is wanted, defaults aside."""
    if isinstance(live, Mapping) and isinstance(wanted, Mapping):
        if any(_is_extra(name, live[name], is_open=is_open) for name in live.keys() - wanted.keys()):
            return True
        return any(
            name not in live or differs(live[name], value, is_open=name in _OPEN_MAPS) for name, value in wanted.items()
        )
    if isinstance(live, list) and isinstance(wanted, list):
        return len(live) != len(wanted) or any(differs(one, other) for one, other in zip(live, wanted, strict=True))
    return live != wanted


def _is_extra(name: str, value: object, *, is_open: bool) -> bool:
    return is_open or not (name in _DEFAULTED or value in (None, {}, []))


def merge_patch(live: Mapping[str, Any], wanted: Mapping[str, Any], *, removes: bool, is_open: bool = False) -> Object:
    """From live to wanted; `removes` takes away what is not wanted. Lists are written whole."""
    patch: Object = {}
    for name, value in wanted.items():
        now, open_below = live.get(name), name in _OPEN_MAPS
        if isinstance(now, Mapping) and isinstance(value, Mapping):
            below = merge_patch(now, value, removes=removes, is_open=open_below)
            patch |= {name: below} if below else {}
        elif name not in live or differs(now, value):
            patch[name] = value
    if removes:
        patch |= {name: None for name in live.keys() - wanted.keys() if _is_extra(name, live[name], is_open=is_open)}
    return patch


def object_patch(live: Object, wanted: Object, write: Write) -> Object:
    """The patch of a whole object: its spec, and of its metadata what controllers own."""
    removes = write is Write.TWO_WAY
    own = ("labels", "annotations", "finalizers", "ownerReferences")
    metadata = {name: live["metadata"][name] for name in own if name in live["metadata"]}
    desired = {name: wanted["metadata"][name] for name in own if name in wanted["metadata"]}
    patch = {
        "metadata": merge_patch(metadata, desired, removes=removes),
        "spec": merge_patch(live["spec"], wanted["spec"], removes=removes),
    }
    return {name: part for name, part in patch.items() if part}
