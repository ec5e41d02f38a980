"""A stand-in for KServe's InferenceService controller, faithful to a chosen version."""

from simulations.cluster.kserve.controller import KServe
from simulations.cluster.kserve.crds import inference_service_crd, scaled_object_crd
from simulations.cluster.kserve.rules import Rules, rules_for

__all__ = ["KServe", "Rules", "inference_service_crd", "rules_for", "scaled_object_crd"]
