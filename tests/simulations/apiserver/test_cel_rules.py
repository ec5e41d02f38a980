"""CEL rules apart from HTTP: numbers, lists, messages, and rules that cannot run."""

import pytest

from simulations.cluster.apiserver.cel_rules import check_rules


def schema(rule, of=None, **more):
    """A schema whose `x` has one rule."""
    return {"type": "object", "properties": {"x": (of or {}) | {"x-kubernetes-validations": [{"rule": rule} | more]}}}


HOLDS = {
    "a double beside an int": ("self > 0.5", {"type": "number"}, 1),
    "text functions": ("self.lowerAscii() == 'ab' && self.split('b').size() == 2", {"type": "string"}, "aB".lower()),
    "all items": ("self.all(i, i > 0)", {"type": "array", "items": {"type": "integer"}}, [1, 2]),
    "a map": ("self.all(k, self[k] > 0)", {"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}),
    "an optional field": ("!has(self.b) || self.b > 1", {"type": "object", "properties": {}}, {"a": 1}),
    "a duration": ("duration(self) <= duration('1h')", {"type": "string"}, "30m"),
}


@pytest.mark.parametrize(("rule", "of", "value"), HOLDS.values(), ids=HOLDS)
def test_a_rule_that_holds_says_nothing(rule, of, value):
    assert check_rules(schema(rule, of), {"x": value}, None) == []


def test_a_broken_rule_without_a_message_is_shown_itself():
    causes = check_rules(schema("self  >  3", {"type": "integer"}), {"x": 1}, None)

    assert [(cause.field, cause.message) for cause in causes] == [
        ("x", 'Invalid value: "integer": failed rule: self > 3')
    ]


def test_a_message_can_be_an_expression():
    rules = schema("self > 3", {"type": "integer"}, messageExpression="'too small: ' + string(self)")

    assert check_rules(rules, {"x": 1}, None)[0].message.endswith("too small: 1")


def test_a_broken_message_expression_falls_back_to_the_message():
    rules = schema("self > 3", {"type": "integer"}, messageExpression="nonsense(", message="too small")

    assert check_rules(rules, {"x": 1}, None)[0].message.endswith("too small")


@pytest.mark.parametrize(
    ("reason", "start"),
    [
        ("FieldValueRequired", "Required value: m"),
        ("FieldValueForbidden", "Forbidden: m"),
        ("FieldValueInvalid", "Invalid value:"),
    ],
)
def test_a_rule_chooses_its_reason(reason, start):
    cause = check_rules(schema("false", {"type": "string"}, reason=reason, message="m"), {"x": ""}, None)[0]

    assert cause.reason == reason
    assert cause.message.startswith(start)


def test_a_rule_that_cannot_run_refuses_and_says_so():
    causes = check_rules(schema("quantity(self) > 1", {"type": "string"}), {"x": "1Gi"}, None)

    assert "quantity" in causes[0].message


def test_a_transition_rule_follows_items_of_a_map_list_by_key():
    items = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}]},
    }
    rules = {"type": "object", "properties": {"x": items}}
    old = {"x": [{"name": "a", "v": 1}, {"name": "b", "v": 5}]}
    new = {"x": [{"name": "b", "v": 4}, {"name": "c", "v": 0}, {"name": "a", "v": 2}]}

    assert [cause.field for cause in check_rules(rules, new, old)] == ["x[0]"]


def test_a_transition_rule_in_a_plain_list_follows_nothing():
    items = {"type": "array", "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]}}

    assert check_rules({"type": "object", "properties": {"x": items}}, {"x": [0]}, {"x": [5]}) == []
