"""`warmtide why` in five situations, word for word, and its answers when there is nothing to explain."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from autoscaler import examples
from autoscaler.caching.sight import ModelSight
from autoscaler.conditions import Problem
from autoscaler.crds import all_crds
from autoscaler.errors import ApiFailure, BadSpecError, Forbidden, NotEnrolledError, NotFound, Unauthorized, Unreachable
from autoscaler.examples import NOW_S, decision
from autoscaler.explain import NAMES_SHOWN, complaint, main, read
from autoscaler.explanation import as_json, explain, table
from autoscaler.kube.client import KubeClient
from autoscaler.policy.spec import Mode
from autoscaler.policy.types import (
    Capacity,
    Decision,
    ForecastReading,
    Landing,
    LeadTime,
    LensReading,
    Reason,
    Step,
    Supply,
    Tier,
)
from autoscaler.report import Freshness, ServiceReport, render
from simulations.cluster.apiserver import ApiServer

GOLDEN = Path(__file__).parents[1] / "golden"
LENSES = (
    LensReading(
        name="queue",
        reason=Reason.FOLLOWING_QUEUE,
        replicas=6,
        value=11.0,
        target=2.0,
        unit="waiting requests per replica",
    ),
    LensReading(
        name="kv_cache",
        reason=Reason.FOLLOWING_KV_CACHE,
        replicas=4,
        value=0.913,
        target=0.8,
        unit="used share per replica",
    ),
    LensReading(
        name="ttft", reason=Reason.FOLLOWING_TTFT, replicas=None, target=2.0, unit="s", note="12 of 20 requests"
    ),
)
LEADS = (
    LeadTime(tier=Tier.WARM, node_class="NVIDIA-A100-80GB", p50_s=41.0, p80_s=48.0, p95_s=66.0, starts=7),
    LeadTime(tier=Tier.COLD, node_class="", p50_s=180.0, p80_s=180.0, p95_s=180.0, starts=0),
)
RAMP = Decision(
    service="team-a/llama",
    decided_at_s=NOW_S - 12,
    current_replicas=3,
    replicas=5,
    reason=Reason.RATE_UP,
    steps=(
        Step(replicas=6, reason=Reason.FOLLOWING_QUEUE, detail="11 waiting, 2 per replica"),
        Step(replicas=6, reason=Reason.STARTING_COUNTED, detail="1 starting"),
        Step(replicas=7, reason=Reason.FORECAST_RAISED, detail="p90 9100 tokens/s in 48s"),
        Step(replicas=5, reason=Reason.RATE_UP, detail="2 pods per 60s"),
    ),
    lenses=LENSES,
    binding_lens="queue",
    supply=Supply(ready=3, starting=1),
    forecast=ForecastReading(
        active=True,
        horizon_s=48.0,
        demand_now_tokens_per_s=7200.0,
        demand_p50_tokens_per_s=8000.0,
        demand_p90_tokens_per_s=9100.0,
        replicas=7,
        skill_ratio=0.81,
        method="seasonal",
    ),
    capacity=Capacity(tokens_per_s=1625.0, regime="kv", windows=41),
    lead_times=LEADS,
    replicas_min=1,
    replicas_max=12,
    revisit_at_s=NOW_S + 48,
    would_change=("another 2 pods are allowed in 48s", "without the rate limit it would be 7"),
)
BLIND = Decision(
    service="team-a/llama",
    decided_at_s=NOW_S - 2,
    current_replicas=4,
    replicas=4,
    reason=Reason.NO_FRESH_DATA,
    steps=(Step(replicas=4, reason=Reason.NO_FRESH_DATA, detail="newest sample 95s old, limit 30s"),),
    lenses=(LensReading(name="queue", reason=Reason.FOLLOWING_QUEUE, replicas=None, note="no fresh sample"),),
    supply=Supply(ready=4, blind=4),
    replicas_min=1,
    replicas_max=12,
)
SHRINK = Decision(
    service="team-a/llama",
    decided_at_s=NOW_S - 1,
    current_replicas=4,
    replicas=3,
    reason=Reason.ONE_AT_A_TIME,
    steps=(
        Step(replicas=2, reason=Reason.FOLLOWING_KV_CACHE),
        Step(replicas=3, reason=Reason.ONE_AT_A_TIME),
    ),
    lenses=LENSES[1:2],
    binding_lens="kv_cache",
    supply=Supply(ready=4, overdue=1, asleep=1),
    forecast=ForecastReading(active=False, horizon_s=180.0, note="3 of 30 forecasts matured"),
    victim="llama-predictor-7d9f-x2x1k",
    replicas_min=1,
    replicas_max=12,
)


def report(decided: Decision | None = None, **more: Any) -> ServiceReport:
    usual: dict[str, Any] = {
        "policy_generation": 3,
        "target": "Deployment team-a/llama-predictor",
        "freshness": Freshness(pods_scraped=3, oldest_sample_age_s=1.93),
    }
    return examples.report(decided, **(usual | more))


def scaled_service(*reports: ServiceReport) -> dict[str, Any]:
    status: dict[str, Any] = {}
    for age_s, given in zip(range(60 * len(reports), 0, -60), reports, strict=True):
        status = dict(render(given, status, NOW_S - age_s + 58))
    return {"metadata": {"namespace": "team-a", "name": "llama"}, "status": status}


PAUSED = Decision(
    service="team-a/llama",
    decided_at_s=NOW_S - 2,
    current_replicas=3,
    replicas=3,
    reason=Reason.PAUSED,
    steps=(*RAMP.steps[:1], Step(replicas=3, reason=Reason.PAUSED)),
    supply=Supply(ready=3),
    replicas_min=1,
    replicas_max=12,
)
HPA = Problem(
    reason="HPAConflict",
    message="HorizontalPodAutoscaler team-a/llama: spec.scaleTargetRef names Deployment team-a/llama-predictor; "
    "delete it",
)
ASLEEP = decision(
    0,
    current=0,
    reason=Reason.UPSTREAM_UNKNOWN,
    steps=(Step(replicas=0, reason=Reason.UPSTREAM_UNKNOWN, detail="Prometheus http://p:9090 gave no answer"),),
    supply=Supply(),
    replicas_max=12,
    would_change=("an answer to upstream.query would say whether to wake it; pause.replicas: 1 wakes it by hand",),
)
DEAF = Freshness(upstream_age_s=192.0, upstream_problem="Prometheus http://p:9090 gave no answer")
FAILURES = Freshness(pods_scraped=0, pods_blind=4, scrape_failures={"Timeout": 3, "Refused": 1})
WEIGHTS = ModelSight(
    cache="team-a/llama",
    key="7d8fa26205c8a65f",
    usable=frozenset({"gpu-0", "gpu-1"}),
    landing=Landing(tier=Tier.WARM, node_class="NVIDIA-A100-80GB"),
)
SITUATIONS = {
    "ramp": scaled_service(report(PAUSED), report(RAMP)),
    "blind": scaled_service(report(BLIND, freshness=FAILURES)),
    "refused": scaled_service(report(SHRINK), report(refusal=HPA)),
    "paused": scaled_service(report(PAUSED)),
    "advise": scaled_service(report(RAMP, mode=Mode.ADVISE, incumbent_replicas=4)),
    "cached": scaled_service(report(RAMP, model=WEIGHTS)),
    "shrink": scaled_service(report(SHRINK)),
    "asleep": scaled_service(report(ASLEEP, freshness=DEAF)),
    "bad_policy": scaled_service(
        report(
            SHRINK,
            policy_problem=Problem(
                reason="InvalidPolicy",
                message="ScalingPolicy team-a/gold: spec.replicas.min: 9 must not exceed spec.replicas.max (4)",
            ),
        )
    ),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_why_says_all_of_it(name: str) -> None:
    expected = (GOLDEN / f"why_{name}.txt").read_text(encoding="utf-8")

    assert explain(SITUATIONS[name], NOW_S) == expected


@pytest.mark.parametrize("name", SITUATIONS)
def test_why_is_plain_text(name: str) -> None:
    text = explain(SITUATIONS[name], NOW_S)

    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_every_step_is_told_from_number_to_number_with_its_sentence() -> None:
    lines = explain(SITUATIONS["ramp"], NOW_S).splitlines()

    numbers = [line.split()[:4] for line in lines if "  ->  " in line]
    assert numbers == [
        ["3", "->", "6", "FollowingQueue"],
        ["6", "->", "6", "StartingReplicasCounted"],
        ["6", "->", "7", "ForecastRaised"],
        ["7", "->", "5", "ScaleUpRate"],
    ]


@pytest.mark.parametrize(
    ("freshness", "said"),
    [
        (Freshness(upstream_waiting_requests=12.0, upstream_age_s=1.0), "upstream  12 requests wait, 1s ago"),
        (Freshness(upstream_waiting_requests=1.0, upstream_age_s=1.0), "upstream  1 request waits, 1s ago"),
        (
            Freshness(upstream_waiting_requests=0.0, upstream_age_s=9.0, upstream_problem="HTTP 503"),
            "upstream  0 requests wait, 9s ago; since then: HTTP 503",
        ),
        (Freshness(upstream_problem="HTTP 503"), "upstream  unknown: HTTP 503"),
        (Freshness(upstream_age_s=90.0, upstream_problem="HTTP 503"), "unknown (last answer 1m30s ago): HTTP 503"),
    ],
    ids=["some wait", "one waits", "a query was lost", "never known", "known once"],
)
def test_what_waits_upstream_is_told_with_its_age(freshness: Freshness, said: str) -> None:
    assert said in explain(scaled_service(report(SHRINK, freshness=freshness)), NOW_S)


def test_json_has_a_sentence_for_every_step_and_nothing_opaque() -> None:
    answer = as_json(scaled_service(report(RAMP, learned={"n": 1})))

    assert answer["service"] == "team-a/llama"
    assert "learned" not in answer
    assert answer["decision"]["steps"][0]["sentence"] == "waiting requests ask for this many replicas"
    assert json.loads(json.dumps(answer)) == answer


def test_json_of_what_nobody_looked_at_is_its_name() -> None:
    assert as_json({"metadata": {"name": "llama"}}) == {"service": "default/llama"}


def test_a_service_that_no_controller_looked_at_says_so() -> None:
    assert "no controller has looked at it yet" in explain({"metadata": {"name": "llama"}}, NOW_S)


def test_an_old_answer_says_that_it_is_old() -> None:
    assert "is the controller running?" not in explain(SITUATIONS["ramp"], NOW_S + 100)
    assert "! this was written 1h00m ago: is the controller running?" in explain(SITUATIONS["ramp"], NOW_S + 3600)


def test_a_status_of_another_version_is_read_as_far_as_it_goes() -> None:
    status = {"message": "stays at 3", "time": "someday", "decision": {"replicas": 3}, "reason": "FromTheFuture"}

    assert explain({"metadata": {"name": "llama"}, "status": status}, NOW_S).startswith("default/llama: stays at 3\n")


def test_columns_are_aligned_without_spaces_at_the_end() -> None:
    assert table([["a", "bb", ""], ["ccc", "d", "e"]], indent="") == ["a    bb", "ccc  d   e"]


class Api:
    """ScaledServices by path; an exception stands for the API's refusal."""

    def __init__(self, objects: dict[str, Any]) -> None:
        self._objects = objects

    async def get(self, path: str) -> dict[str, Any]:
        return await self._answer(path)

    async def list(self, path: str) -> Sequence[dict[str, Any]]:
        return await self._answer(path)

    async def _answer(self, path: str) -> Any:
        answer = self._objects.get(path, NotFound(404, "NotFound", path))
        if isinstance(answer, Exception):
            raise answer
        return answer


