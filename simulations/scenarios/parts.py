"""What all parts of a scenario file have in common: names in camelCase, nothing unknown, and the kinds of numbers."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Ratio = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
# Gaps of a tenth are already all or nothing; more than 100 is a clock.
Burstiness = Annotated[float, Field(ge=0.05, le=100, allow_inf_nan=False)]
# A number of the YAML of 2009 may look like 16.1e9, which is a float there: bytes are rounded.
Bytes = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=2**31)]


class Part(BaseModel):
    """One part: a mapping of a scenario file."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class PartOrWord(Part):
    """One for all of which a word may stand: the name of a field that is then true."""

    @model_validator(mode="before")
    @classmethod
    def _of_word(cls, given: object) -> object:
        return {given: True} if isinstance(given, str) else given
