"""Frozen values that are made quickly: a decision is made of hundreds."""

from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

V = TypeVar("V")


def quick(cls: type[V]) -> type[V]:
    """On top of `@dataclass(frozen=True, slots=True, kw_only=True)`: the same class, made two to three times as fast.

    A frozen dataclass sets each field by `object.__setattr__`, since `self.x = …` is forbidden. Here `__init__` fills
    the slots of an open twin, whose fields may be set, and ends as the frozen class; from then on nothing can be set.
    """
    if cls.__bases__ != (object,):
        raise TypeError(f"{cls.__name__} has bases: the slots of an open twin would lie elsewhere")
    own = fields(cls)  # type: ignore[arg-type]  # a dataclass, which no type says of a class
    twin = type(cls.__name__, (), {"__slots__": tuple(field.name for field in own)})
    known: dict[str, object] = {"_put": object.__setattr__, "_open": twin, "_frozen": cls, "_MISSING": MISSING}
    lines = [
        f"def __init__(self, *, {', '.join(_parameter(field, known) for field in own)}):",
        "_put(self, '__class__', _open)",
        *(_filled(field) for field in own),
        "self.__class__ = _frozen",
        *(("self.__post_init__()",) if hasattr(cls, "__post_init__") else ()),
    ]
    exec("\n ".join(lines), known)  # as `dataclasses` makes its own, from nothing but names of fields
    init: Any = known["__init__"]
    init.__qualname__, init.__annotations__ = f"{cls.__qualname__}.__init__", cls.__init__.__annotations__
    cls.__init__ = init  # type: ignore[method-assign]  # that is the point
    return cls


def _parameter(field: "Field[object]", known: dict[str, object]) -> str:
    """A field in the head of `__init__`; what it defaults to becomes known there."""
    known[f"_default_of_{field.name}"] = field.default
    known[f"_make_{field.name}"] = field.default_factory
    if field.default is not MISSING:
        return f"{field.name}=_default_of_{field.name}"
    return f"{field.name}=_MISSING" if field.default_factory is not MISSING else field.name


def _filled(field: "Field[object]") -> str:
    if field.default_factory is MISSING:
        return f"self.{field.name} = {field.name}"
    return f"self.{field.name} = _make_{field.name}() if {field.name} is _MISSING else {field.name}"
