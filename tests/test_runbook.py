"""What wakes an operator, and what is read then, is what the program says."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from autoscaler.kube.scale import SCALE_REFUSED
from autoscaler.parse import parse_policy
from autoscaler.policies import INVALID_ANNOTATION, INVALID_POLICY, INVALID_SCALED_SERVICE, POLICY_NOT_FOUND
from autoscaler.refusal import RefusalReason
from autoscaler.sentences import SENTENCES
from cacheops.budget import Room
from metrics.examples import busy_telemetry
from nodeagent.report import NodeFacts
from nodeagent.serve import Gauges
from simulations.cluster.real_prometheus import promtool

MANIFESTS = Path(__file__).parents[1] / "manifests"
RUNBOOK = (MANIFESTS / "RUNBOOK.md").read_text(encoding="utf-8")
RULES = yaml.safe_load((MANIFESTS / "components/alerts/prometheus_rule.yaml").read_text(encoding="utf-8"))["spec"]
DASHBOARD = json.loads((MANIFESTS / "components/dashboard/dashboard.json").read_text(encoding="utf-8"))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
PROMTOOL = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on PATH (Debian: prometheus)")
# Series that must fire each alert, as promtool writes them: value+step x count, a sample a minute.
FIRING = {
    "WarmtideNoLeader": ["warmtide_leader{pod='a'} 0x60"],
    "WarmtideServiceProblem": [
        "warmtide_service_problem{service='ns/a',condition='DataFresh',reason='NoFreshData'} 1x60"
    ],
    "WarmtideCannotGrow": ["warmtide_decisions_total{reason='NotSchedulable'} 0+4x60"],
    "WarmtideSlow": [
        "warmtide_signal_to_patch_seconds_bucket{le='5.0'} 0+1x60",
        "warmtide_signal_to_patch_seconds_bucket{le='10.0'} 0+9x60",
        "warmtide_signal_to_patch_seconds_bucket{le='+Inf'} 0+9x60",
    ],
    "WarmtideApiFails": [
        "warmtide_api_requests_total{verb='get',code='503'} 0+3x60",
        "warmtide_api_requests_total{verb='get',code='200'} 0+9x60",
    ],
    "WarmtideModelFailed": ["warmtide_cache_models{node='gpu-1',phase='Failed'} 1x60"],
    "WarmtideFetchStuck": [
        "warmtide_cache_fetch_remaining_bytes{node='gpu-1'} 5000x60",
        "warmtide_cache_fetch_bytes_per_second{node='gpu-1'} 0x60",
    ],
}
WELL = [
    "warmtide_leader{pod='a'} 0x60",
    "warmtide_leader{pod='b'} 1x60",
    "warmtide_decisions_total{reason='FollowingQueue'} 0+9x60",
    "warmtide_signal_to_patch_seconds_bucket{le='5.0'} 0+9x60",
    "warmtide_signal_to_patch_seconds_bucket{le='+Inf'} 0+9x60",
    "warmtide_api_requests_total{verb='get',code='200'} 0+99x60",
    "warmtide_api_requests_total{verb='patch',code='503'} 0+1x60",
    "warmtide_cache_models{node='gpu-1',phase='Failed'} 0x60",
    "warmtide_cache_models{node='gpu-1',phase='Ready'} 3x60",
    "warmtide_cache_fetch_remaining_bytes{node='gpu-1'} 0x60",
    "warmtide_cache_fetch_bytes_per_second{node='gpu-1'} 0x60",
]


def page() -> str:
    """Both pages, with something to say under every name."""
    telemetry = busy_telemetry()
    controller = telemetry.exposition()
    telemetry.shutdown()
    room = Room(held_bytes=10, high_bytes=80, low_bytes=70)
    facts = NodeFacts(models=(), room=room, capacity_bytes=100, free_bytes=90, generation=1, agent="1.0")
    registry = CollectorRegistry()
    registry.register(Gauges(lambda: facts, lambda: 0))
    return (controller + generate_latest(registry)).decode()


def metrics_table(text: str) -> str:
    """A row for each metric: its name, kind, labels and meaning."""
    kinds = dict(re.findall(r"^# TYPE (warmtide_\S+) (\w+)", text, flags=re.M))
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for name, meaning in re.findall(r"^# HELP (warmtide_\S+) (.*)", text, flags=re.M):
        series = re.findall(rf"^{name}(?:_bucket)?{{(.*?)}} ", text, flags=re.M)
        labels = [label for label in re.findall(r"(\w+)=", series[0] if series else "") if label != "le"]
        rows.append(
            f"| `{name}` | {kinds[name]} | {', '.join(f'`{label}`' for label in labels)} | {meaning.rstrip('.')} |"
        )
    return "\n".join(rows)


def between(mark: str) -> str:
    return RUNBOOK.split(f"<!-- {mark} -->\n")[1].split(f"<!-- /{mark} -->")[0].strip()


def test_it_tells_every_reason_of_a_number() -> None:
    rows = ["| reason | it says |", "|---|---|", *(f"| `{reason}` | {text} |" for reason, text in SENTENCES.items())]

    assert between("reasons") == "\n".join(rows), "paste this between the marks"


def test_it_tells_every_metric() -> None:
    assert between("metrics") == metrics_table(page()), "paste this between the marks"


def test_it_tells_every_reason_to_keep_hands_off_and_of_a_policy_that_cannot_be_used() -> None:
    known = [
        *RefusalReason,
        INVALID_POLICY,
        INVALID_ANNOTATION,
        INVALID_SCALED_SERVICE,
        POLICY_NOT_FOUND,
        SCALE_REFUSED,
    ]

    assert [reason for reason in known if f"`{reason}`" not in RUNBOOK] == []


def test_its_patches_of_a_policy_are_taken() -> None:
    patches = [json.loads(text) for text in re.findall(r"""[`'](\{"spec":.*?\})[`']""", RUNBOOK)]
    plain = {"apiVersion": "warmtide.dev/v1alpha1", "kind": "ScalingPolicy", "metadata": {"name": "gold"}}

    taken = [parse_policy(plain | patch).spec for patch in patches]

    assert [(spec.pinned_replicas, spec.paused) for spec in taken] == [(6, False), (None, False), (None, True)]


def test_it_tells_every_alert() -> None:
    assert re.findall(r"^\| `(Warmtide\w+)`", RUNBOOK, flags=re.M) == list(ALERTS) == list(FIRING)


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in ALERTS.values()), *QUERIES])
def test_alerts_and_dashboard_ask_for_what_is_there(query: str) -> None:
    there = set(re.findall(r"^(warmtide_\w+)", page(), flags=re.M))

    asked = set(re.findall(r"warmtide_\w+", query))

    assert asked
    assert asked <= there


