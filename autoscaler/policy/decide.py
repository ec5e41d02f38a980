"""How many replicas, and why. One pure function; controller, simulator, advise mode and `why` all call it.

Its laws, each with a property test:

1. Bounds hold for any input; the GPU budget too.
2. Missing is not zero: an absent, stale or stuck series holds or raises, never lowers. A fresh 0 is zero.
3. More load never means fewer replicas.
4. A forecast only adds: it raises or vetoes a scale-in.
5. Starting replicas count until they are overdue; lenses read totals, so none is ordered twice.
6. Deciding again after applying changes nothing; waking twice as often neither.
7. A fresh memory never shrinks a fleet, nor does a clock that jumps.
8. One victim at a time.
9. Every number has a reason: the steps end at the number decided.
"""

from autoscaler.policy.behavior import wished
from autoscaler.policy.capacity import learn_capacity
from autoscaler.policy.demand import all_waiting, looked
from autoscaler.policy.evidence import Evidence, Lookout, gather, watch_demand
from autoscaler.policy.lead_time import prior, watch_starts
from autoscaler.policy.limits import Case, bounds_of, choose_victim, is_zero_allowed, limits_for
from autoscaler.policy.memory import Memory, caught_up
from autoscaler.policy.propose import foresee, held, on_their_way, propose
from autoscaler.policy.revisit import revisit_at_s
from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.supply import take_stock
from autoscaler.policy.trust import watch_calm
from autoscaler.policy.types import Decision, ForecastReading, LeadTime, Observation, Reason, Step
from autoscaler.policy.what_if import would_change

# Steps that leave the number as it is, and yet are the reason for it.
_TELLING = frozenset(
    {Reason.STARTING_COUNTED, Reason.STARTING_OVERDUE, Reason.IDLE_LONG_ENOUGH, Reason.PAUSED, Reason.PINNED}
)
# A number that is already there and that only a lens speaks for.
_FOLLOWING = frozenset(
    {
        Reason.FOLLOWING_QUEUE,
        Reason.FOLLOWING_KV_CACHE,
        Reason.FOLLOWING_CONCURRENCY,
        Reason.FOLLOWING_TOKENS,
        Reason.FOLLOWING_TTFT,
        Reason.FOLLOWING_ITL,
    }
)


def decide(seen: Observation, policy: PolicySpec, memory: Memory, *, now_s: float) -> tuple[Decision, Memory]:
    """The number of replicas for what is seen now, every reason on the way there, and the next memory."""
    memory = caught_up(memory, seen, now_s)
    fleet = take_stock(seen, policy, memory.starts, memory.requested_at_s, now_s=now_s)
    evidence = gather(seen, policy, fleet, memory, now_s=now_s)
    lookout = watch_demand(seen, policy, memory, evidence.demand_tokens_per_s, now_s=now_s)

    forecast, proposal = foresee(propose(seen, fleet, evidence), seen, policy, evidence, lookout)
    steps = proposal.steps + on_their_way(proposal, fleet)
    steps += held(steps[-1].replicas, seen, fleet, evidence)

    idle_since_s = (now_s if memory.idle_since_s is None else memory.idle_since_s) if evidence.is_idle else None
    case = Case(
        seen=seen,
        policy=policy,
        memory=memory,
        wishes=wished(memory.wishes, steps[-1].replicas, now_s),
        idle_since_s=idle_since_s,
        fleet=fleet,
        bounds=bounds_of(seen, policy, may_be_zero=is_zero_allowed(seen, policy, idle_since_s, now_s)),
        is_leap=evidence.is_leap(fleet.coming),
        now_s=now_s,
    )
    steps = _limited(steps, case)
    memory = _remembered(case, steps[-1].replicas, evidence, lookout)
    return _told(case, memory, steps, evidence, forecast), memory


def _limited(steps: tuple[Step, ...], case: Case) -> tuple[Step, ...]:
    """Every limit in its order; then, where nothing moved, that."""
    number = steps[-1].replicas
    for limit in limits_for(case.policy):
        step = limit(number, case)
        if step is not None:
            steps += (step,)
            number = step.replicas
    if number == case.seen.replicas and _settled_by(steps) in _FOLLOWING:
        steps += (Step(replicas=number, reason=Reason.STEADY),)
    return steps


def _remembered(case: Case, asked_replicas: int, evidence: Evidence, lookout: Lookout | None) -> Memory:
    """What the next decision needs to know of this one."""
    seen, before = case.seen, case.memory
    capacity = learn_capacity(before.capacity, case.fleet, case.policy)
    return Memory(
        decided_at_s=case.now_s,
        seen_replicas=seen.replicas,
        asked_replicas=asked_replicas,
        asked_at_s=case.now_s,
        wishes=case.wishes,
        changes=before.changes,
        requested_at_s=before.requested_at_s,
        shrunk_at_s=before.shrunk_at_s,
        idle_since_s=case.idle_since_s,
        starting=watch_starts(before.starting, seen.pods, case.now_s),
        starts=before.starts,
        looks=looked(before.looks, all_waiting(case.fleet, evidence.upstream_waiting), case.fleet.newest_sample_s),
        capacity=watch_calm(capacity, case.fleet, evidence, case.policy),
        forecast=None if lookout is None else lookout.record,
        open_bin=None if lookout is None else lookout.open_bin,
    )


def _settled_by(steps: tuple[Step, ...]) -> Reason:
    """The reason of the last step that changed the number."""
    reason, number = steps[0].reason, steps[0].replicas
    for step in steps:
        if step.replicas != number or step.reason in _TELLING:
            reason, number = step.reason, step.replicas
    return Reason.STEADY if steps[-1].reason is Reason.STEADY else reason


def _told(
    case: Case, memory: Memory, steps: tuple[Step, ...], evidence: Evidence, forecast: ForecastReading | None
) -> Decision:
    """The decision with all that status, events and `why` need."""
    seen, number = case.seen, steps[-1].replicas
    binding = evidence.binding()
    victim = choose_victim(case) if number < seen.replicas else None
    return Decision(
        service=seen.service,
        decided_at_s=case.now_s,
        current_replicas=seen.replicas,
        replicas=number,
        reason=_settled_by(steps),
        steps=steps,
        lenses=tuple([reading.lens for reading in evidence.readings]),
        binding_lens=None if binding is None else binding.lens.name,
        supply=case.fleet.supply,
        forecast=forecast,
        capacity=evidence.capacity,
        lead_times=_lead_times(memory, case.policy),
        replicas_min=case.bounds.low,
        replicas_max=case.bounds.high,
        victim=None if victim is None else victim.name,
        revisit_at_s=revisit_at_s(case, memory),
        would_change=would_change(case, steps, evidence.readings),
    )


def _lead_times(memory: Memory, policy: PolicySpec) -> tuple[LeadTime, ...]:
    """What was measured, else the prior."""
    if not memory.starts:
        return (prior(policy.lead_time_prior_s),)
    return tuple([record.learned for record in memory.starts])