ALL = "/apis/warmtide.dev/v1alpha1/scaledservices"
ONE = "/apis/warmtide.dev/v1alpha1/namespaces/team-a/scaledservices"


async def test_an_enrolled_service_is_found() -> None:
    found = await read(Api({f"{ONE}/llama": SITUATIONS["ramp"]}), "team-a", "llama")

    assert found == SITUATIONS["ramp"]


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        pytest.param({ALL: [SITUATIONS["ramp"]]}, "Enrolled are:\n  team-a/llama\nTo enrol a service", id="others"),
        pytest.param({ALL: []}, "No service is enrolled yet.\nTo enrol a service, annotate", id="none"),
        pytest.param({ALL: Forbidden(403, "", ""), ONE: [SITUATIONS["ramp"]]}, "  team-a/llama", id="own namespace"),
        pytest.param({}, "install Warmtide's CRDs", id="not installed"),
        pytest.param(
            {ALL: [{"metadata": {"namespace": "n", "name": f"s{i}"}} for i in range(NAMES_SHOWN + 2)]},
            "and 2 more",
            id="many",
        ),
    ],
)
async def test_a_service_that_is_not_enrolled_is_answered_with_those_that_are(
    objects: dict[str, Any], said: str
) -> None:
    with pytest.raises(NotEnrolledError) as raised:
        await read(Api(objects), "team-a", "qwen")

    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (Unauthorized(401, "Unauthorized", "no"), "log in again"),
        (Forbidden(403, "Forbidden", "no"), "You may not read it; ask"),
        (Unreachable(0, "Unreachable", "no"), "is the kubeconfig right?"),
        (ApiFailure(500, "InternalError", "no"), "refused to say"),
        (BadSpecError("kubeconfig x", "content", "", "cannot be used"), "kubeconfig x: content: cannot be used"),
    ],
)
def test_failures_are_told_to_people(failure: Any, said: str) -> None:
    assert said in complaint(failure, "read it")


