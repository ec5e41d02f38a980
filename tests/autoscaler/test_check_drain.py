"""Whether a server that is told to go may finish: judged by its flags and its pod's grace."""

from typing import Any

import pytest

from autoscaler.check_drain import examine_drain
from autoscaler.findings import Verdict


def deployment(*args: str, grace_s: int | None = None, **container: Any) -> dict[str, Any]:
    main = {"name": "kserve-container", "args": list(args)} | container
    pod: dict[str, Any] = {"containers": [{"name": "sidecar", "args": ["--shutdown-timeout=1"]}, main]}
    if grace_s is not None:
        pod["terminationGracePeriodSeconds"] = grace_s
    return {"spec": {"template": {"spec": pod}}}


HOOK = {"preStop": {"sleep": {"seconds": 5}}}
OLD_HOOK = {"preStop": {"exec": {"command": ["/bin/sh", "-c", "sleep 5"]}}}


@pytest.mark.parametrize(
    ("found", "verdict", "said"),
    [
        pytest.param(deployment("--model=m"), Verdict.WARN, "without --shutdown-timeout", id="no timeout"),
        pytest.param(deployment("--shutdown-timeout=0"), Verdict.WARN, "--shutdown-timeout=0", id="a timeout of zero"),
        pytest.param(deployment("--shutdown-timeout=20"), Verdict.OK, "20 s to finish", id="within the default grace"),
        pytest.param(deployment("--shutdown-timeout=21"), Verdict.WARN, "may need 31 s", id="just beyond it"),
        pytest.param(deployment("--shutdown_timeout", "60", grace_s=70), Verdict.OK, "60 s", id="grace just enough"),
        pytest.param(deployment("--shutdown-timeout", "60", grace_s=69), Verdict.WARN, "is 69", id="grace just short"),
        pytest.param(
            deployment("--shutdown-timeout=60", grace_s=74, lifecycle=HOOK),
            Verdict.WARN,
            "75 s",
            id="a hook takes some",
        ),
        pytest.param(
            deployment("--shutdown-timeout=60", grace_s=74, lifecycle=OLD_HOOK),
            Verdict.WARN,
            "75 s",
            id="an older hook",
        ),
        pytest.param(
            deployment(command=["sh", "-c", "exec vllm serve m --shutdown-timeout 30"], grace_s=60),
            Verdict.OK,
            "30 s",
            id="in a shell's words",
        ),
        pytest.param(deployment("--shutdown-timeout=$(T)"), Verdict.OK, "cannot be judged", id="from a variable"),
        pytest.param({"spec": {}}, Verdict.WARN, "without", id="no pod at all"),
    ],
)
def test_a_pod_that_cuts_requests_off_is_named(found: dict[str, Any], verdict: Verdict, said: str) -> None:
    finding = examine_drain("team-a/qwen", found)

    assert finding.subject == "team-a/qwen drain"
    assert finding.verdict is verdict
    assert said in finding.message
    assert bool(finding.todo) is (verdict is Verdict.WARN)
