"""Writes metrics pages like vLLM's, of any generation: the material of tests and benchmarks, about 50 kB each.

Names, types, labels and buckets are those of vLLM 0.32 (`names` swaps in older ones); the numbers
follow from `steps`, the engine steps done so far, so that two pages make a window.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

LATENCY_BOUNDS = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
TTFT_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1),
    *(2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
)
ITL_BOUNDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
LENGTH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
STEP_BOUNDS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)

OLD_NAMES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "0.8": MappingProxyType(
            {
                "kv_cache_usage_perc": "gpu_cache_usage_perc",
                "prefix_cache_queries": "gpu_prefix_cache_queries",
                "prefix_cache_hits": "gpu_prefix_cache_hits",
                "inter_token_latency_seconds": "time_per_output_token_seconds",
            }
        ),
        "0.10": MappingProxyType({"inter_token_latency_seconds": "time_per_output_token_seconds"}),
    }
)

_GAUGES = {"num_requests_running": 8, "num_requests_waiting": 3, "kv_cache_usage_perc": 0.5}
_COUNTERS = {
    "prompt_tokens": 160,
    "generation_tokens": 8,
    "prefix_cache_queries": 160,
    "prefix_cache_hits": 40,
    "num_preemptions": 0.01,
    "prompt_tokens_cached": 40,
    "external_prefix_cache_queries": 0,
    "external_prefix_cache_hits": 0,
    "mm_cache_queries": 0,
    "mm_cache_hits": 0,
    "estimated_flops_per_gpu": 0,
    "estimated_read_bytes_per_gpu": 0,
    "estimated_write_bytes_per_gpu": 0,
}
_LABELLED: Mapping[tuple[str, str, str], Mapping[str, float]] = {
    ("num_requests_waiting_by_reason", "gauge", "reason"): {"capacity": 2, "deferred": 1},
    ("engine_sleep_state", "gauge", "sleep_state"): {"awake": 1, "weights_offloaded": 0, "discard_all": 0},
    ("prompt_tokens_by_source", "counter", "source"): {"local_compute": 120, "local_cache_hit": 40},
    ("request_success", "counter", "finished_reason"): {
        "stop": 0.5,
        "length": 0.25,
        "abort": 0.125,
        "error": 0.0625,
        "repetition": 0,
    },
    ("admission_rejections", "counter", "reason"): {"max_num_queued_reqs": 0.25, "max_num_queued_tokens": 0},
}
_HISTOGRAMS = {
    "request_prompt_tokens": LENGTH_BOUNDS,
    "request_generation_tokens": LENGTH_BOUNDS,
    "iteration_tokens_total": STEP_BOUNDS,
    "request_max_num_generation_tokens": LENGTH_BOUNDS,
    "request_params_n": (1, 2, 5, 10, 20),
    "request_params_max_tokens": LENGTH_BOUNDS,
    "time_to_first_token_seconds": TTFT_BOUNDS,
    "inter_token_latency_seconds": ITL_BOUNDS,
    "request_time_per_output_token_seconds": ITL_BOUNDS,
    "e2e_request_latency_seconds": LATENCY_BOUNDS,
    "request_queue_time_seconds": LATENCY_BOUNDS,
    "request_inference_time_seconds": LATENCY_BOUNDS,
    "request_prefill_time_seconds": LATENCY_BOUNDS,
    "request_decode_time_seconds": LATENCY_BOUNDS,
    "request_prefill_kv_computed_tokens": LENGTH_BOUNDS,
    "request_num_preemptions": (0, 1, 2, 5, 10, 20, 50),
}
_OTHERS = {  # of the API process: there on every page, and of no use to us
    "http_request_duration_highr_seconds": TTFT_BOUNDS[:-2],
    "http_request_duration_seconds": (0.1, 0.5, 1),
    "python_gc_pause_seconds": ITL_BOUNDS,
}
_CREATED_AT_S = 1.79520586258e09


def vllm_page(*, steps: float = 1000, engines: int = 1, model_name: str = "m", names: str = "0.32") -> bytes:
    """One page after so many engine steps, of a vLLM generation (0.32, or a key of `OLD_NAMES`)."""
    renamed = OLD_NAMES.get(names, {})
    return "".join(line + "\n" for line in _page(steps, engines, model_name, renamed)).encode()


def _page(steps: float, engines: int, model_name: str, renamed: Mapping[str, str]) -> Iterator[str]:
    for name, bounds in _OTHERS.items():
        yield from _histogram(name, bounds, steps, ['handler="/v1/chat/completions",method="POST"'])
    labels = [f'engine="{engine}",model_name="{model_name}"' for engine in range(engines)]
    for name, value in _GAUGES.items():
        yield from _head(f"vllm:{renamed.get(name, name)}", "gauge")
        yield from (f"vllm:{renamed.get(name, name)}{{{label}}} {float(value)}" for label in labels)
    for name, value in _COUNTERS.items():
        yield from _counter(f"vllm:{renamed.get(name, name)}_total", dict.fromkeys(labels, value * steps))
    for (name, kind, key), values in _LABELLED.items():
        series = {f'{label},{key}="{choice}"': value for label in labels for choice, value in values.items()}
        if kind == "counter":
            yield from _counter(f"vllm:{name}_total", {label: value * steps for label, value in series.items()})
        else:
            yield from _head(f"vllm:{name}", kind)
            yield from (f"vllm:{name}{{{label}}} {float(value)}" for label, value in series.items())
    for name, bounds in _HISTOGRAMS.items():
        yield from _histogram(f"vllm:{renamed.get(name, name)}", bounds, steps, labels)
    yield from _head("vllm:cache_config_info", "gauge")
    for label in labels:
        config = f'block_size="16",cache_dtype="auto",{label},kv_cache_size_tokens="None",num_gpu_blocks="1000"'
        yield f"vllm:cache_config_info{{{config}}} 1.0"


def _head(name: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} What {name} measures, in the words of a help text of the usual length."
    yield f"# TYPE {name} {kind}"


def _counter(name: str, series: Mapping[str, float]) -> Iterator[str]:
    yield from _head(name, "counter")
    yield from (f"{name}{{{label}}} {float(value)}" for label, value in series.items())
    yield from _head(f"{name.removesuffix('_total')}_created", "gauge")
    yield from (f"{name.removesuffix('_total')}_created{{{label}}} {_CREATED_AT_S}" for label in series)


def _histogram(name: str, bounds: tuple[float, ...], steps: float, labels: list[str]) -> Iterator[str]:
    yield from _head(name, "histogram")
    for label in labels:
        for place, bound in enumerate(bounds, start=1):
            # the same share of all observations falls into each bucket, the last included
            yield f'{name}_bucket{{{label},le="{float(bound)}"}} {float(steps * place // (len(bounds) + 1))}'
        yield f'{name}_bucket{{{label},le="+Inf"}} {float(steps)}'
        yield f"{name}_count{{{label}}} {float(steps)}"
        yield f"{name}_sum{{{label}}} {steps * bounds[len(bounds) // 2]}"
    yield from _head(f"{name}_created", "gauge")
    yield from (f"{name}_created{{{label}}} {_CREATED_AT_S}" for label in labels)
