"""CustomResourceDefinitions of ScalingPolicy and ScaledService, from the models in `autoscaler.config`.

`python -m autoscaler.crds` writes them to manifests/crds. Defaults are told in the descriptions but not stored in
objects, so that a better default reaches existing policies too; `mode` alone is stored, because it is a promise.
"""

import sys

from autoscaler.config import POLICY_RULES, ScaledServiceModel, ScalingPolicyModel, json_schema
from autoscaler.rules import SCALED_SERVICE_RULES
from cacheops import schema
from cacheops.schema import Names, Schema, add_rules, crd, structural

STORED_DEFAULTS = {("mode",)}
_POLICY_COLUMNS = (
    ("Mode", "string", ".spec.mode", "observe, advise or direct"),
    ("Min", "integer", ".spec.replicas.min", "Never fewer"),
    ("Max", "integer", ".spec.replicas.max", "Never more"),
    ("TTFT", "number", ".spec.objectives.ttftSeconds", "Objective for the time to first token, in seconds"),
    ("Age", "date", ".metadata.creationTimestamp", "Since when it exists"),
)
_SERVICE_COLUMNS = (
    ("Mode", "string", ".status.mode", "observe, advise or direct"),
    ("Ready", "integer", ".status.replicas.ready", "Replicas that serve"),
    ("Desired", "integer", ".status.replicas.desired", "Replicas that Warmtide wants"),
    ("Forecast", "string", ".status.summary.forecast", "Replicas that the forecast asks for"),
    ("Lead", "string", ".status.summary.lead", "Time until one more replica would be ready"),
    ("Reason", "string", ".status.reason", "Why the number is what it is"),
    ("Age", "date", ".metadata.creationTimestamp", "Since when it exists"),
)


def scaling_policy() -> Schema:
    """CRD of ScalingPolicy."""
    spec = structural(json_schema(ScalingPolicyModel), stored=STORED_DEFAULTS)
    spec["properties"]["schedules"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    add_rules(spec, POLICY_RULES)
    description = "How services that name this policy are scaled: annotation warmtide.dev/policy, or a ScaledService."
    names = Names(kind="ScalingPolicy", plural="scalingpolicies", short="sp")
    return crd(names, {"spec": spec}, description, _POLICY_COLUMNS)


def scaled_service() -> Schema:
    """CRD of ScaledService."""
    parts = structural(json_schema(ScaledServiceModel), stored=STORED_DEFAULTS)["properties"]
    add_rules(parts["spec"], SCALED_SERVICE_RULES)
    parts["status"]["properties"]["conditions"] |= {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }
    description = "One service that Warmtide scales, or advises on: what it sees, decided and why."
    names = Names(kind="ScaledService", plural="scaledservices", short="scs")
    return crd(names, parts, description, _SERVICE_COLUMNS)


def all_crds() -> tuple[Schema, ...]:
    """Every CRD of the autoscaler."""
    return scaling_policy(), scaled_service()


def as_yaml(definition: Schema) -> str:
    """The text of a CRD's file."""
    return schema.as_yaml(definition, command="python -m autoscaler.crds", source="autoscaler/config.py")


def main() -> None:
    """Write the CRDs beside this checkout, or into the folder given."""
    schema.write_crds({found["metadata"]["name"]: as_yaml(found) for found in all_crds()}, sys.argv[1:])


if __name__ == "__main__":
    main()
