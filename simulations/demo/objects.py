"""The Kubernetes objects of the demo, as a user would write them."""

import math
from collections.abc import Mapping

from autoscaler.permissions import NAMESPACE as CONTROLLER_NAMESPACE
from simulations.cluster.api import Object
from simulations.cluster.workloads.nodes import NodeSpec
from simulations.demo.setting import (
    CACHED_SERVICE,
    GPUS_PER_NODE,
    MODEL,
    MODEL_URI,
    NAMESPACE,
    NODES,
    POLICY,
    PROFILE,
    REPLICAS_MAX,
    REPLICAS_MIN,
    SERVICE,
    STABILIZATION_DOWN_S,
    STABILIZATION_UP_S,
    TIME_SCALE,
    Setting,
)

CONTAINER_PORT = 8080
GPU_PRODUCT = "NVIDIA-A100-SXM4-80GB"
STREAM_INTERVAL_TOKENS = 16  # vLLM's own option: fewer, larger events
EXIT_S = 10  # a real vLLM takes seconds to go after its last token
DRAIN_S = 60  # real time, as requests run in real time; the longest answer takes about ten
QUEUE_REQUESTS = 8.0  # arrivals come in bursts; a full batch of prompts waits a step or two
AGENT_ACCOUNT = "warmtide-agent"
CACHE_NODES = ("gpu-1", "gpu-2")  # those with an agent
SCRAPE_PERIOD_S = 0.5  # a scrape per half second stands for one per twenty seconds of the hour


def namespace(name: str) -> Object:
    """A Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def inference_service(setting: Setting) -> Object:
    """One emulated vLLM service on KServe, enrolled by one annotation."""
    engine = setting.engine
    arguments = [
        f"--model={MODEL}",
        f"--served-model-name={MODEL}",
        f"--port={CONTAINER_PORT}",
        f"--max-num-seqs={engine.max_num_seqs}",
        f"--max-num-batched-tokens={engine.max_num_batched_tokens}",
        f"--max-model-len={engine.max_model_len_tokens}",
        f"--num-gpu-blocks-override={engine.num_gpu_blocks}",
        "--no-enable-prefix-caching",
        f"--stream-interval={STREAM_INTERVAL_TOKENS}",
        f"--shutdown-timeout={DRAIN_S}",
    ]
    environment = {"VLLM_EMULATOR_ARGS": f"--profile {PROFILE} --time-scale {TIME_SCALE}"}
    service = enrolled_service(arguments, environment, drain_s=DRAIN_S)
    service["spec"]["predictor"] |= {"minReplicas": REPLICAS_MIN, "maxReplicas": REPLICAS_MAX}
    return service


def enrolled_service(arguments: list[str], environment: Mapping[str, str], *, drain_s: int) -> Object:
    """An annotated InferenceService with one vLLM container, without bounds of its own."""
    container = {
        "name": "kserve-container",
        "image": "vllm/vllm-openai:v0.32.0",
        "args": arguments,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "ports": [{"containerPort": CONTAINER_PORT, "protocol": "TCP"}],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    annotations = {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "external",
        "warmtide.dev/policy": POLICY,
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE, "annotations": annotations},
        "spec": {"predictor": {"terminationGracePeriodSeconds": drain_s + EXIT_S, "containers": [container]}},
    }


def running_requests(setting: Setting) -> float:
    """In flight per replica: nine are about 75 % of its capacity, by replay of this traffic.

    To see and to act take the same second however fast the hour passes: a faster hour needs more headroom.
    """
    return round(min(10.0, 6.0 + setting.seconds / 28.0), 1)


def scaling_policy(setting: Setting) -> Object:
    """The policy; every time in it is that of the real hour, compressed, and at least what the API can say."""
    window_s = max(1, math.floor(setting.compressed_s(STABILIZATION_DOWN_S)))
    spec = {
        "mode": "direct",
        "replicas": {"min": REPLICAS_MIN, "max": REPLICAS_MAX},
        # Rates and quantiles look back 30 s, which are 20 minutes of the compressed hour: gauges decide alone.
        "objectives": {"ttftSeconds": 0.0},
        "targets": {
            "runningRequests": running_requests(setting),
            "queueRequests": QUEUE_REQUESTS,
            "kvCacheUtilization": 0.8,
            "useLearnedCapacity": False,
            "maxAgeSeconds": 5.0,
        },
        "forecast": {"enabled": False},  # an hour has no season to learn
        "metrics": {"periodSeconds": SCRAPE_PERIOD_S, "idlePeriodSeconds": SCRAPE_PERIOD_S},
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": math.floor(setting.compressed_s(STABILIZATION_UP_S)),
                "policies": [{"type": "Pods", "value": 4, "periodSeconds": 1}],
            },
            "scaleDown": {
                "stabilizationWindowSeconds": window_s,
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}],
                "tolerance": 0.0,
            },
        },
        "leadTimePriorSeconds": max(1.0, round(setting.cold_start_s, 1)),
    }
    return policy_object(spec)


def policy_object(spec: Object) -> Object:
    """The service's ScalingPolicy."""
    return {
        "apiVersion": "warmtide.dev/v1alpha1",
        "kind": "ScalingPolicy",
        "metadata": {"name": POLICY, "namespace": NAMESPACE},
        "spec": spec,
    }


def cached_service() -> Object:
    """One replica whose weights KServe brings from the hub, on a node with an agent; nobody scales it."""
    service = enrolled_service([f"--model={MODEL}", f"--port={CONTAINER_PORT}"], {"STORAGE_URI": MODEL_URI}, drain_s=0)
    service["metadata"] |= {"name": CACHED_SERVICE}
    del service["metadata"]["annotations"]["warmtide.dev/policy"]
    service["spec"]["predictor"] |= {
        "minReplicas": 1,
        "maxReplicas": 1,
        "nodeSelector": {"kubernetes.io/hostname": CACHE_NODES[-1]},
    }
    return service


def agent_rbac() -> list[Object]:
    """What the agents' manifest grants: their own reports, nothing else."""
    name, group = AGENT_ACCOUNT, "rbac.authorization.k8s.io"
    kinds = {"warmtide.dev": "nodemodelcaches", "serving.kserve.io": "localmodelnodes"}
    rules = [
        {"apiGroups": [api], "resources": [kind + part], "verbs": verbs}
        for api, kind in kinds.items()
        for part, verbs in (("", ["get", "list", "watch"]), ("/status", ["patch"]))
    ]
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": CONTROLLER_NAMESPACE},
            "automountServiceAccountToken": False,
        },
        role,
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": CONTROLLER_NAMESPACE}],
        },
    ]


def model_cache() -> Object:
    """The same model on every node with an agent."""
    return {
        "apiVersion": "warmtide.dev/v1alpha1",
        "kind": "ModelCache",
        "metadata": {"name": CACHED_SERVICE, "namespace": NAMESPACE},
        "spec": {"source": {"uri": MODEL_URI}, "places": {"min": len(CACHE_NODES)}},
    }


def nodes(gpu_product: str = GPU_PRODUCT) -> tuple[NodeSpec, ...]:
    """The machines of the embedded cluster."""
    return tuple(
        NodeSpec(name=f"gpu-{number}", gpus=GPUS_PER_NODE, gpu_product=gpu_product) for number in range(1, NODES + 1)
    )
