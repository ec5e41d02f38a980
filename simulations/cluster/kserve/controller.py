"""The KServe stand-in: InferenceServices become Deployments, Services and scalers, as a chosen version does it."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from metrics.clock import Clock, WallClock
from simulations.cluster.api import (
    CRDS,
    DEPLOYMENTS,
    HPAS,
    INFERENCE_SERVICES,
    NAMESPACES,
    SCALED_OBJECTS,
    SERVICES,
    ApiError,
    Object,
    ObjectApi,
    Resource,
)
from simulations.cluster.apiserver.metadata import timestamp
from simulations.cluster.kserve import names, objects, status, webhook
from simulations.cluster.kserve.crds import inference_service_crd
from simulations.cluster.kserve.diff import differs, object_patch
from simulations.cluster.kserve.pod_template import merged_annotations
from simulations.cluster.kserve.rules import AutoscalerClass, Rules, Write, rules_for
from simulations.cluster.workloads import conditions
from simulations.cluster.workloads.mirror import Key, Mirror, by_label, is_going, key_of, owner_of
from simulations.cluster.workloads.reconciler import Reconciler

log = logging.getLogger(__name__)

NAMESPACE, CONTROLLER = "kserve", "kserve-controller-manager"
_SERVED_AFTER_S = 30.0  # a real API server takes a moment to serve a new CRD
_LOOK_S = 0.05


class KServe:
    """Reconciles every InferenceService in Standard mode."""

    def __init__(
        self, api: ObjectApi, version: str = "0.20.0", clock: Clock | None = None, default_mode: str = "Standard"
    ) -> None:
        """`default_mode` is for services that name none: KServe's own default is Knative."""
        self.rules: Rules = rules_for(version)
        self._api = api
        self._clock = clock or WallClock()
        self._default_mode = default_mode
        resources = {
            INFERENCE_SERVICES: {},
            DEPLOYMENTS: {"label": by_label},
            SERVICES: {"label": by_label},
            HPAS: {},
        }
        self.mirror = Mirror(api, resources)
        self._reconciler = Reconciler("InferenceService", self._reconcile, self._clock)
        self.mirror.listen(
            INFERENCE_SERVICES, lambda before, after: self._reconciler.wake(key_of(after or before or {}))
        )
        for resource in (DEPLOYMENTS, SERVICES, HPAS):
            self.mirror.listen(resource, self._wake_owner)

    @property
    def is_idle(self) -> bool:
        """Nothing left to do but wait for events."""
        return self._reconciler.is_idle

    def admit(self, isvc: Object) -> None:
        """The validating webhook: raises the `ApiError` of a refusal."""
        webhook.check(isvc, self.rules)

    async def install(self) -> None:
        """The CRD, unless there is one, and the controller manager's Deployment, by which clients tell the version."""
        for resource, obj in ((CRDS, inference_service_crd(self.rules)), *_installation(self.rules.version)):
            try:
                await self._api.create(resource, obj)
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
        await self._wait_until_served()

    async def run(self) -> None:
        """Install, then follow the API for ever."""
        await self.install()
        await self.mirror.load()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reconciler.run())
            group.create_task(self.mirror.follow())

    async def _wait_until_served(self) -> None:
        due_s = self._clock.now_s() + _SERVED_AFTER_S
        while True:
            try:
                await self._api.list(INFERENCE_SERVICES)
            except ApiError as error:
                if error.code != 404 or self._clock.now_s() > due_s:
                    raise
                await self._clock.sleep(_LOOK_S)
            else:
                return

    def _wake(self, before: Object | None, after: Object | None) -> None:
        self._reconciler.wake(key_of(after or before or {}))

    def _wake_owner(self, before: Object | None, after: Object | None) -> None:
        child = after or before
        for reference in child["metadata"].get("ownerReferences", ()) if child else ():
            if reference["kind"] == INFERENCE_SERVICES.kind and child is not None:
                self._reconciler.wake((key_of(child)[0], reference["name"]))

    async def _reconcile(self, key: Key) -> None:
        isvc = self.mirror.get(INFERENCE_SERVICES, key)
        if isvc is None or is_going(isvc):
            return  # owner references take the rest along
        if self._is_refused(isvc):
            return
        now = timestamp(self._clock.now_s())
        if not names.is_standard(isvc, self._default_mode):
            await self._write_status(isvc, status.refused_status(isvc, self._mode(isvc), now))
        elif names.is_stopped(isvc) and self.rules.stop_deletes:
            await self._remove_all(isvc)
            await self._write_status(isvc, status.stopped_status(isvc, self.rules, now))
        elif not self._is_frozen(isvc):
            await self._apply_all(isvc)
            deployment = self.mirror.get(DEPLOYMENTS, (key[0], names.predictor_name(isvc)))
            await self._write_status(isvc, status.status_for(isvc, deployment, self.rules, now))

    def _is_refused(self, isvc: Object) -> bool:
        """An API server that asks no webhook keeps what the real one refuses: then the last good word stands."""
        try:
            self.admit(isvc)
        except ApiError as refusal:
            log.warning("%s/%s: left as it was: %s", *key_of(isvc), refusal.message)
            return True
        return False

    def _mode(self, isvc: Object) -> str:
        return names.annotation(isvc, names.MODE) or self._default_mode

    def _is_frozen(self, isvc: Object) -> bool:
        """Whether the service asked to be left alone while it is ready."""
        wish = names.annotation(isvc, names.DISABLE_AUTO_UPDATE).lower() == "true"
        return wish and self.rules.obeys_disable_auto_update and conditions.holds(isvc, "Ready")

    async def _apply_all(self, isvc: Object) -> None:
        await self._apply_deployment(isvc)
        await self._apply(SERVICES, objects.service_for(isvc))
        await self._apply_scaler(isvc)
        if self.rules.deletes_orphans:
            await self._delete_orphans(isvc)

    async def _apply_deployment(self, isvc: Object) -> None:
        """Write the Deployment when its spec differs; what happens to its replicas is the version's matter."""
        wanted = objects.deployment_for(isvc, self.rules)
        live = self.mirror.get(DEPLOYMENTS, key_of(wanted))
        if live is None:
            await self.mirror.create(DEPLOYMENTS, wanted)
            return
        if not differs(live["spec"], wanted["spec"]):
            return
        if self.rules.resets_replicas:
            wanted["spec"].setdefault("replicas", 1)  # sent as null, which the API server makes 1
        if self.rules.write is Write.REPLACE:
            await self.mirror.update(DEPLOYMENTS, wanted)
        else:
            await self.mirror.patch(DEPLOYMENTS, key_of(wanted), object_patch(live, wanted, self.rules.write))

    async def _apply(self, resource: Resource, wanted: Object) -> None:
        """Create, or write what differs in the spec."""
        live = self.mirror.get(resource, key_of(wanted))
        if live is None:
            await self.mirror.create(resource, wanted)
        elif differs(live["spec"], wanted["spec"]):
            await self.mirror.patch(resource, key_of(wanted), object_patch(live, wanted, Write.TWO_WAY))

    async def _apply_scaler(self, isvc: Object) -> None:
        match names.class_of(merged_annotations(isvc)):
            case AutoscalerClass.HPA:
                await self._apply(HPAS, objects.hpa_for(isvc))
                return
            case AutoscalerClass.KEDA:
                await self._apply_scaled_object(isvc)
            case AutoscalerClass.EXTERNAL | AutoscalerClass.NONE:
                pass  # a ScaledObject of an earlier class keda stays: so does the real one's
        await self._delete_hpa(isvc)

    async def _apply_scaled_object(self, isvc: Object) -> None:
        """Without KEDA's CRD there is nothing to write to; the real controller does not even look for it then."""
        wanted = objects.scaled_object_for(isvc)
        try:
            listed = await self._api.list(SCALED_OBJECTS, wanted["metadata"]["namespace"])
        except ApiError as error:
            if error.code != 404:
                raise
            return
        live = next((one for one in listed if key_of(one) == key_of(wanted)), None)
        if live is None:
            await self._api.create(SCALED_OBJECTS, wanted)
        elif differs(live["spec"], wanted["spec"]):
            patch = object_patch(live, wanted, Write.TWO_WAY)
            await self._api.patch(SCALED_OBJECTS, *key_of(wanted), patch)

    async def _delete_hpa(self, isvc: Object) -> None:
        hpa = self.mirror.get(HPAS, (isvc["metadata"]["namespace"], names.predictor_name(isvc)))
        if hpa is None or is_going(hpa):
            return
        if self.rules.deletes_foreign_hpas or owner_of(hpa) == isvc["metadata"]["uid"]:
            await self.mirror.delete(HPAS, hpa)

    async def _delete_orphans(self, isvc: Object) -> None:
        """Whatever is labelled as this service's predictor and is not it, whoever made it."""
        namespace, name = key_of(isvc)
        expected = {names.predictor_name(isvc), *_canary_names(isvc)}
        for resource in (DEPLOYMENTS, SERVICES):
            for found in self.mirror.find(resource, "label", (namespace, names.SERVICE_LABEL, name)):
                is_predictor = found["metadata"]["labels"].get(names.COMPONENT_LABEL) == "predictor"
                if is_predictor and found["metadata"]["name"] not in expected and not is_going(found):
                    await self.mirror.delete(resource, found)

    async def _remove_all(self, isvc: Object) -> None:
        key = isvc["metadata"]["namespace"], names.predictor_name(isvc)
        for resource in (DEPLOYMENTS, SERVICES):
            found = self.mirror.get(resource, key)
            if found is not None and not is_going(found):
                await self.mirror.delete(resource, found)
        await self._delete_hpa(isvc)
        await self._delete_scaled_object(key)

    async def _delete_scaled_object(self, key: Key) -> None:
        try:
            await self._api.delete(SCALED_OBJECTS, *key)
        except ApiError as error:
            if error.code != 404:
                raise

    async def _write_status(self, isvc: Object, wanted: Mapping[str, Any]) -> None:
        before = isvc.get("status", {})
        changed = {name: value for name, value in wanted.items() if before.get(name) != value}
        if changed:
            await self.mirror.patch(INFERENCE_SERVICES, key_of(isvc), {"status": changed}, "status")


def _canary_names(isvc: Object) -> set[str]:
    """Deployments of the service's canaries; this stand-in does not make them, but leaves them alone."""
    predictors = [canary.get("predictor") or {} for canary in isvc["spec"].get("canary") or ()]
    return {f"{isvc['metadata']['name']}-{one['name']}-predictor" for one in predictors if one.get("name")}


def _installation(version: str) -> list[tuple[Resource, Object]]:
    """What an installed KServe shows of itself. No replicas: the controller runs here, not in a pod."""
    labels = {"control-plane": CONTROLLER}
    container = {"name": "manager", "image": f"kserve/kserve-controller:v{version}"}
    deployment = {
        "apiVersion": DEPLOYMENTS.api_version,
        "kind": DEPLOYMENTS.kind,
        "metadata": {"name": CONTROLLER, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    return [(NAMESPACES, namespace), (DEPLOYMENTS, deployment)]
