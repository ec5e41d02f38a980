"""Our engine's batches, step by step, in the form in which another scheduler's can be laid beside them.

A world is a server's limits and requests whose tokens are given, so that a scheduler that hashes tokens finds the same
prefixes as ours, which is told their names. Requests arrive before a step of a given number: time plays no part.
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from simulations.replica import Engine, EngineConfig, Request, StepTimes

STEPS_MAX = 100_000  # a world that goes on hangs
A_SECOND = StepTimes(base_s=1.0, prefill_token_s=0.0, decode_sequence_s=0.0, kv_token_s=0.0)
GROUPS = 3  # of requests with a beginning in common


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A request of a world."""

    id: str
    prompt: tuple[int, ...]
    output_tokens: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Limits and requests, in order of arrival."""

    limits: EngineConfig
    requests: tuple[Given, ...]

    def document(self) -> dict[str, Any]:
        """As JSON knows it."""
        return {"limits": asdict(self.limits), "requests": [asdict(request) for request in self.requests]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step: tokens by request, who lost its blocks, who ended."""

    tokens: dict[str, int]
    preempted: tuple[str, ...]
    finished: tuple[str, ...]

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Batch":
        """From the JSON of another scheduler's step."""
        return cls(
            tokens=document["tokens"], preempted=tuple(document["preempted"]), finished=tuple(document["finished"])
        )


def random_world(seed: int) -> World:
    """Small blocks, few of them: chunked prefill, full batches, preemption and shared beginnings are the rule."""
    random = Random(seed)
    size = random.choice((4, 8, 16))
    seqs = random.randint(1, 8)
    longest = random.randint(12, 120)
    limits = EngineConfig(
        max_num_seqs=seqs,
        max_num_batched_tokens=max(seqs, random.choice((8, 16, 32, 64, 128))),
        num_gpu_blocks=2 + -(-longest // size) + random.randint(0, 30),
        block_size_tokens=size,
        max_model_len_tokens=longest,
        caches_prefixes=random.random() < 0.5,
        reserves_full_prompt=random.random() < 0.7,
    )
    beginnings = [[1_000 * (group + 1) + token for token in range(longest)] for group in range(GROUPS)]
    return World(limits=limits, requests=tuple(_given(random, number, longest, beginnings) for number in range(12)))


def _given(random: Random, number: int, longest: int, beginnings: Sequence[list[int]]) -> Given:
    output_tokens = random.randint(1, max(1, longest // 2))
    prompt_tokens = random.randint(1, longest - output_tokens)
    shared = random.randint(0, prompt_tokens) if random.random() < 0.7 else 0
    own = [100_000 * (number + 1) + token for token in range(prompt_tokens - shared)]
    return Given(
        id=f"r{number:02d}",
        prompt=(*random.choice(beginnings)[:shared], *own),
        output_tokens=output_tokens,
        step=random.randint(0, 40) if random.random() < 0.5 else number,
    )


def our_batches(world: World) -> list[Batch]:
    """What our engine does; a step in which nothing is computed is an empty batch."""
    engine = Engine(world.limits, A_SECOND)
    batches: list[Batch] = []
    waiting = sorted(world.requests, key=lambda request: request.step)
    for number in range(STEPS_MAX):
        while waiting and waiting[0].step <= number:
            engine.submit(_request(waiting.pop(0), world.limits.block_size_tokens))
        if not waiting and not engine.outstanding_requests:
            return batches
        step = engine.start_step(float(number))
        if step is None:
            batches.append(Batch(tokens={}, preempted=(), finished=()))
            continue
        tokens = engine.scheduled_tokens
        finished = sorted(done.request.id for done in engine.finish_step().finished)
        batches.append(Batch(tokens=tokens, preempted=tuple(sorted(step.preempted)), finished=tuple(finished)))
    raise RuntimeError(f"not done after {STEPS_MAX} steps")


def driven_batches(command: Sequence[str | Path], worlds: Sequence[World]) -> list[list[Batch]]:
    """What another scheduler does: a program that reads a world per line and writes its steps per line."""
    done = subprocess.run(
        command,
        input="".join(json.dumps(world.document()) + "\n" for world in worlds),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]  # it may log there, too
    return [[Batch.of(step) for step in json.loads(line)] for line in lines]


def first_difference(ours: Sequence[Batch], theirs: Sequence[Batch]) -> str:
    """The first step that is not the same, in words; empty where all are."""
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return f"step {number}: ours {one}, theirs {other}"
    return "" if len(ours) == len(theirs) else f"ours took {len(ours)} steps, theirs {len(theirs)}"


def _request(given: Given, size: int) -> Request:
    """Full blocks of a prompt are named by all tokens up to their end, as a chain of hashes names them."""
    names = tuple(given.prompt[: end + size] for end in range(0, len(given.prompt) - size + 1, size))
    return Request(
        id=given.id,
        prompt_tokens=len(given.prompt),
        output_tokens=given.output_tokens,
        prefix_block_ids=names,
        arrived_at_s=float(given.step),
    )
