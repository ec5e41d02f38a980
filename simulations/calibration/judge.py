"""How far off a model is, over all and by how loaded the server was, and how far its measurements reach."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulations.compiled.layout import Records

from .errors import ExtrapolationError
from .fit import Latencies
from .runs import Floats, Mask, MeasuredRun, Tokens

# A request is of the regime in which it came: by requests on their way then, as a share of the most that ever were.
REGIMES = (("light", 1 / 3), ("half", 2 / 3), ("heavy", 1.0))
# What the model may be asked beyond what was measured: a tenth is within the scatter of a measurement.
REACH_RATIO = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """(model - real) ÷ real of the means, and the mean |model - real| ÷ real of single requests' ends."""

    requests: int
    ttft_mean_ratio: float
    e2e_mean_ratio: float
    e2e_each_ratio: float

    def text(self) -> str:
        """One line for humans."""
        return (
            f"e2e mean {self.e2e_mean_ratio:+.1%}, TTFT mean {self.ttft_mean_ratio:+.1%}, "
            f"e2e per request ±{self.e2e_each_ratio:.1%} ({self.requests} requests)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The largest load that was measured on one replica."""

    prompt_tokens: int
    running_requests: int
    kv_tokens: int

    def widest(self, other: "Coverage") -> "Coverage":
        """What either covers."""
        return Coverage(**{name: max(getattr(self, name), getattr(other, name)) for name in self.__slots__})

    def check(self, asked: "Coverage") -> None:
        """ExtrapolationError where more is asked than was measured; names what and by how much."""
        beyond = [
            f"{name.replace('_', ' ')} up to {getattr(asked, name):,}, measured up to {getattr(self, name):,}"
            for name in self.__slots__
            if getattr(asked, name) > REACH_RATIO * getattr(self, name)
        ]
        if beyond:
            raise ExtrapolationError("beyond what the profile was measured at: " + "; ".join(beyond))


def errors(run: MeasuredRun, model: Latencies, chosen: Mask) -> Errors:
    """Of the chosen requests; at least one must be."""
    real_s, model_s = run.e2e_s[chosen], model.e2e_s[chosen]
    return Errors(
        requests=int(chosen.sum()),
        ttft_mean_ratio=float(model.ttft_s[chosen].mean() / run.ttft_s[chosen].mean() - 1.0),
        e2e_mean_ratio=float(model_s.mean() / real_s.mean() - 1.0),
        e2e_each_ratio=float(np.abs(model_s / real_s - 1.0).mean()),
    )


def by_regime(run: MeasuredRun, model: Latencies, chosen: Mask, *, peak: int) -> dict[str, Errors]:
    """The same by how many requests were on their way when each came, `peak` being the most in any run.

    Regimes without requests are left out.
    """
    share, low, found = outstanding(run) / peak, 0.0, {}
    for name, high in REGIMES:
        within = chosen & (share > low) & (share <= high)
        if within.any():
            found[name] = errors(run, model, within)
        low = high
    return found


def outstanding(run: MeasuredRun) -> Floats:
    """Requests on their way when each came, itself among them."""
    begun = np.arange(1, len(run) + 1)
    ended = np.searchsorted(np.sort(run.arrived_at_s + run.e2e_s), run.arrived_at_s, side="right")
    return np.asarray(begun - ended, dtype=np.float64)


def coverage_of_run(run: MeasuredRun) -> Coverage:
    """From what was measured: a request reads its blocks from its first token to its last."""
    return _coverage(run.arrived_at_s + run.ttft_s, run.arrived_at_s + run.e2e_s, run.prompt_tokens, run.output_tokens)


def coverage_of_records(requests: Records) -> Coverage:
    """From a simulation; the busiest replica counts."""
    served = requests[np.isfinite(requests["finished_at_s"])]
    found = Coverage(prompt_tokens=0, running_requests=0, kv_tokens=0)
    for replica in np.unique(served["replica"]):
        own = served[served["replica"] == replica]
        columns = (own[name] for name in ("first_token_at_s", "finished_at_s", "prompt_tokens", "output_tokens"))
        found = found.widest(_coverage(*columns))
    return found


def _coverage(first_at_s: Floats, last_at_s: Floats, prompt_tokens: Tokens, output_tokens: Tokens) -> Coverage:
    if not len(first_at_s):
        return Coverage(prompt_tokens=0, running_requests=0, kv_tokens=0)
    at_s = np.concatenate([first_at_s, last_at_s])
    order = np.argsort(at_s, kind="stable")
    middle = prompt_tokens.astype(np.int64) + output_tokens // 2  # a request holds this many halfway
    running = np.cumsum(np.repeat([1, -1], len(first_at_s))[order])
    kv_tokens = np.cumsum(np.concatenate([middle, -middle])[order])
    return Coverage(
        prompt_tokens=int(prompt_tokens.max()), running_requests=int(running.max()), kv_tokens=int(kv_tokens.max())
    )


def worst(found: Sequence[Errors]) -> Errors:
    """The largest of each error, whichever run it is from."""
    return Errors(
        requests=sum(one.requests for one in found),
        ttft_mean_ratio=max((one.ttft_mean_ratio for one in found), key=abs),
        e2e_mean_ratio=max((one.e2e_mean_ratio for one in found), key=abs),
        e2e_each_ratio=max(one.e2e_each_ratio for one in found),
    )
