"""A sentence for every reason: what `warmtide why`, status and Events say to people."""

from autoscaler.policy.types import Reason

SENTENCES: dict[Reason, str] = {
    Reason.FOLLOWING_QUEUE: "waiting requests ask for this many replicas",
    Reason.FOLLOWING_KV_CACHE: "the KV caches in use ask for this many replicas",
    Reason.FOLLOWING_CONCURRENCY: "the requests in the engines ask for this many replicas",
    Reason.FOLLOWING_TOKENS: "the tokens per second ask for this many replicas",
    Reason.FOLLOWING_TTFT: "the time to first token is over its objective",
    Reason.FOLLOWING_ITL: "the time between tokens is over its objective",
    Reason.IDLE: "there are no requests",
    Reason.WITHIN_TOLERANCE: "the change asked for is within the tolerance, so it is ignored",
    Reason.STARTING_COUNTED: "replicas that are starting on time count as supply",
    Reason.STARTING_OVERDUE: "replicas that should be ready by now do not count as supply",
    Reason.FORECAST_RAISED: "the forecast for when a new replica would be ready asks for more",
    Reason.FORECAST_HELD: "the forecast says these replicas are needed again soon",
    Reason.FORECAST_OFF: "the forecast is off: it has not yet proved better than the naive one",
    Reason.NO_FRESH_DATA: "no replica has a fresh sample; blind is not idle, so nothing shrinks",
    Reason.PARTLY_BLIND: "some replicas have no fresh sample; they count as busy when shrinking, as idle when growing",
    Reason.UPSTREAM_UNKNOWN: "what waits upstream is not known: nothing shrinks, and what is at 0 stays there",
    Reason.BELOW_MIN: "the lower bound holds",
    Reason.ABOVE_MAX: "the upper bound holds",
    Reason.SCHEDULE_FLOOR: "a schedule of the policy keeps a floor at this time",
    Reason.PAUSED: "the policy is paused (spec.pause.paused)",
    Reason.PINNED: "the policy holds a fixed number (spec.pause.replicas)",
    Reason.GPU_BUDGET: "the GPU budget allows no more",
    Reason.NOT_SCHEDULABLE: "no more replicas would find a free GPU",
    Reason.RATE_UP: "spec.behavior.scaleUp limits how fast it may grow",
    Reason.RATE_DOWN: "spec.behavior.scaleDown limits how fast it may shrink",
    Reason.STABILIZING_UP: "the stabilization window for growing waits for the wish to last",
    Reason.STABILIZING_DOWN: "the stabilization window for shrinking keeps the highest wish within it",
    Reason.SCALING_DISABLED: "selectPolicy Disabled in spec.behavior switches this direction off",
    Reason.ONE_AT_A_TIME: "replicas leave one at a time, the emptiest first",
    Reason.LAST_WARM_COPY: "the replica that would go holds the last warm copy of a pinned model",
    Reason.KEEPING_ONE: "the last replica stays: scale to zero is not enabled, or not yet due",
    Reason.IDLE_LONG_ENOUGH: "idle for long enough to scale to zero",
    Reason.WAKING: "requests wait upstream, so the service wakes from zero",
    Reason.STEADY: "nothing asks for a change",
}


def sentence(reason: str) -> str:
    """The sentence of a reason by its name; a reason of a newer controller speaks for itself."""
    try:
        return SENTENCES[Reason(reason)]
    except ValueError:
        return reason
