"""OpenAI's completion requests as values, and the answers' JSON."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import RefusedError
from .options import ServerOptions
from .tokens import MESSAGE_TOKENS, Prompt, answer_ids, answer_text, prompt_of_ids, prompt_of_text

Json = dict[str, Any]

COMPLETION_TOKENS_DEFAULT = 16  # OpenAI's, for /v1/completions; a chat may fill the context
CHOICES_MAX = 256  # prompts x n of one request; a real server would run them, a test has no use for more


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One completion request, checked. Every prompt is answered `copies` times."""

    is_chat: bool
    model: str
    prompts: tuple[Prompt, ...]
    copies: int
    max_tokens: int
    output_tokens: int
    finish_reason: str
    streams: bool
    includes_usage: bool
    returns_token_ids: bool
    is_tokens: bool = False  # every prompt came as token ids: no tokenizer is asked

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts."""
        return sum(prompt.tokens for prompt in self.prompts)


def parse_call(body: object, options: ServerOptions, *, is_chat: bool) -> Call:
    """A checked call, or `RefusedError` with the status that vLLM would answer."""
    if not isinstance(body, dict):
        raise RefusedError.bad("The request body must be a JSON object.")
    model = body.get("model") or options.model_name
    if model != options.model_name:
        raise RefusedError(404, "NotFoundError", f"The model `{model}` does not exist.", param="model")
    prompts = _chat_prompts(body, options) if is_chat else _completion_prompts(body, options)
    copies = _integer(body, "n", default=1, least=1)
    if len(prompts) * copies > CHOICES_MAX:
        raise RefusedError.bad(f"{len(prompts)} prompts x n={copies} is more than {CHOICES_MAX} choices.", param="n")
    max_tokens = _max_tokens(body, prompts, options, is_chat=is_chat)
    output_tokens, finish_reason = _answer_length(body, max_tokens, options)
    stream_options = body.get("stream_options") or {}
    if not isinstance(stream_options, dict):
        raise RefusedError.bad("stream_options must be an object.", param="stream_options")
    return Call(
        is_chat=is_chat,
        model=model,
        prompts=prompts,
        copies=copies,
        max_tokens=max_tokens,
        output_tokens=output_tokens,
        finish_reason=finish_reason,
        streams=_flag(body, "stream"),
        includes_usage=_flag(stream_options, "include_usage"),
        returns_token_ids=_flag(body, "return_token_ids"),
        is_tokens=not is_chat and not _holds_text(body.get("prompt")),
    )


def _completion_prompts(body: Json, options: ServerOptions) -> tuple[Prompt, ...]:
    given = body.get("prompt")
    if isinstance(given, str) or (isinstance(given, list) and given and isinstance(given[0], int)):
        given = [given]
    if not isinstance(given, list) or not given:
        raise RefusedError.bad("prompt must be a text, token ids, or a list of either.", param="prompt")
    return tuple(_prompt(one, options) for one in given)


def _holds_text(given: object) -> bool:
    return isinstance(given, str) or (isinstance(given, list) and any(isinstance(one, str) for one in given))


def _prompt(given: object, options: ServerOptions) -> Prompt:
    size = options.engine.block_size_tokens
    if isinstance(given, str):
        return prompt_of_text(given, block_size_tokens=size)
    if not isinstance(given, list) or not given:
        raise RefusedError.bad("prompt must be a text or token ids.", param="prompt")
    try:
        return prompt_of_ids(given, block_size_tokens=size)
    except (OverflowError, TypeError) as exc:
        raise RefusedError.bad(f"prompt holds something that is no token id: {exc}.", param="prompt") from exc


def _chat_prompts(body: Json, options: ServerOptions) -> tuple[Prompt, ...]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise RefusedError.bad("messages must be a list of messages.", param="messages")
    text = "".join(_message_text(message) for message in messages)
    extra_tokens = MESSAGE_TOKENS * len(messages)
    return (prompt_of_text(text, block_size_tokens=options.engine.block_size_tokens, extra_tokens=extra_tokens),)


def _message_text(message: Json) -> str:
    content = message.get("content") or ""
    if isinstance(content, list):
        parts = [part.get("text", "") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    if not isinstance(content, str):
        raise RefusedError.bad("a message's content must be a text or a list of parts.", param="messages")
    return content


def _max_tokens(body: Json, prompts: tuple[Prompt, ...], options: ServerOptions, *, is_chat: bool) -> int:
    context_tokens = options.engine.max_model_len_tokens
    longest = max(prompt.tokens for prompt in prompts)
    name = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    default = max(1, context_tokens - longest) if is_chat else COMPLETION_TOKENS_DEFAULT
    max_tokens = _integer(body, name, default=default, least=1)
    if longest + max_tokens > context_tokens:
        raise RefusedError.bad(
            f"This model's maximum context length is {context_tokens} tokens. However, you requested {max_tokens} "
            f"output tokens and your prompt contains {longest} input tokens, for a total of {longest + max_tokens} "
            "tokens. Please reduce the length of the input prompt or the number of requested output tokens.",
            param="input_tokens",
        )
    return max_tokens


def _answer_length(body: Json, max_tokens: int, options: ServerOptions) -> tuple[int, str]:
    min_tokens = _integer(body, "min_tokens", default=0, least=0)
    if min_tokens > max_tokens:
        raise RefusedError.bad(f"min_tokens is {min_tokens}, more than max_tokens={max_tokens}.", param="min_tokens")
    natural_tokens = max(options.answer_tokens, min_tokens)
    if _flag(body, "ignore_eos") or natural_tokens >= max_tokens:
        return max_tokens, "length"
    return natural_tokens, "stop"


def _integer(body: Json, name: str, *, default: int, least: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise RefusedError.bad(f"{name} must be an integer of at least {least}, got {value!r:.40}.", param=name)
    return value


def _flag(body: Json, name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise RefusedError.bad(f"{name} must be true or false, got {value!r:.40}.", param=name)
    return bool(value)


class Answer:
    """Writes one call's answer, whole or in chunks."""

    def __init__(self, call: Call, *, answer_id: str, created_s: int) -> None:
        self._call = call
        prefix, kind = ("chatcmpl", "chat.completion") if call.is_chat else ("cmpl", "text_completion")
        self._head: Json = {"id": f"{prefix}-{answer_id}", "object": kind, "created": created_s, "model": call.model}
        if call.is_chat and call.streams:
            self._head["object"] = "chat.completion.chunk"
        self._sent = [0] * (len(call.prompts) * call.copies)
        self._choice: Callable[[str, bool], Json] = self._chat_delta if call.is_chat else self._text

    @property
    def completion_tokens(self) -> int:
        """Tokens written so far, in all choices."""
        return sum(self._sent)

    def has_begun(self, choice: int) -> bool:
        """Whether a token of this choice was written."""
        return self._sent[choice] > 0

    def chunk(self, choice: int, tokens: int, finish_reason: str | None) -> bytes:
        """One server-sent event with the next tokens of a choice."""
        start = self._sent[choice]
        self._sent[choice] += tokens
        content = self._choice(answer_text(start, tokens), start == 0)
        return self._event([self._entry(choice, content, start, tokens, finish_reason)])

    def usage_chunk(self) -> bytes:
        """The event after the last tokens, where the client asked for it."""
        return self._event([], usage=self._usage())

    def whole(self, ends: list[tuple[int, str]]) -> Json:
        """The answer in one piece, from every choice's (tokens, finish reason)."""
        self._sent = [tokens for tokens, _ in ends]
        choices = []
        for choice, (tokens, reason) in enumerate(ends):
            text = answer_text(0, tokens)
            content = {"message": {"role": "assistant", "content": text}} if self._call.is_chat else {"text": text}
            choices.append(self._entry(choice, content, 0, tokens, reason))
        return {**self._head, "choices": choices, "usage": self._usage()}

    def _entry(self, choice: int, content: Json, start: int, tokens: int, finish_reason: str | None) -> Json:
        entry = {"index": choice, **content, "logprobs": None, "finish_reason": finish_reason, "stop_reason": None}
        if self._call.returns_token_ids:
            entry["token_ids"] = answer_ids(start, tokens)
        return entry

    def _chat_delta(self, text: str, is_first: bool) -> Json:
        return {"delta": {"role": "assistant", "content": text} if is_first else {"content": text}}

    def _text(self, text: str, is_first: bool) -> Json:
        del is_first
        return {"text": text}

    def _usage(self) -> Json:
        prompt_tokens = self._call.prompt_tokens
        return {
            "prompt_tokens": prompt_tokens,
            "total_tokens": prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
        }

    def _event(self, choices: list[Json], **more: Json) -> bytes:
        return b"data: " + json.dumps({**self._head, "choices": choices, **more}).encode() + b"\n\n"
