"""The endpoints controller: EndpointSlices of every Service with a selector, ready and other pods told apart."""

from collections.abc import Iterable
from typing import Any

from metrics.clock import Clock
from simulations.cluster.api import ENDPOINT_SLICES, PODS, SERVICES, Object
from simulations.cluster.workloads.deployment import controller_reference
from simulations.cluster.workloads.mirror import Key, Mirror, is_going, key_of
from simulations.cluster.workloads.pods import is_over, is_ready, node_of
from simulations.cluster.workloads.reconciler import Reconciler

SERVICE_NAME = "kubernetes.io/service-name"
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_MOST_ENDPOINTS = 1000  # per slice, the API's limit


def by_selector(service: Object) -> Iterable[object]:
    """Index: one (namespace, label, value) of the selector; a pod that matches carries that label."""
    selector = service["spec"].get("selector") or {}
    first = min(selector.items(), default=None)
    return () if first is None else ((service["metadata"].get("namespace", ""), *first),)


def selects(service: Object, pod: Object) -> bool:
    """Whether the Service's selector matches the pod."""
    labels = pod["metadata"].get("labels") or {}
    selector = service["spec"].get("selector") or {}
    return bool(selector) and all(labels.get(label) == value for label, value in selector.items())


class EndpointsController:
    """Reconciles the slices of every Service it sees."""

    def __init__(self, mirror: Mirror, clock: Clock) -> None:
        self._mirror = mirror
        self.reconciler = Reconciler("endpoints", self._reconcile, clock)
        mirror.listen(SERVICES, lambda before, after: self.reconciler.wake(key_of(after or before or {})))
        mirror.listen(PODS, self._wake_services)

    def _wake_services(self, before: Object | None, after: Object | None) -> None:
        if before is not None and after is not None and _face(before) == _face(after):
            return
        for pod in (before, after):
            for service in self._services_of(pod) if pod else ():
                self.reconciler.wake(key_of(service))

    def _services_of(self, pod: Object) -> list[Object]:
        namespace, labels = key_of(pod)[0], pod["metadata"].get("labels") or {}
        keys = [(namespace, *item) for item in labels.items()]
        near = [service for key in keys for service in self._mirror.find(SERVICES, "selector", key)]
        return [service for service in near if selects(service, pod)]

    async def _reconcile(self, key: Key) -> None:
        service = self._mirror.get(SERVICES, key)
        if service is None or is_going(service) or not service["spec"].get("selector"):
            return
        wanted = {item["metadata"]["name"]: item for item in slices_for(service, self._pods_of(service))}
        there = self._mirror.find(ENDPOINT_SLICES, "label", (key[0], SERVICE_NAME, key[1]))
        known = {item["metadata"]["name"]: item for item in there if item["metadata"]["labels"].get(_MANAGED_BY)}
        for name, item in wanted.items():
            old = known.get(name)
            if old is None:
                await self._mirror.create(ENDPOINT_SLICES, item)
            elif (old.get("endpoints"), old.get("ports")) != (item["endpoints"], item["ports"]):
                patch = {"endpoints": item["endpoints"], "ports": item["ports"]}
                await self._mirror.patch(ENDPOINT_SLICES, (key[0], name), patch)
        for name in known.keys() - wanted.keys():
            await self._mirror.delete(ENDPOINT_SLICES, known[name])

    def _pods_of(self, service: Object) -> list[Object]:
        keys = by_selector(service)
        near = [pod for key in keys for pod in self._mirror.find(PODS, "label", key)]
        return sorted((pod for pod in near if selects(service, pod) and _ip(pod)), key=key_of)


def _ip(pod: Object) -> str:
    return "" if is_over(pod) else str(pod.get("status", {}).get("podIP") or "")


def _face(pod: Object) -> tuple[Any, ...]:
    """All of a pod that its endpoint shows."""
    return _ip(pod), is_ready(pod), is_going(pod), pod["metadata"].get("labels")


def slices_for(service: Object, pods: list[Object]) -> list[Object]:
    """The slices of a Service: one, unless it has more pods than a slice may hold."""
    starts = range(0, max(1, len(pods)), _MOST_ENDPOINTS)
    return [_slice(service, pods[start : start + _MOST_ENDPOINTS], number) for number, start in enumerate(starts)]


def _slice(service: Object, pods: list[Object], number: int) -> Object:
    metadata = service["metadata"]
    return {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": {
            "name": metadata["name"] if number == 0 else f"{metadata['name']}-{number}",
            "namespace": metadata["namespace"],
            "labels": {SERVICE_NAME: metadata["name"], _MANAGED_BY: "endpointslice-controller.k8s.io"},
            "ownerReferences": [controller_reference(service)],
        },
        "addressType": "IPv4",
        "endpoints": [_endpoint(pod) for pod in pods],
        "ports": [_port(port, pods) for port in service["spec"].get("ports") or ()],
    }


def _endpoint(pod: Object) -> dict[str, Any]:
    """A going pod still serves what it has, but gets nothing new: ready is False at once."""
    ready, going = is_ready(pod), is_going(pod)
    reference = {
        "kind": "Pod",
        "namespace": pod["metadata"]["namespace"],
        "name": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
    }
    return {
        "addresses": [_ip(pod)],
        "conditions": {"ready": ready and not going, "serving": ready, "terminating": going},
        "nodeName": node_of(pod),
        "targetRef": reference,
    }


def _port(port: Object, pods: list[Object]) -> dict[str, Any]:
    return {
        "name": port.get("name", ""),
        "protocol": port.get("protocol", "TCP"),
        "port": _target_port(port.get("targetPort") or port["port"], pods),
    }


def _target_port(target: int | str, pods: list[Object]) -> int | None:
    """A number, or the container port of that name in the first pod."""
    if isinstance(target, int):
        return target
    containers = pods[0]["spec"]["containers"] if pods else []
    declared = {port.get("name"): port["containerPort"] for one in containers for port in one.get("ports") or ()}
    return declared.get(target)
