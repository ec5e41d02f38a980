"""Policies by name, with the parameters that their makers publish."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from autoscaler.policy.spec import LensTargets, Mode, Objectives, PolicySpec
from simulations.replica import PROFILES, EngineConfig

from .aibrix import Aibrix, Strategy
from .base import Bounds, Policy, Site
from .capacity import profile
from .dynamo import ITL_S as DYNAMO_ITL_S
from .dynamo import DynamoLoad, DynamoThroughput
from .foresight import Course, Foresight
from .keda import epp_guard, epp_tokens, epp_windows, production_stack, queue_hpa, slo_aware
from .kpa import TARGET_REQUESTS as KPA_REQUESTS
from .kpa import Kpa
from .ray_serve import TARGET_REQUESTS as RAY_REQUESTS
from .ray_serve import RayServe
from .seasonal import seasonal_naive
from .series import OUTPUT_GUESS_TOKENS, PROMPT_GUESS_TOKENS, kv_cache_usage
from .skyserve import SkyServe
from .warmtide import Warmtide
from .wva import by_saturation, by_tokens

# What a user without a site of his own is taken to run.
DEFAULT_SITE = Site(config=EngineConfig(), times=PROFILES["llama-3.1-8b-l40s"])
AIBRIX_KV_RATIO = 0.5  # targetValue of AIBrix' samples/autoscaling/{apa,kpa}.yaml
# Who sets a target from a load test leaves a fifth of what was measured.
LOAD_TEST_RATIO = 0.8
FORESIGHT = "warmtide-foresight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be built, and for whom."""

    bounds: Bounds
    ttft_s: float
    lead_time_s: float
    site: Site
    as_released: bool = True  # with the known bugs of its maker's release


Maker = Callable[[Order], Policy]


def build(name: str, bounds: Bounds, *, ttft_s: float, lead_time_s: float, site: Site = DEFAULT_SITE) -> Policy:
    """A policy with a fresh memory; ValueError names those there are."""
    maker = MAKERS.get(name)
    if maker is None:
        raise ValueError(f"no policy named {name!r}; there are: static, {', '.join(NAMES)}")
    return maker(Order(bounds=bounds, ttft_s=ttft_s, lead_time_s=lead_time_s, site=site))


def warmtide_spec(
    bounds: Bounds, *, ttft_s: float, lead_time_s: float, eagerness_ratio: float = 1.0, itl_s: float | None = None
) -> PolicySpec:
    """Defaults, but for what a user has to say: bounds and the objectives."""
    plain = LensTargets()
    return PolicySpec(
        mode=Mode.DIRECT,
        replicas_min=bounds.low,
        replicas_max=bounds.high,
        objectives=Objectives(
            ttft_s=ttft_s / eagerness_ratio, itl_s=None if itl_s is None else itl_s / eagerness_ratio
        ),
        targets=LensTargets(
            queue_requests=(plain.queue_requests or 0.0) / eagerness_ratio,
            kv_cache_usage_ratio=min(1.0, (plain.kv_cache_usage_ratio or 0.0) / eagerness_ratio),
            headroom_ratio=min(1.0, plain.headroom_ratio / eagerness_ratio),
        ),
        lead_time_prior_s=lead_time_s,
    )


def _warmtide(order: Order) -> Warmtide:
    spec = warmtide_spec(
        order.bounds,
        ttft_s=order.ttft_s,
        lead_time_s=order.lead_time_s,
        eagerness_ratio=order.site.eagerness_ratio,
        itl_s=order.site.itl_s,
    )
    return Warmtide(spec=spec)


def _foresight(order: Order) -> Policy:
    if order.site.requests is None:
        raise ValueError(f"{FORESIGHT} must be told the traffic: Site.requests is None")
    return Foresight(inner=_warmtide(order), course=Course(order.site.requests), lead_time_s=order.lead_time_s)


def _aibrix(strategy: Strategy) -> Maker:
    def make(order: Order) -> Policy:
        target = AIBRIX_KV_RATIO / order.site.eagerness_ratio
        return Aibrix(
            bounds=order.bounds,
            strategy=strategy,
            read=kv_cache_usage,
            target=target,
            as_released=order.as_released,
        )

    return make


def _kpa(order: Order) -> Policy:
    return Kpa(bounds=order.bounds, target_requests=KPA_REQUESTS / order.site.eagerness_ratio)


def _ray(order: Order) -> Policy:
    return RayServe(bounds=order.bounds, target_requests=RAY_REQUESTS / order.site.eagerness_ratio)


def _sky(order: Order) -> Policy:
    each = profile(order.site, (PROMPT_GUESS_TOKENS, OUTPUT_GUESS_TOKENS), ttft_s=order.ttft_s, itl_s=order.ttft_s)
    target_per_s = LOAD_TEST_RATIO * each.requests_per_s / order.site.eagerness_ratio
    return SkyServe(bounds=order.bounds, target_per_s=target_per_s)


def _seasonal(order: Order) -> Policy:
    each = profile(order.site, (PROMPT_GUESS_TOKENS, OUTPUT_GUESS_TOKENS), ttft_s=order.ttft_s, itl_s=order.ttft_s)
    return seasonal_naive(order.bounds, target_requests=LOAD_TEST_RATIO * each.concurrency / order.site.eagerness_ratio)


def _throughput(order: Order) -> Policy:
    itl_s = order.site.itl_s or DYNAMO_ITL_S
    return DynamoThroughput(bounds=order.bounds, site=order.site, ttft_s=order.ttft_s, itl_s=itl_s)


MAKERS: dict[str, Maker] = {
    "warmtide": _warmtide,
    "hpa-queue": lambda order: queue_hpa(order.bounds, order.site),
    "keda-prodstack": lambda order: production_stack(order.bounds, order.site, is_zero_when_lost=order.as_released),
    "keda-epp-queue": lambda order: epp_windows(order.bounds, order.site, is_zero_when_lost=order.as_released),
    "keda-epp-guard": lambda order: epp_guard(order.bounds, order.site),
    "keda-epp-token": lambda order: epp_tokens(order.bounds, order.site, is_zero_when_lost=order.as_released),
    "keda-slo": lambda order: slo_aware(order.bounds, order.site, ttft_s=order.ttft_s),
    "kpa": _kpa,
    "wva-saturation": lambda order: by_saturation(order.bounds, order.site),
    "wva-token": lambda order: by_tokens(order.bounds, order.site),
    "aibrix-apa": _aibrix(Strategy.APA),
    "aibrix-kpa": _aibrix(Strategy.KPA),
    "dynamo-load": lambda order: DynamoLoad(bounds=order.bounds, site=order.site, as_released=order.as_released),
    "dynamo-throughput": _throughput,
    "ray-serve": _ray,
    "skyserve": _sky,
    "seasonal-naive": _seasonal,
}
NAMES = tuple(MAKERS)


def _mended(maker: Maker) -> Maker:
    return lambda order: maker(replace(order, as_released=False))


# Those with known bugs, without them: as documented, or as mended since.
MENDED = {
    f"{name}-mended": _mended(MAKERS[name])
    for name in ("keda-prodstack", "keda-epp-queue", "keda-epp-token", "aibrix-apa", "aibrix-kpa", "dynamo-load")
}
MAKERS |= MENDED
# Not an autoscaler that anyone can run: it knows what will come.
MAKERS[FORESIGHT] = _foresight
