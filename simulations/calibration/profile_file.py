"""A measured machine as a YAML file: what `warmtide sim calibrate` writes and `--profile FILE` reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from simulations.replica import EngineConfig, ReplicaError, StepTimes

from .errors import ProfileError
from .judge import Coverage

FILE_BYTES_MAX = 100_000  # one profile has some forty lines

Seconds = Annotated[float, Field(ge=0, lt=3600, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=2**31)]
HEADER = """\
# A machine as it was measured; written by `warmtide sim calibrate`, read by `warmtide sim run --profile FILE`.
# One iteration takes base + prefillToken·P + decodeSequence·B + kvToken·K + attentionPair·A seconds, with P prefill
# tokens, B decoding requests, K tokens that they read from the KV cache, A pairs of tokens within prefills.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineProfile:
    """What a replica may do, what its iterations cost, and how far that was measured."""

    name: str
    config: EngineConfig
    times: StepTimes
    coverage: Coverage
    request_overhead_s: float = 0.0
    remarks: tuple[str, ...] = ()


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class _Times(_Part):
    base: Seconds
    prefill_token: Seconds
    decode_sequence: Seconds
    kv_token: Seconds
    attention_pair: Seconds = 0.0


class _Engine(_Part):
    max_num_seqs: Count
    max_num_batched_tokens: Count
    num_gpu_blocks: Count
    block_size_tokens: Count = 16
    max_model_len_tokens: Count


class _Coverage(_Part):
    prompt_tokens: Count
    running_requests: Count
    kv_tokens: Count


class _File(_Part):
    name: Annotated[str, Field(min_length=1, max_length=200)]
    step_seconds: _Times
    request_overhead_seconds: Seconds = 0.0
    engine: _Engine
    measured_up_to: _Coverage
    remarks: list[str] = []


def read_profile(path: Path) -> MachineProfile:
    """A profile; ProfileError names file and field."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ProfileError(f"{path}: larger than {FILE_BYTES_MAX:,} bytes")
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _profile(_File.model_validate(document))
    except OSError as exc:
        raise ProfileError(f"{path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ProfileError(f"{path}: cannot be read: {exc}") from exc
    except yaml.YAMLError as exc:
        raise ProfileError(f"{path}: not YAML: {' '.join(str(exc).split())}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the document"
        raise ProfileError(f"{path}: {field}: {first['msg']}, got {str(first['input'])[:40]!r}") from exc
    except ReplicaError as exc:
        raise ProfileError(f"{path}: {exc}") from exc


def profile_text(profile: MachineProfile) -> str:
    """The file's text."""
    times, engine = profile.times, profile.config
    document = _File(
        name=profile.name,
        step_seconds=_Times(
            base=times.base_s + times.overhead_s,
            prefill_token=times.prefill_token_s,
            decode_sequence=times.decode_sequence_s,
            kv_token=times.kv_token_s,
            attention_pair=times.attention_pair_s,
        ),
        request_overhead_seconds=profile.request_overhead_s,
        engine=_Engine(**{name: getattr(engine, name) for name in _Engine.model_fields}),
        measured_up_to=_Coverage(**{name: getattr(profile.coverage, name) for name in _Coverage.model_fields}),
        remarks=list(profile.remarks),
    )
    return HEADER + yaml.safe_dump(document.model_dump(by_alias=True), sort_keys=False, allow_unicode=True)


def _profile(file: _File) -> MachineProfile:
    times, engine, reach = file.step_seconds, file.engine, file.measured_up_to
    return MachineProfile(
        name=file.name,
        config=EngineConfig(**engine.model_dump(), caches_prefixes=False),
        times=StepTimes(
            base_s=times.base,
            prefill_token_s=times.prefill_token,
            decode_sequence_s=times.decode_sequence,
            kv_token_s=times.kv_token,
            attention_pair_s=times.attention_pair,
        ),
        coverage=Coverage(**reach.model_dump()),
        request_overhead_s=file.request_overhead_seconds,
        remarks=tuple(file.remarks),
    )
