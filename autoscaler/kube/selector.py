"""Label selectors of workloads: `matchLabels` and `matchExpressions`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Requirement:
    """One match expression."""

    key: str
    operator: str
    values: frozenset[str]

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet it; an operator we do not know is met by nothing."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case _:
                return False


@dataclass(frozen=True, slots=True)
class Selector:
    """A workload's own selector; an empty one selects nothing, for no workload may select every pod."""

    labels: tuple[tuple[str, str], ...]
    requirements: tuple[Requirement, ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether a pod with these labels belongs to it."""
        if not self.labels and not self.requirements:
            return False
        return all(labels.get(key) == value for key, value in self.labels) and all(
            requirement.holds(labels) for requirement in self.requirements
        )


def selector_of(document: Mapping[str, Any]) -> Selector:
    """A selector from its JSON form."""
    requirements = tuple(
        Requirement(str(r.get("key", "")), str(r.get("operator", "")), frozenset(r.get("values") or ()))
        for r in document.get("matchExpressions") or ()
    )
    return Selector(tuple(sorted((document.get("matchLabels") or {}).items())), requirements)
