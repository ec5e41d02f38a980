"""vLLM's own scheduler without a model, on worlds from stdin; runs in the venv that holds vLLM, without ours.

In: one JSON world per line, `{"limits": {…}, "requests": [{"id", "prompt": [token…], "output_tokens", "step"}]}`, a
request arriving before the step of that number. Out: one line per world, a list of steps
`{"tokens": {id: scheduled}, "preempted": [id…], "finished": [id…]}`. Every generated token is new, so that no answer
is found again by chance; a stand-in for the model says so at once.
"""

import itertools
import json
import os
import sys

os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import torch
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

STEPS_MAX = 100_000  # of one world; a world that goes on hangs
FIRST_NEW_TOKEN = 10_000_000  # above every token of a prompt


def engine_config(model: str, limits: dict):
    """vLLM's configuration; the model is a config.json, never loaded."""
    arguments = EngineArgs(
        model=model,
        skip_tokenizer_init=True,
        load_format="dummy",
        enforce_eager=True,
        max_model_len=limits["max_model_len_tokens"],
        max_num_seqs=limits["max_num_seqs"],
        max_num_batched_tokens=limits["max_num_batched_tokens"],
        enable_prefix_caching=limits["caches_prefixes"],
        block_size=limits["block_size_tokens"],
        async_scheduling=False,
    )
    config = arguments.create_engine_config()
    config.scheduler_config.scheduler_reserve_full_isl = limits["reserves_full_prompt"]
    config.cache_config.num_gpu_blocks = limits["num_gpu_blocks"]
    return config


def scheduler(config, limits: dict) -> Scheduler:
    """A fresh scheduler with an empty cache."""
    spec = FullAttentionSpec(block_size=limits["block_size_tokens"], num_kv_heads=1, head_size=16, dtype=torch.float16)
    cache = KVCacheConfig(
        num_blocks=limits["num_gpu_blocks"],
        kv_cache_tensors=[],
        kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)],
    )
    return Scheduler(
        vllm_config=config,
        kv_cache_config=cache,
        structured_output_manager=StructuredOutputManager(config),
        block_size=limits["block_size_tokens"],
        log_stats=True,
    )


def play(model: str, world: dict) -> list[dict]:
    """All steps until every request has its tokens."""
    limits = world["limits"]
    config = engine_config(model, limits)
    scheduling = scheduler(config, limits)
    hasher = get_request_block_hasher(limits["block_size_tokens"], sha256)
    waiting = sorted(world["requests"], key=lambda request: request["step"])
    new_tokens, steps, requests = itertools.count(FIRST_NEW_TOKEN), [], {}
    for number in range(STEPS_MAX):
        while waiting and waiting[0]["step"] <= number:
            given = waiting.pop(0)
            request = Request(
                request_id=given["id"],
                prompt_token_ids=given["prompt"],
                sampling_params=SamplingParams(
                    max_tokens=given["output_tokens"], min_tokens=given["output_tokens"], ignore_eos=True
                ),
                pooling_params=None,
                arrival_time=float(number),
                block_hasher=hasher if limits["caches_prefixes"] else None,
            )
            requests[given["id"]] = request
            scheduling.add_request(request)
        if not waiting and not scheduling.has_unfinished_requests():
            return steps
        steps.append(step(scheduling, requests, new_tokens))
    raise RuntimeError(f"not done after {STEPS_MAX} steps")


def step(scheduling: Scheduler, requests: dict, new_tokens) -> dict:
    """One iteration: schedule, and answer as a model would."""
    planned = scheduling.schedule()
    names = list(planned.num_scheduled_tokens)
    sampled = []
    for name in names:
        request = requests[name]
        whole = request.num_computed_tokens >= request.num_tokens
        sampled.append([next(new_tokens)] if whole else [])
    answer = ModelRunnerOutput(
        req_ids=names, req_id_to_index={name: index for index, name in enumerate(names)}, sampled_token_ids=sampled
    )
    scheduling.update_from_output(planned, answer)
    finished = sorted(name for name in names if requests[name].is_finished())
    return {
        "tokens": dict(planned.num_scheduled_tokens),
        "preempted": sorted(planned.preempted_req_ids or ()),
        "finished": finished,
    }


def main() -> None:
    """Worlds in, steps out."""
    init_none_hash(sha256)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(play(sys.argv[1], json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
