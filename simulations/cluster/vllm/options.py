"""What one emulated server is told: vLLM's own flags where vLLM has them, and the emulator's.

Flags that vLLM knows and the emulator does not are ignored, so that a pod written for the real server
starts the emulator as it stands.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NoReturn

from simulations.replica import LLAMA_8B_H100, PROFILES, BadEngineConfigError, EngineConfig, StepTimes

from .errors import BadOptionsError
from .families import VERSIONS

# More arguments for the emulator, where a pod's own must stay those of the real server.
ARGS_VARIABLE = "VLLM_EMULATOR_ARGS"
MODEL_NAME_DEFAULT = "m"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Settings of one emulated server. `time_scale` 10 makes everything ten times as fast."""

    model_name: str = MODEL_NAME_DEFAULT
    engine: EngineConfig = field(default_factory=EngineConfig)
    step_times: StepTimes = LLAMA_8B_H100
    startup_s: float = 0.0
    time_scale: float = 1.0
    stream_interval_tokens: int = 1
    max_num_queued_reqs: int | None = None  # running + waiting
    max_num_queued_tokens: int | None = None  # prompt tokens of requests without a first token
    shutdown_timeout_s: float = 0.0
    answer_tokens: int = 128  # where the model ends by itself: no ignore_eos, max_tokens permitting
    tracks_load: bool = False  # --enable-server-load-tracking
    metrics_version: str = "0.32"

    def __post_init__(self) -> None:
        for name, least in (("time_scale", 1e-3), ("stream_interval_tokens", 1), ("answer_tokens", 1)):
            if not least <= getattr(self, name) < float("inf"):
                raise BadOptionsError(f"ServerOptions.{name} is {getattr(self, name)}, must be at least {least}")
        for name in ("startup_s", "shutdown_timeout_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise BadOptionsError(f"ServerOptions.{name} is {getattr(self, name)}, must be at least 0")
        if not self.model_name:
            raise BadOptionsError("ServerOptions.model_name is empty")
        if self.metrics_version not in VERSIONS:
            known = ", ".join(VERSIONS)
            raise BadOptionsError(f"ServerOptions.metrics_version is {self.metrics_version!r}, known are {known}")

    @property
    def real_step_times(self) -> StepTimes:
        """Iteration times on this machine's clock."""
        return self.step_times.sped_up(self.time_scale)

    @property
    def real_startup_s(self) -> float:
        """Start-up on this machine's clock."""
        return self.startup_s / self.time_scale


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a server listens."""

    host: str
    port: int


class _Parser(argparse.ArgumentParser):
    """Raises where argparse would end the process."""

    def error(self, message: str) -> NoReturn:
        raise BadOptionsError(f"emulator arguments: {message}")


def build_parser() -> argparse.ArgumentParser:
    """Every flag the emulator acts on."""
    default, engine = ServerOptions(), EngineConfig()
    parser = _Parser(prog="python -m simulations.cluster.vllm", description=__doc__, allow_abbrev=False)
    parser.add_argument("--host", default="0.0.0.0")  # as the real server: every interface
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model")
    parser.add_argument("--served-model-name", "--model-name", dest="model_names", nargs="+")
    parser.add_argument("--max-num-seqs", type=int, default=engine.max_num_seqs)
    parser.add_argument("--max-num-batched-tokens", type=int, default=engine.max_num_batched_tokens)
    parser.add_argument("--num-gpu-blocks-override", "--num-gpu-blocks", type=int, default=engine.num_gpu_blocks)
    parser.add_argument("--block-size", type=int, default=engine.block_size_tokens)
    parser.add_argument("--max-model-len", type=int, default=engine.max_model_len_tokens)
    parser.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--stream-interval", type=int, default=default.stream_interval_tokens)
    parser.add_argument("--max-num-queued-reqs", type=int)
    parser.add_argument("--max-num-queued-tokens", type=int)
    parser.add_argument("--shutdown-timeout", type=float, default=default.shutdown_timeout_s)
    parser.add_argument("--enable-server-load-tracking", action="store_true")
    emulated = parser.add_argument_group("of the emulator")
    emulated.add_argument("--profile", choices=sorted(PROFILES), default="llama-3.1-8b-h100", help="iteration times")
    emulated.add_argument("--startup-seconds", type=float, default=default.startup_s)
    emulated.add_argument("--time-scale", type=float, default=default.time_scale)
    emulated.add_argument("--answer-tokens", type=int, default=default.answer_tokens)
    emulated.add_argument("--metrics-version", choices=VERSIONS, default=default.metrics_version)
    return parser


def parse_options(arguments: Sequence[str]) -> tuple[ServerOptions, Listen]:
    """Options of a command line; unknown flags are the real server's and ignored."""
    known, rest = build_parser().parse_known_args([_dashed(word) for word in arguments])
    try:
        engine = EngineConfig(
            max_num_seqs=known.max_num_seqs,
            max_num_batched_tokens=known.max_num_batched_tokens,
            num_gpu_blocks=known.num_gpu_blocks_override,
            block_size_tokens=known.block_size,
            max_model_len_tokens=known.max_model_len,
            caches_prefixes=known.enable_prefix_caching,
        )
    except BadEngineConfigError as exc:
        raise BadOptionsError(f"emulator arguments: {exc}") from exc
    options = ServerOptions(
        model_name=(known.model_names or [known.model or _served_model(rest)])[0],
        engine=engine,
        step_times=PROFILES[known.profile],
        startup_s=known.startup_seconds,
        time_scale=known.time_scale,
        stream_interval_tokens=known.stream_interval,
        max_num_queued_reqs=known.max_num_queued_reqs,
        max_num_queued_tokens=known.max_num_queued_tokens,
        shutdown_timeout_s=known.shutdown_timeout,
        answer_tokens=known.answer_tokens,
        tracks_load=known.enable_server_load_tracking,
        metrics_version=known.metrics_version,
    )
    return options, Listen(known.host, known.port)


def _served_model(rest: Sequence[str]) -> str:
    """MODEL of `vllm serve MODEL …`."""
    following = dict(pairwise(rest)).get("serve", "")
    return MODEL_NAME_DEFAULT if not following or following.startswith("-") else following


def _dashed(word: str) -> str:
    """vLLM takes underscores in a flag's name for dashes; KServe writes `--model_name=NAME`."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else word


def more_arguments(environment: Mapping[str, str]) -> list[str]:
    """Arguments given through the environment."""
    return environment.get(ARGS_VARIABLE, "").split()
