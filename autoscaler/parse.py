"""Objects of the API → plain values, or an error that names object, field and value."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoscaler.config import DNS_NAME, POLICY_RULES, ScaledServiceSpecModel, ScalingPolicyModel, checked
from autoscaler.convert import to_endpoint, to_schedules, to_spec, to_upstream
from autoscaler.errors import BadSpecError
from autoscaler.rules import SCALED_SERVICE_RULES
from autoscaler.settings import ANNOTATION, Enrolment, ServicePolicy
from autoscaler.spec_errors import shown

# Files an administrator mounted for policies of one namespace: <here>/<namespace>/<name>. A policy names only the
# file, so nobody who may write a policy can have the controller send other files to pods of theirs.
CREDENTIALS_DIR = Path("/etc/warmtide/credentials")


def parse_policy(obj: Mapping[str, Any], credentials_dir: Path = CREDENTIALS_DIR) -> ServicePolicy:
    """A ScalingPolicy object as plain values; BadSpecError names the first field that cannot be used."""
    metadata = obj["metadata"]
    namespace, name = metadata.get("namespace", "default"), metadata["name"]
    policy = checked(ScalingPolicyModel, f"ScalingPolicy {namespace}/{name}", obj.get("spec") or {}, POLICY_RULES)
    return ServicePolicy(
        name=f"{namespace}/{name}",
        spec=to_spec(policy),
        endpoint=to_endpoint(policy, credentials_dir / namespace),
        schedules=to_schedules(policy),
        upstream=to_upstream(policy),
        generation=metadata.get("generation", 0),
    )


def parse_scaled_service(obj: Mapping[str, Any]) -> Enrolment:
    """What a ScaledService object enrols; BadSpecError names the first field that cannot be used."""
    metadata = obj["metadata"]
    owner = f"ScaledService {metadata.get('namespace', 'default')}/{metadata['name']}"
    spec = checked(ScaledServiceSpecModel, owner, obj.get("spec") or {}, SCALED_SERVICE_RULES)
    target = spec.target_ref
    return Enrolment(api_version=target.api_version, kind=target.kind, name=target.name, policy=spec.policy_ref.name)


def parse_annotation(object_name: str, value: str) -> str:
    """The policy named by the annotation of an object such as `InferenceService team-a/llama`."""
    if not re.fullmatch(DNS_NAME, value):
        message = "must be the name of a ScalingPolicy: 1 to 63 of a-z, 0-9 and '-', no '-' at either end"
        raise BadSpecError(object_name, f"metadata.annotations[{ANNOTATION}]", shown(value), message)
    return value
