"""Who may do what: tokens, roles, bindings, and how a refusal reads."""

import pytest

RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture
def as_viewer(cluster):
    """Asks as a user without any rights; gives the function to ask with."""

    async def ask(method, path, body=None, **options):
        return await cluster.ask(method, path, body, headers={"Impersonate-User": "viewer"}, **options)

    return ask


@pytest.fixture
def grant(cluster):
    """Gives `viewer` one rule in this test's namespace."""

    async def bind(*rules, kind="User", name="viewer"):
        role = {"metadata": {"name": "r"}, "rules": list(rules)}
        subject = {"kind": kind, "name": name}
        subject |= (
            {"namespace": cluster.space} if kind == "ServiceAccount" else {"apiGroup": "rbac.authorization.k8s.io"}
        )
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
        space = f"{RBAC}/namespaces/{cluster.space}"
        (await cluster.ask("POST", f"{space}/roles", role)).ok()
        binding = {"metadata": {"name": "b"}, "roleRef": ref, "subjects": [subject]}
        (await cluster.ask("POST", f"{space}/rolebindings", binding)).ok()

    return bind


def rule(verbs, resources, group="", **more):
    return {"apiGroups": [group], "resources": resources, "verbs": verbs} | more


async def test_a_wrong_token_is_unauthorized(cluster):
    answer = await cluster.ask("GET", "/api/v1/nodes", headers={"Authorization": "Bearer wrong"})

    assert (answer.code, answer.body["reason"], answer.body["message"]) == (401, "Unauthorized", "Unauthorized")


async def test_nobody_may_look_but_at_health_and_version(stand_in):
    nodes = await stand_in.ask("GET", "/api/v1/nodes", headers={"Authorization": ""})
    health = await stand_in.ask("GET", "/healthz", headers={"Authorization": ""})

    assert nodes.code == 403
    assert 'User "system:anonymous" cannot list resource "nodes"' in nodes.body["message"]
    assert health.code == 200


@pytest.mark.parametrize(
    ("method", "tail", "message"),
    [
        pytest.param("GET", "", 'widgets.G is forbidden: User "viewer" cannot list resource "widgets"', id="list"),
        pytest.param("GET", "/x", 'widgets.G "x" is forbidden: User "viewer" cannot get resource "widgets"', id="get"),
        pytest.param(
            "PATCH",
            "/x/scale",
            'widgets.G "x" is forbidden: User "viewer" cannot patch resource "widgets/scale"',
            id="part",
        ),
    ],
)
async def test_a_refusal_names_user_verb_resource_and_place(cluster, as_viewer, widgets, method, tail, message):
    group = widgets.partition("/")[0]

    answer = await as_viewer(method, cluster.path("widgets", group=widgets) + tail)

    assert (answer.code, answer.body["reason"]) == (403, "Forbidden")
    where = f' in API group "{group}" in the namespace "{cluster.space}"'
    assert answer.body["message"] == message.replace("G", group, 1) + where


async def test_a_refusal_at_cluster_scope_says_so(as_viewer):
    answer = await as_viewer("GET", "/api/v1/nodes")

    assert answer.body["message"] == (
        'nodes is forbidden: User "viewer" cannot list resource "nodes" in API group "" at the cluster scope'
    )


async def test_a_path_that_is_no_resource_needs_a_right_too(as_viewer):
    answer = await as_viewer("GET", "/metrics")

    assert (answer.code, answer.body["message"]) == (403, 'forbidden: User "viewer" cannot get path "/metrics"')


async def test_a_rule_allows_what_it_names_and_no_more(cluster, as_viewer, grant):
    await grant(rule(["get", "list"], ["configmaps"]))

    async def is_allowed():
        return (await as_viewer("GET", cluster.path("configmaps"))).code == 200

    await cluster.until(is_allowed)
    assert (await as_viewer("GET", cluster.path("secrets"))).code == 403
    assert (await as_viewer("DELETE", cluster.path("configmaps", "x"))).code == 403
    assert (await as_viewer("GET", "/api/v1/namespaces/default/configmaps")).code == 403


