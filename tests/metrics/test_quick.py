"""A quick value is the frozen dataclass that it was, made faster."""

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from metrics.quick import quick


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    name: str
    closed: tuple[int, ...] = ()  # a name that quick values use themselves must not be theirs alone
    known: list[int] = field(default_factory=list, compare=False)
    load: float = 0.5

    def __post_init__(self) -> None:
        if self.load < 0:
            raise ValueError(f"Plain.load must be ≥ 0, got {self.load}")


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    name: str
    closed: tuple[int, ...] = ()
    known: list[int] = field(default_factory=list, compare=False)
    load: float = 0.5

    def __post_init__(self) -> None:
        if self.load < 0:
            raise ValueError(f"Plain.load must be ≥ 0, got {self.load}")


def test_it_says_and_holds_what_the_plain_one_does() -> None:
    plain, same = Plain(name="a", load=2.0), Quick(name="a", load=2.0)

    assert repr(same) == repr(plain).replace("Plain", "Quick")
    assert type(same) is Quick
    assert (same.name, same.closed, same.known, same.load) == ("a", (), [], 2.0)
    assert same == Quick(name="a", load=2.0) != Quick(name="b", load=2.0)
    assert hash(same) == hash(plain)


def test_nothing_can_be_set_once_it_is_made() -> None:
    made = Quick(name="a")

    with pytest.raises(FrozenInstanceError):
        made.name = "b"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del made.load
    with pytest.raises((AttributeError, TypeError)):
        made.other = 1  # type: ignore[attr-defined]
    assert made == Quick(name="a")


def test_what_is_made_by_default_is_each_ones_own() -> None:
    one, other = Quick(name="a"), Quick(name="b")

    one.known.append(1)

    assert other.known == []


def test_it_is_copied_pickled_and_replaced_like_any_dataclass() -> None:
    made = Quick(name="a", closed=(1, 2), known=[3])

    assert copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made  # our own bytes
    assert replace(made, load=1.0) == Quick(name="a", closed=(1, 2), load=1.0)
    assert type(replace(made, load=1.0)) is Quick


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param({}, "name", id="a field is missing"),
        pytest.param({"name": "a", "size": 1}, "size", id="there is no such field"),
    ],
)
def test_wrong_fields_are_named(given: dict[str, object], said: str) -> None:
    with pytest.raises(TypeError, match=rf"Quick\.__init__\(\).*'{said}'"):
        Quick(**given)  # type: ignore[arg-type]


def test_a_bad_state_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="load must be ≥ 0, got -1"):
        Quick(name="a", load=-1.0)


def test_a_class_with_bases_is_refused() -> None:
    class Base:
        __slots__ = ()

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Derived(Base):
        name: str

    with pytest.raises(TypeError, match="Derived has bases"):
        quick(Derived)