@PROMTOOL
async def test_a_real_prometheus_takes_alerts_and_queries(tmp_path: Path) -> None:
    recorded = [
        {"record": f"panel:{number}", "expr": query.replace("$service", ".*")} for number, query in enumerate(QUERIES)
    ]
    rules = {"groups": [*RULES["groups"], {"name": "dashboard", "rules": recorded}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")

    said = await promtool("check", "rules", "rules.yaml", folder=tmp_path)

    assert f"{len(ALERTS) + len(QUERIES)} rules found" in said


@PROMTOOL
@pytest.mark.slow
async def test_each_alert_fires_when_it_should_and_none_when_all_is_well(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES), encoding="utf-8")
    cases = [case(series, [alert]) for alert, series in FIRING.items()] + [case(WELL, [])]
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")

    assert "SUCCESS" in await promtool("test", "rules", "cases.yaml", folder=tmp_path)


def case(series: list[str], firing: list[str]) -> dict[str, object]:
    """After 45 minutes these alerts fire, and no others; what is not a matter of the case is well."""
    given = {name: values for name, values in (line.rsplit(" ", 1) for line in [*WELL, *series])}
    if "WarmtideNoLeader" in firing:
        del given["warmtide_leader{pod='b'}"]
    tests = [
        {
            "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
            "eval_time": "45m",
            "exp_samples": [{"labels": "{}", "value": float(alert in firing)}],
        }
        for alert in ALERTS
    ]
    return {
        "interval": "1m",
        "input_series": [{"series": n, "values": v} for n, v in given.items()],
        "promql_expr_test": tests,
    }
