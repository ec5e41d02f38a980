"""Tokens without a tokenizer: how many a text has, which blocks equal texts share, what an answer reads like.

A text has one token per four bytes of UTF-8, rounded up, which is what English text averages; a chat
message costs four more for its role and separators. Exact lengths come with token-id prompts.
"""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

BYTES_PER_TOKEN = 4
MESSAGE_TOKENS = 4
_WORDS = ("the", "tide", "comes", "in", "and", "goes", "out", "while", "each", "wave", "finds", "its", "own", "shore")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's length, and names of its full blocks: equal beginnings have equal names."""

    tokens: int
    block_ids: tuple[bytes, ...]


def prompt_of_text(text: str, *, block_size_tokens: int, extra_tokens: int = 0) -> Prompt:
    """A prompt from text. What a template adds counts at the end, where it changes no block's name."""
    content = text.encode()
    tokens = -(-len(content) // BYTES_PER_TOKEN) + extra_tokens
    return Prompt(max(1, tokens), _chain(content, block_size_tokens * BYTES_PER_TOKEN))


def prompt_of_ids(token_ids: Sequence[int], *, block_size_tokens: int) -> Prompt:
    """A prompt from token ids; `OverflowError` and `TypeError` where they are none."""
    ids = array("I", token_ids)
    return Prompt(len(ids), _chain(ids.tobytes(), block_size_tokens * ids.itemsize))


def _chain(content: bytes, block_bytes: int) -> tuple[bytes, ...]:
    """Each full block's digest over its content and the block before it, as vLLM names blocks."""
    names: list[bytes] = []
    parent = b""
    for start in range(0, len(content) - block_bytes + 1, block_bytes):
        parent = hashlib.blake2b(parent + content[start : start + block_bytes], digest_size=12).digest()
        names.append(parent)
    return tuple(names)


def answer_text(start: int, count: int) -> str:
    """The words of an answer's tokens from `start` (0 is the first) on: one word each."""
    return "".join(f" {_WORDS[number % len(_WORDS)]}" for number in range(start, start + count))


def answer_ids(start: int, count: int) -> list[int]:
    """Token ids of the same tokens."""
    return [number % len(_WORDS) + 1 for number in range(start, start + count)]
