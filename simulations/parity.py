"""Random small worlds, run by the compressed engine and iteration by iteration: do both say the same?"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from simulations.compiled.build import Adapters
from simulations.compiled.fleet import CompiledFleet, replay_compiled, request_records
from simulations.compiled.follows import DECODE_POOL, follow_records
from simulations.compiled.layout import GAP_BOUNDS_S, is_plain
from simulations.compiled.names import names_of
from simulations.fleet import FleetResult, Follow, replay_static
from simulations.replica import AdapterLimits, EngineConfig, Finished, StepTimes
from simulations.routing import Router
from simulations.trace import Arrival

CLOSE_S = 1e-6  # what a closed form and a sum over steps may differ by
BLOCK_TOKENS = 4
CONTEXT_TOKENS = 64
REQUESTS_MAX = 24
# No sum of step durations meets a multiple of this: who arrives in the very moment in which a step ends is chance.
GAP_UNIT_S = 0.0031415926535
GAPS = (0, 0, 1, 2, 7, 31, 400)
TIMES = (
    StepTimes(
        base_s=0.01,
        prefill_token_s=1e-3,
        decode_sequence_s=2e-3,
        kv_token_s=1e-5,
        attention_pair_s=1e-6,
        overhead_s=1e-3,
    ),
    StepTimes(base_s=0.013, prefill_token_s=0.0, decode_sequence_s=0.0, kv_token_s=0.0),
    StepTimes(base_s=1e-4, prefill_token_s=1e-4, decode_sequence_s=1e-5, kv_token_s=1e-2),
)
ROUTERS = tuple(Router)
ADAPTERS = 5
LOADS_S = (0.0, 0.0618)
COURSE = ("arrived_at_s", "scheduled_at_s", "first_token_at_s", "finished_at_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallWorld:
    """Some requests for a small fleet."""

    arrivals: tuple[Arrival, ...]
    block_names: tuple[tuple[int, ...], ...]
    follows: tuple[Follow, ...] = ()
    pools: tuple[int, ...] = ()
    replicas: int
    config: EngineConfig
    times: StepTimes
    router: Router = Router.LEAST_OUTSTANDING
    others: tuple[tuple[EngineConfig, StepTimes], ...] = ()
    kinds: tuple[tuple[EngineConfig, StepTimes], ...] = ()
    kind_of: tuple[int | None, ...] = ()
    adapters: AdapterLimits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How far the two engines are apart, and what happened."""

    largest_s: float  # infinite where they count differently
    preemptions: int
    cached_tokens: int
    following: int  # requests that came when another one ended
    has_adapters: bool
    has_kinds: bool  # replicas on machines of their own
    is_plain: bool  # the kernel without parts served it, too


def small_world(random: np.random.Generator) -> SmallWorld:
    """One of many: crowded or idle, with or without a prefix cache, prompts that share beginnings or do not."""
    arrivals, names, at_s = [], [], 0.0
    families = int(random.integers(1, 5))
    for number in range(int(random.integers(1, REQUESTS_MAX + 1))):
        at_s += GAP_UNIT_S * GAPS[random.integers(len(GAPS))]
        prompt = int(random.integers(1, CONTEXT_TOKENS))
        output = int(random.integers(1, CONTEXT_TOKENS - prompt + 1))
        arrivals.append(Arrival(at_s=at_s, prompt_tokens=prompt, output_tokens=output))
        names.append(_names(random, families, number))
    replicas = int(random.integers(1, 4))
    follows, pools = _follows(random, arrivals, replicas)
    config, adapters = _config(random), None
    if random.random() < 0.4:
        adapters = AdapterLimits(max_loras=int(random.integers(1, ADAPTERS)), load_s=LOADS_S[random.integers(2)])
        follows = tuple(
            replace(follow, adapter=int(random.integers(ADAPTERS + 1)))
            for follow in follows or (Follow(),) * len(arrivals)
        )
    others = ((replace(_config(random), caches_prefixes=config.caches_prefixes), TIMES[0]),) if pools else ()
    times, router = TIMES[random.integers(len(TIMES))], ROUTERS[random.integers(len(ROUTERS))]
    kinds, kind_of = _kinds(random, config, replicas)
    return SmallWorld(
        arrivals=tuple(arrivals),
        block_names=tuple(names),
        follows=follows,
        pools=pools,
        replicas=replicas,
        config=config,
        times=times,
        router=router,
        adapters=adapters,
        others=others,
        kinds=kinds,
        kind_of=kind_of,
    )


def judge(world: SmallWorld) -> Verdict:
    """Run it on both engines, on the compiled one also without gaps: it is another one for who needs no more."""
    reference, fleet, gapless = _plainly(world), _compiled(world, keeps_gaps=True), _compiled(world, keeps_gaps=False)
    expected = reference.requests
    largest_s = max(
        float(np.abs(found.requests[field] - [_time(finished, field) for finished in expected]).max())
        for field in COURSE
        for found in (fleet, gapless)
    )
    preemptions = [finished.preemptions for finished in expected]
    cached_tokens = [finished.cached_tokens for finished in expected]
    is_same = all(map(_agree, fleet.gap_counts.tolist(), reference.gaps_s)) and all(
        found.requests["preemptions"].tolist() == preemptions and found.cached_tokens.tolist() == cached_tokens
        for found in (fleet, gapless)
    )
    return Verdict(
        largest_s=largest_s if is_same else float("inf"),
        preemptions=sum(preemptions),
        cached_tokens=sum(cached_tokens),
        has_adapters=world.adapters is not None,
        has_kinds=any(kind is not None for kind in world.kind_of),
        following=sum(follow.next_request is not None for follow in world.follows),
        is_plain=is_plain(gapless.world),
    )


