"""What kubectl reads: tables, discovery, and kubectl itself."""

import asyncio
import shutil

import pytest
import yaml

from simulations.cluster.apiserver import ApiServer, ServerOptions
from simulations.cluster.apiserver.table import age, find

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
METADATA = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"}


async def test_custom_columns_are_cells(cluster, widgets, widget):
    path = cluster.path("widgets", group=widgets)
    (await cluster.ask("POST", path, widget(size=3))).ok()
    conditions = [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]
    (await cluster.patch(f"{path}/one/status", {"status": {"conditions": conditions}})).ok()

    table = (await cluster.ask("GET", path, headers=TABLE)).ok()

    assert table["kind"] == "Table"
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Size", "Ready", "Age"]
    name, size, ready, age_ = table["rows"][0]["cells"]
    assert (name, size, ready) == ("one", 3, "True")
    assert age_.endswith("s")
    assert table["rows"][0]["object"]["metadata"]["name"] == "one"


async def test_an_absent_value_is_an_empty_cell(cluster, widgets, widget):
    path = cluster.path("widgets", group=widgets)
    (await cluster.ask("POST", path, widget())).ok()

    table = (await cluster.ask("GET", path, headers=TABLE)).ok()

    assert table["rows"][0]["cells"][2] is None


async def test_deployments_have_the_columns_of_old(cluster, deployment):
    (await cluster.ask("POST", cluster.path("deployments", group="apps/v1"), deployment(replicas=3))).ok()

    table = (await cluster.ask("GET", cluster.path("deployments", group="apps/v1"), headers=TABLE)).ok()

    assert [column["name"] for column in table["columnDefinitions"]][:4] == ["Name", "Ready", "Up-to-date", "Available"]
    assert table["rows"][0]["cells"][:4] == ["web", "0/3", 0, 0]


async def test_metadata_can_be_had_alone(cluster, deployment):
    (await cluster.ask("POST", cluster.path("deployments", group="apps/v1"), deployment())).ok()

    listed = (await cluster.ask("GET", cluster.path("deployments", group="apps/v1"), headers=METADATA)).ok()

    assert listed["kind"] == "PartialObjectMetadataList"
    assert listed["items"][0]["metadata"]["name"] == "web"
    assert "spec" not in listed["items"][0]


async def test_resources_are_discovered_with_their_parts(cluster):
    listed = (await cluster.ask("GET", "/apis/apps/v1")).ok()

    found = {entry["name"]: entry for entry in listed["resources"]}
    assert found["deployments"]["shortNames"] == ["deploy"]
    assert found["deployments"]["namespaced"] is True
    assert found["deployments/scale"]["kind"] == "Scale"
    assert set(found["deployments"]["verbs"]) >= {"create", "delete", "get", "list", "patch", "update", "watch"}


async def test_a_crd_is_discovered(cluster, widgets):
    async def is_listed():
        answer = await cluster.ask("GET", f"/apis/{widgets}")
        return answer.code == 200 and any(entry["name"] == "widgets/scale" for entry in answer.body["resources"])

    await cluster.until(is_listed)
    groups = (await cluster.ask("GET", "/apis")).ok()["groups"]
    assert widgets.partition("/")[0] in {group["name"] for group in groups}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/livez"])
async def test_health_is_plain_text(cluster, path):
    answer = await cluster.ask("GET", path)

    assert (answer.code, answer.body) == (200, "ok")


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (0, "0s"), (119, "119s"), (120, "2m"), (185, "3m5s"), (600, "10m"), (3 * 3600, "3h"), (3 * 3600 + 60, "3h1m"),
        (9 * 3600, "9h"), (47 * 3600, "47h"), (48 * 3600, "2d"), (-5, "0s"),
    ],
)  # fmt: skip
def test_ages_read_as_kubectl_writes_them(duration_s, text):
    assert age(duration_s) == text


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".a.b", [1]),
        (".l[*].n", ["x", "y"]),
        (".l[1].n", ["y"]),
        ('.l[?(@.n=="y")].v', [2]),
        (r".m.d\.e", [3]),
        (".m['d.e']", [3]),
        (".gone.deep", []),
    ],
)
def test_column_paths_find_their_values(path, expected):
    obj = {"a": {"b": 1}, "l": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "m": {"d.e": 3}}

    assert list(find(obj, path)) == expected


@pytest.fixture
async def kubectl(tmp_path):
    """Runs kubectl on an embedded server with TLS; gives its output."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("kubectl is not installed")
    async with ApiServer(options=ServerOptions(tls=True)) as server:
        config = server.write_kubeconfig(tmp_path / "kubeconfig")

        async def run(*args, stdin=None):
            child = await asyncio.create_subprocess_exec(
                program, "--kubeconfig", str(config), f"--cache-dir={tmp_path}", *args,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            out, _ = await child.communicate(None if stdin is None else yaml.safe_dump(stdin).encode())
            return child.returncode, out.decode()

        yield run


async def test_kubectl_applies_scales_shows_and_deletes(kubectl, deployment):
    applied = await kubectl("apply", "-f", "-", stdin=deployment(replicas=2))
    changed = await kubectl("apply", "-f", "-", stdin=deployment(replicas=4))
    scaled = await kubectl("scale", "deploy/web", "--replicas=6")
    code, shown = await kubectl("get", "deploy", "web")
    deleted = await kubectl("delete", "deploy", "web")

    assert applied == (0, "deployment.apps/web created\n")
    assert changed == (0, "deployment.apps/web configured\n")
    assert scaled == (0, "deployment.apps/web scaled\n")
    assert code == 0
    assert shown.split()[:5] == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert "0/6" in shown
    assert deleted[0] == 0
