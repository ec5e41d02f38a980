"""One vLLM replica as a pure model: continuous batching, KV blocks, prefix cache, iteration times."""

from .adapters import AdapterLimits
from .config import LLAMA_8B_H100, PROFILES, EngineConfig, StepTimes, profile_gpus
from .engine import Counters, Engine
from .errors import BadEngineConfigError, ReplicaError, RequestTooLongError
from .request import Finished, Request, Step, StepResult, Token

__all__ = [
    "LLAMA_8B_H100",
    "PROFILES",
    "AdapterLimits",
    "BadEngineConfigError",
    "Counters",
    "Engine",
    "EngineConfig",
    "Finished",
    "ReplicaError",
    "Request",
    "RequestTooLongError",
    "Step",
    "StepResult",
    "StepTimes",
    "Token",
    "profile_gpus",
]