async def test_a_right_on_objects_is_none_on_their_parts(cluster, as_viewer, grant, deployment):
    (await cluster.ask("POST", cluster.path("deployments", group="apps/v1"), deployment())).ok()
    await grant(rule(["get", "patch"], ["deployments/scale"], group="apps"))
    path = cluster.path("deployments", "web", group="apps/v1")
    patch = {"media_type": "application/merge-patch+json"}

    async def is_allowed():
        return (await as_viewer("PATCH", f"{path}/scale", {"spec": {"replicas": 3}}, **patch)).code == 200

    await cluster.until(is_allowed)
    assert (await as_viewer("PATCH", path, {"spec": {"replicas": 4}}, **patch)).code == 403


async def test_a_rule_can_be_about_named_objects(cluster, as_viewer, grant, config_map):
    for name in ("open", "closed"):
        (await cluster.ask("POST", cluster.path("configmaps"), config_map(name))).ok()
    await grant(rule(["get"], ["configmaps"], resourceNames=["open"]))

    async def is_allowed():
        return (await as_viewer("GET", cluster.path("configmaps", "open"))).code == 200

    await cluster.until(is_allowed)
    assert (await as_viewer("GET", cluster.path("configmaps", "closed"))).code == 403


async def test_a_service_account_is_a_user_with_a_long_name(cluster, grant):
    await grant(rule(["list"], ["configmaps"]), kind="ServiceAccount", name="robot")
    robot = {"Impersonate-User": f"system:serviceaccount:{cluster.space}:robot"}

    async def is_allowed():
        return (await cluster.ask("GET", cluster.path("configmaps"), headers=robot)).code == 200

    await cluster.until(is_allowed)


async def test_a_watch_is_a_verb_of_its_own(cluster, as_viewer, grant):
    await grant(rule(["list"], ["configmaps"]))

    async def is_allowed():
        return (await as_viewer("GET", cluster.path("configmaps"))).code == 200

    await cluster.until(is_allowed)
    assert (await as_viewer("GET", cluster.path("configmaps"), params={"watch": "1"})).code == 403


async def test_one_may_ask_what_one_may(cluster, as_viewer, grant):
    await grant(rule(["list"], ["configmaps"]))

    async def may(verb):
        asked = {"namespace": cluster.space, "verb": verb, "resource": "configmaps"}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        answer = await as_viewer("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
        return answer.ok()["status"]["allowed"]

    async def may_list():
        return await may("list")

    await cluster.until(may_list)
    assert not await may("delete")


async def test_one_may_ask_who_one_is(as_viewer):
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}

    answer = await as_viewer("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)

    assert answer.ok()["status"]["userInfo"]["username"] == "viewer"


async def test_acting_as_somebody_else_is_a_right_of_its_own(stand_in):
    headers = {"Authorization": "Bearer viewer-token", "Impersonate-User": "kubernetes-admin"}

    answer = await stand_in.ask("GET", "/api/v1/nodes", headers=headers)

    assert answer.code == 403
    assert "cannot impersonate" in answer.body["message"]


async def test_a_token_stands_for_a_user_and_its_groups(stand_in):
    role = {"metadata": {"name": "r"}, "rules": [rule(["list"], ["nodes"])]}
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "team"}
    headers = {"Authorization": "Bearer viewer-token"}
    before = await stand_in.ask("GET", "/api/v1/nodes", headers=headers)
    (await stand_in.ask("POST", f"{RBAC}/clusterroles", role)).ok()
    binding = {"metadata": {"name": "b"}, "roleRef": ref, "subjects": [subject]}
    (await stand_in.ask("POST", f"{RBAC}/clusterrolebindings", binding)).ok()

    after = await stand_in.ask("GET", "/api/v1/nodes", headers=headers)

    assert (before.code, after.code) == (403, 200)
