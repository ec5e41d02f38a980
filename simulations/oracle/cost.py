"""What a request costs at least, in seconds of a replica, whatever a policy does.

Every step of an engine takes `a` and a share for each token that it prefills, each request that it decodes and each KV
token that it reads (`simulations.replica.config`). All but `a` belong to single requests. Of `a`, which a step's
requests share, each bears at least its tokens ÷ the tokens that fit in the KV cache, and at least 1 ÷ max_num_seqs:
no step can hold more.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulations.compiled.layout import Records
from simulations.policies.base import Role
from simulations.replica import EngineConfig, StepTimes
from simulations.world.setting import Setting

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What requests cost on a setting's machine at least; the same way of sharing a step's base for all of them.

    `role`: only a prompt and one token that is thrown away, or only decoding a prompt whose KV has come but for its
    last token.
    """

    config: EngineConfig
    times: StepTimes
    shares_by_memory: bool  # else by seats
    role: Role | None = None

    @classmethod
    def of(cls, setting: Setting, role: Role | None = None) -> "Cost":
        """Whichever is scarcer to the first part of the traffic. Memory that prompts share is not scarce."""
        by_memory, by_seats = (
            cls(config=setting.config, times=setting.times, shares_by_memory=choice, role=role)
            for choice in (True, False)
        )
        if setting.config.caches_prefixes:
            return by_seats
        shares = [one._shared_s(setting.requests).sum() for one in (by_memory, by_seats)]
        return by_memory if shares[0] >= shares[1] else by_seats

    def work_s(self, requests: Records) -> Floats:
        """Seconds of a replica, each."""
        return self._prefill_s(self._computed(requests)) + self._decode_s(requests) + self._shared_s(requests)

    def ttft_s(self, requests: Records) -> Floats:
        """To the first token on a replica that does nothing else."""
        prompt = self._computed(requests)
        steps = np.ceil(prompt / self.config.max_num_batched_tokens)
        return steps * (self.times.base_s + self.times.overhead_s) + self._prefill_s(prompt)

    def _computed(self, requests: Records) -> Floats:
        prompt, _ = self._lengths(requests)
        if self.role is Role.DECODE:
            return np.ones_like(prompt)
        # All but the last block may be cached.
        return np.minimum(prompt, self.config.block_size_tokens) if self.config.caches_prefixes else prompt

    def _prefill_s(self, prompt: Floats) -> Floats:
        return self.times.prefill_token_s * prompt + self.times.attention_pair_s * prompt * prompt / 2

    def resident_s(self, requests: Records) -> float:
        """Work left in a replica whose KV cache is full of requests that have just begun to decode."""
        prompt, output = self._lengths(requests)
        held_tokens = float(_token_steps(prompt, output).sum() / output.sum())
        most = float(self.config.max_num_seqs)
        if not self.config.caches_prefixes:
            most = min(most, self.config.kv_capacity_tokens / held_tokens)
        return most * float((self._decode_s(requests) + self._shared_s(requests)).mean())

    def _decode_s(self, requests: Records) -> Floats:
        """The steps after the first token."""
        prompt, output = self._lengths(requests)
        steps = output - 1
        read_tokens = steps * prompt + steps * (steps + 1) / 2
        return self.times.decode_sequence_s * steps + self.times.kv_token_s * read_tokens

    def _shared_s(self, requests: Records) -> Floats:
        """The least of what all requests of a step share."""
        prompt, output = self._lengths(requests)
        fixed_s = self.times.base_s + self.times.overhead_s
        if self.shares_by_memory:
            return fixed_s * _token_steps(prompt, output) / self.config.kv_capacity_tokens
        return fixed_s * output / self.config.max_num_seqs

    def _lengths(self, requests: Records) -> tuple[Floats, Floats]:
        prompt = requests["prompt_tokens"].astype(np.float64)
        if self.role is Role.PREFILL:
            return prompt, np.ones_like(prompt)
        return prompt, requests["output_tokens"].astype(np.float64)


def _token_steps(prompt: Floats, output: Floats) -> Floats:
    """Tokens held, summed over the steps that a request is part of."""
    return output * prompt + output * (output - 1) / 2