def _plainly(world: SmallWorld) -> FleetResult:
    return replay_static(
        world.arrivals,
        world.replicas,
        world.config,
        world.times,
        block_names=world.block_names,
        follows=world.follows,
        pools=world.pools,
        router=world.router,
        others=world.others,
        kinds=world.kinds,
        kind_of=world.kind_of,
        adapters=world.adapters,
    )


def _compiled(world: SmallWorld, *, keeps_gaps: bool) -> CompiledFleet:
    return replay_compiled(
        request_records(world.arrivals),
        world.replicas,
        world.config,
        world.times,
        names=names_of(world.block_names),
        follows=follow_records(world.follows) if world.follows else None,
        pools=world.pools,
        router=world.router,
        others=world.others,
        kinds=world.kinds,
        kind_of=world.kind_of,
        adapters=None if world.adapters is None else Adapters(count=ADAPTERS, limits=world.adapters),
        keeps_gaps=keeps_gaps,
    )


def _agree(counts: Sequence[int], gaps_s: Sequence[float]) -> bool:
    """Whether a request's gaps were counted right; one that meets a bound may be on either side of it."""
    ordered, total = sorted(gaps_s), 0
    for count, bound_s in zip(counts, GAP_BOUNDS_S, strict=False):
        total += count
        if not bisect_right(ordered, bound_s - CLOSE_S) <= total <= bisect_right(ordered, bound_s + CLOSE_S):
            return False
    return sum(counts) == len(gaps_s)


def _time(finished: Finished, field: str) -> float:
    return float(getattr(finished.request if field == "arrived_at_s" else finished, field))


def _follows(
    random: np.random.Generator, arrivals: list[Arrival], replicas: int
) -> tuple[tuple[Follow, ...], tuple[int, ...]]:
    """Half of the worlds are open; in others users wait for their answers, or prefill and decode are apart."""
    kind = random.random()
    if kind < 0.5:
        return (), ()
    if kind < 0.75 or replicas == 1:
        return tuple(_users(random, len(arrivals), is_hasty=replicas == 1)), ()
    pools = tuple(slot % 2 for slot in range(replicas))
    prefills = len(arrivals) // 2
    begins = [Follow(next_request=prefills + number, think_s=_think_s(random)) for number in range(prefills)]
    ends = [
        Follow(received_tokens=int(random.integers(0, arrival.prompt_tokens)), pool=DECODE_POOL)
        for arrival in arrivals[prefills:]
    ]
    return (*begins, *ends), pools


def _users(random: np.random.Generator, requests: int, *, is_hasty: bool) -> list[Follow]:
    """With several replicas nobody comes again in the very moment: the others may end a step in it."""
    users = int(random.integers(1, requests + 1))
    return [
        Follow(
            next_request=number + users if number + users < requests else None,
            think_s=0.0 if is_hasty and random.random() < 0.5 else _think_s(random),
        )
        for number in range(requests)
    ]


def _think_s(random: np.random.Generator) -> float:
    return GAP_UNIT_S * (GAPS[random.integers(len(GAPS))] + float(random.random()))


def _names(random: np.random.Generator, families: int, number: int) -> tuple[int, ...]:
    """A beginning that others may have; some go on through the answer, some branch off on the way."""
    blocks = CONTEXT_TOKENS // BLOCK_TOKENS
    known = int(random.integers(0, blocks + 1))
    branches_at = int(random.integers(0, blocks + 1)) if random.random() < 0.5 else blocks
    family = int(random.integers(families)) << 10
    own = (families + number % 3) << 10
    return tuple((family if index < branches_at else own) + index for index in range(known))


def _kinds(
    random: np.random.Generator, config: EngineConfig, replicas: int
) -> tuple[tuple[tuple[EngineConfig, StepTimes], ...], tuple[int | None, ...]]:
    """In half of the worlds single replicas are on machines of two other kinds."""
    if random.random() < 0.5:
        return (), ()
    kinds = tuple(
        (replace(_config(random), caches_prefixes=config.caches_prefixes), TIMES[random.integers(len(TIMES))])
        for _ in range(2)
    )
    return kinds, tuple((None, 0, 1)[random.integers(3)] for _ in range(replicas))


def _config(random: np.random.Generator) -> EngineConfig:
    return EngineConfig(
        max_num_seqs=int(random.integers(1, 7)),
        max_num_batched_tokens=int(random.integers(6, 41)),
        num_gpu_blocks=int(random.integers(CONTEXT_TOKENS // BLOCK_TOKENS + 1, 60)),
        block_size_tokens=BLOCK_TOKENS,
        max_model_len_tokens=CONTEXT_TOKENS,
        caches_prefixes=bool(random.random() < 0.7),
        reserves_full_prompt=bool(random.random() < 0.5),
    )
