"""The smallest thing that Warmtide scales: a Deployment of one vLLM server per replica, enrolled by its annotation."""

from collections.abc import Mapping
from types import MappingProxyType

from simulations.cluster.api import Object

POLICY_ANNOTATION = "warmtide.dev/policy"
POLICY = "gold"
ENROLLED: Mapping[str, str] = MappingProxyType({POLICY_ANNOTATION: POLICY})
PORT = 8080  # KServe's


def vllm_deployment(
    name: str = "llm", replicas: int = 1, *, annotations: Mapping[str, str] = ENROLLED, port: int = PORT
) -> Object:
    """In namespace `default`, one GPU per replica; pods that share this machine's addresses need ports of their own."""
    container = {
        "name": "kserve-container",
        "image": "vllm/vllm-openai:v0.32.0",
        "ports": [{"containerPort": port, "name": "http"}],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default", "annotations": dict(annotations)},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        },
    }
