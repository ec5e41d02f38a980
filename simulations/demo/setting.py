"""What the demo plays: one emulated server, one hour compressed into seconds, one policy fitted to that.

The shape of the hour, start-up times and the policy's windows shrink by one and the same compression.
Requests run in real time on a replica that is half as fast as the profile it is named after, so that
a fleet of eight is busy with what two cores can generate.
"""

from dataclasses import dataclass

from simulations.replica import PROFILES, EngineConfig, StepTimes

HOUR_S = 3600.0
SECONDS_DEFAULT = 90.0
SEED_DEFAULT = 2
SECONDS_MIN, SECONDS_MAX = 30.0, 3600.0  # below, reaction times outweigh the hour; above, nothing is compressed

PROFILE = "llama-3.1-8b-a100"
TIME_SCALE = 0.5
OUTPUT_RATIO = 0.125  # answers and with them drains shrink too, if less than time does
PEAK_REPLICAS = 8  # what the busiest minutes of the hour shall need
SWING = 4.0  # busiest : quietest; the hour alone has 2.5, days of ServeGen's language models 2 to 4
TTFT_OBJECTIVE_S = 2.0

REPLICAS_MIN, REPLICAS_MAX = 3, 8
NODES, GPUS_PER_NODE = 4, 3  # room for the largest fleet and for replicas on their way out

# A real start of such a model, before compression: image, weights, then loading, compiling and capturing graphs.
IMAGE_PULL_S, COLD_WEIGHTS_S, WARM_WEIGHTS_S, LOAD_S = 20.0, 60.0, 10.0, 120.0
STABILIZATION_UP_S, STABILIZATION_DOWN_S = 40.0, 200.0  # before compression; the HPA's defaults are 0 and 300 s

NAMESPACE, SERVICE, POLICY, MODEL = "demo", "chat", "demo", "llama"
# The act before the traffic: a model of a hub, and a service that is started twice with it.
CACHED_SERVICE, MODEL_URI, MODEL_BYTES = "cached", "hf://demo/llama-tiny", 200_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One run of the demo."""

    seconds: float = SECONDS_DEFAULT
    seed: int = SEED_DEFAULT

    def __post_init__(self) -> None:
        if not SECONDS_MIN <= self.seconds <= SECONDS_MAX:
            raise ValueError(f"seconds must be from {SECONDS_MIN:g} to {SECONDS_MAX:g}, got {self.seconds:g}")

    @property
    def compression(self) -> float:
        """How many seconds of the hour pass in one of the demo."""
        return HOUR_S / self.seconds

    def compressed_s(self, real_s: float) -> float:
        """A real duration as the demo plays it."""
        return real_s / self.compression

    @property
    def cold_start_s(self) -> float:
        """A start on a node that has neither image nor weights."""
        return self.compressed_s(IMAGE_PULL_S + COLD_WEIGHTS_S + LOAD_S)

    @property
    def engine(self) -> EngineConfig:
        """Limits of one replica; the KV cache holds about fifty of these requests."""
        return EngineConfig(
            max_num_seqs=64,
            max_num_batched_tokens=1024,
            num_gpu_blocks=4096,
            max_model_len_tokens=16_384,  # the longest prompt of the Azure trace has 14,050 tokens
            caches_prefixes=False,  # a trace without contents has no shared prefixes to find
        )

    @property
    def step_times(self) -> StepTimes:
        """What its iterations cost."""
        return PROFILES[PROFILE].sped_up(TIME_SCALE)
