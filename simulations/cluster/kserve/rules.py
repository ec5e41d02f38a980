"""What each KServe version does to a Deployment that somebody else scales: a table, no code.

The rules reproduce what the real controller managers of eight versions were seen to do in Standard
(RawDeployment) mode: 0.13.1, 0.14.1, 0.15.0, 0.15.2, 0.16.0, 0.17.1, 0.18.1 and 0.20.0 on Kubernetes 1.36.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from simulations.cluster.kserve.errors import UnknownVersionError


class AutoscalerClass(StrEnum):
    """Values of the annotation serving.kserve.io/autoscalerClass."""

    HPA = "hpa"  # the default
    EXTERNAL = "external"
    KEDA = "keda"  # since 0.15.0
    NONE = "none"  # since 0.15.1


class Write(StrEnum):
    """How a changed Deployment is written."""

    REPLACE = "Replace"  # the whole object: foreign annotations and the replicas go
    MERGE = "Merge"  # nothing that is there is ever removed
    TWO_WAY = "TwoWay"  # what KServe does not want is removed, foreign annotations too


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """One version's behaviour."""

    version: str
    classes: frozenset[AutoscalerClass]  # what the webhook admits
    pinned: frozenset[AutoscalerClass]  # replicas are held at minReplicas
    write: Write
    resets_replicas: bool  # a changed template falls back to 1 replica
    stop_deletes: bool = False  # serving.kserve.io/stop works in Standard mode
    deletes_foreign_hpas: bool = True  # any HPA of the Deployment's name, whoever made it
    mode: str = "RawDeployment"  # what this mode is called
    obeys_disable_auto_update: bool = False
    names_service_in_env: bool = False  # INFERENCE_SERVICE_NAME
    has_canary: bool = False
    deletes_orphans: bool = False  # Deployments and Services labelled as a predictor of the service


_Version = tuple[int, int, int]
_OLD = Rules(
    version="",
    classes=frozenset({AutoscalerClass.HPA, AutoscalerClass.EXTERNAL}),
    pinned=frozenset(),
    write=Write.REPLACE,
    resets_replicas=True,
)
_V0_14 = replace(_OLD, write=Write.MERGE, resets_replicas=False)
_V0_15_0 = replace(
    _V0_14,
    classes=_OLD.classes | {AutoscalerClass.KEDA},
    pinned=frozenset({AutoscalerClass.EXTERNAL}),
    resets_replicas=True,
)
_V0_15_1 = replace(
    _V0_15_0,
    classes=frozenset(AutoscalerClass),
    pinned=frozenset({AutoscalerClass.NONE}),
    write=Write.TWO_WAY,
    resets_replicas=False,
    deletes_foreign_hpas=False,
)
_V0_16 = replace(_V0_15_1, stop_deletes=True, mode="Standard", obeys_disable_auto_update=True)
_V0_17 = replace(_V0_16, names_service_in_env=True)
_V0_20 = replace(_V0_17, has_canary=True, deletes_orphans=True)

_SINCE: tuple[tuple[_Version, Rules], ...] = (  # the last that is not newer counts
    ((0, 12, 0), _OLD),  # external exists since then
    ((0, 14, 0), _V0_14),
    ((0, 15, 0), _V0_15_0),
    ((0, 15, 1), _V0_15_1),
    ((0, 16, 0), _V0_16),
    ((0, 17, 0), _V0_17),
    ((0, 20, 0), _V0_20),
)
_NEWEST: _Version = (0, 20, 999)
OBSERVED = ("0.13.1", "0.14.1", "0.15.0", "0.15.2", "0.16.0", "0.17.1", "0.18.1", "0.20.0")


def rules_for(version: str) -> Rules:
    """The rules of a version such as `0.20.0`."""
    match = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if match is None:
        raise UnknownVersionError(f"KServe version {version!r} is not of the form 0.20.0")
    numbers: _Version = (int(match[1]), int(match[2]), int(match[3]))
    known = [rules for since, rules in _SINCE if since <= numbers]
    if not known or numbers > _NEWEST:
        raise UnknownVersionError(f"KServe {version} was never observed; known are 0.12 to 0.20, e.g. {OBSERVED[-1]}")
    return replace(known[-1], version=version.removeprefix("v"))