@pytest.fixture
async def kubeconfig(tmp_path: Path) -> AsyncIterator[Path]:
    """Of an API server with the situations' services."""
    async with ApiServer() as server:
        path = server.write_kubeconfig(tmp_path / "kubeconfig")
        async with KubeClient.from_config(path) as client:
            await client.create("/api/v1/namespaces", {"metadata": {"name": "team-a"}})
            for crd in all_crds():
                await client.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
            target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llama"}
            spec = {"targetRef": target, "policyRef": {"name": "gold"}}
            head = {"apiVersion": "warmtide.dev/v1alpha1", "kind": "ScaledService"}
            await client.create(ONE, head | {"metadata": {"name": "llama"}, "spec": spec})
            await client.patch(f"{ONE}/llama/status", {"status": SITUATIONS["ramp"]["status"]})
        yield path


async def test_the_command_reads_the_cluster(kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = await asyncio.to_thread(main, ["team-a/llama", "--kubeconfig", str(kubeconfig)])
    told = capsys.readouterr().out
    as_data = await asyncio.to_thread(main, ["team-a/llama", "-o", "json", "--kubeconfig", str(kubeconfig)])

    assert (text, as_data) == (0, 0)
    assert "Steps from 3 to 5 replicas, within 1 to 12" in told
    assert json.loads(capsys.readouterr().out) == as_json(SITUATIONS["ramp"])


async def test_the_command_says_what_there_is_instead(kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = await asyncio.to_thread(main, ["qwen", "--kubeconfig", str(kubeconfig)])

    assert code == 1
    assert capsys.readouterr().err.startswith("No service default/qwen is enrolled. Enrolled are:\n  team-a/llama\n")


def test_a_kubeconfig_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["team-a/llama", "--kubeconfig", str(tmp_path / "nowhere")])

    assert code == 1
    assert f"kubeconfig {tmp_path / 'nowhere'}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../x", "a/b/c", "", "A", "a/"])
def test_what_is_no_name_is_called_wrongly(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([name])

    assert raised.value.code == 2
    assert "is not NAMESPACE/NAME" in capsys.readouterr().err
