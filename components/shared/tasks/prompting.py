"""How a question becomes token ids: in the form of the tokenizer's chat template, or bare behind <bos>.

A model that was tuned to chat answers in its template and says little or nothing without it; the byte tokenizer's models
are trained on bare rows. Which of the two holds is a property of the tokenizer, so that training, evaluation, generation
and the agent all write the same row for the same question:

    bare      <bos> system prompt [<think>] │ [scratch </think>] answer <eos>
    template  the template's system and user messages, generation prompt [<think>] │ [scratch </think>] answer end-of-turn

The bar is where generation begins: what is before it is the head, what is after it the tail, and the two are tokenised
apart. Thoughts stand inside the assistant's turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from components.shared.runtime.errors import InputError

from .item import EXACT, Item
from .tokenizer import CHAT_TEMPLATE

Message = Mapping[str, str]
"""{"role": "system", "user" or "assistant", "content": text}"""

THOUGHT_WORDS = (("<think>", "</think>"), ("<|startofthought|>", "<|endofthought|>"))
"""The pairs of words that enclose a thought: DeepSeek's and Qwen's (and the byte tokenizer's), and Quiet-STaR's."""

FIXED_DATE = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"
"""Templates that write today's date write this one into items: the same items are the same rows on every day. It is what
Llama's template falls back to."""


class ThoughtWords(NamedTuple):
    """The words that enclose a thought."""

    start: str
    end: str


def thought_words(tokenizer: PreTrainedTokenizerBase) -> ThoughtWords:
    """The pair that the tokenizer has as single tokens; the first of THOUGHT_WORDS where it has none."""
    vocabulary = tokenizer.get_vocab()
    pairs = (pair for pair in THOUGHT_WORDS if vocabulary.keys() >= set(pair))
    return ThoughtWords(*next(pairs, THOUGHT_WORDS[0]))


def thought_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int] | None:
    """The ids of the words that enclose a thought; None where they are no tokens of this tokenizer."""
    start, end = (tokenizer.get_vocab().get(word) for word in thought_words(tokenizer))
    return None if start is None or end is None else (int(start), int(end))


def has_chat_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer brings a form of its own; the template of bare rows in turns is none."""
    template = getattr(tokenizer, "chat_template", None)
    return isinstance(template, str | dict) and template not in ("", CHAT_TEMPLATE)


def text_heads(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Bare texts behind <bos>, where the tokenizer has one."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    encoded = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return [start + ids for ids in encoded]


def head_ids(
    items: Sequence[Item], tokenizer: PreTrainedTokenizerBase, *, thinking: Sequence[bool]
) -> list[list[int]]:
    """What stands in front of the answer of each item, or of its scratch.

    :param thinking: for each item, whether a thought is begun; where it is not, a template that begins one by itself is
        told not to, or its thought is closed at once.
    :raises InputError: the chat template cannot be used.
    """
    words = thought_words(tokenizer)
    if not has_chat_template(tokenizer):
        texts = [
            _bare(item, tokenizer) + (words.start if thinks else "")
            for item, thinks in zip(items, thinking, strict=True)
        ]
        return text_heads(texts, tokenizer)
    texts = [
        _with_thought(_render(_messages(item), tokenizer, thinks, FIXED_DATE), words, thinks)
        for item, thinks in zip(items, thinking, strict=True)
    ]
    return tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]  # type: ignore[return-value]


def tail_ids(items: Sequence[Item], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """What a model is to write behind the head of each item: `[scratch </think>] answer` and what ends it.

    :raises InputError: nothing ends an answer of this tokenizer, or an item has none that could be learnt.
    """
    for item in items:
        if not item.answer and item.grader != EXACT:
            raise InputError(
                f"an item of task {item.task!r} has no answer to learn", where=repr(item.prompt[:60]),
                why=f"its grader {item.grader!r} judges what a model says",
                fix="give its line an answer, or leave the task out of what is learnt from",
            )  # fmt: skip
    words, end = thought_words(tokenizer), end_id(tokenizer)
    texts = [(item.scratch + words.end if item.scratch else "") + item.answer for item in items]
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return [[*ids, end] for ids in encoded]


def prompt_ids(
    items: Sequence[Item], tokenizer: PreTrainedTokenizerBase, *, thinking: bool = False
) -> list[list[int]]:
    """What a model is asked: the head of each item, with a thought begun or without any.

    :raises InputError: the chat template cannot be used.
    """
    return head_ids(items, tokenizer, thinking=[thinking] * len(items))


def conversation_ids(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """A conversation in the form of the chat template (that of bare rows included), up to where the assistant goes on.

    :raises InputError: the chat template cannot be used.
    """
    text = _render(messages, tokenizer, None)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an answer: the chat template's end of turn, else <eos>.

    :raises InputError: there is neither.
    """
    end = _end_of_turn(tokenizer)
    end = tokenizer.eos_token_id if end is None else end
    if end is None:
        raise InputError("the tokenizer has no <eos>", where="tasks.encode", fix="set tokenizer.eos_token")
    return int(end)


def stop_ids(tokenizer: PreTrainedTokenizerBase, model: Any = None) -> tuple[int, ...]:
    """The tokens with which a text ends: the template's end of turn, <eos>, and those of the model's generation settings.

    None at all is possible: such a model writes up to its limit.
    """
    known = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    of_model = [known] if isinstance(known, int) else list(known or [])
    stops = [_end_of_turn(tokenizer), tokenizer.eos_token_id, *of_model]
    return tuple(dict.fromkeys(int(stop) for stop in stops if stop is not None))


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that fills rows up. Masks and causality hide it: any id serves where there is neither <pad> nor <eos>."""
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return int(next((token for token in known if token is not None), 0))


def text_of(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, stops: Sequence[int] = ()) -> str:
    """An answer's text up to the first token that ends it. Other special tokens stay: they are no part of a right answer.

    :param stops: further tokens that end it, beside those that the tokenizer knows of.
    """
    ends = {*stop_ids(tokenizer), *stops}
    end = next((index for index, token in enumerate(ids) if token in ends), len(ids))
    return str(tokenizer.decode(list(ids[:end]), clean_up_tokenization_spaces=False))


def _bare(item: Item, tokenizer: PreTrainedTokenizerBase) -> str:
    """An item's text in front of its answer where there is no template: turns that were answered end as answers do."""
    if not item.messages:
        return item.system + item.prompt
    ends = str(tokenizer.eos_token or "") + str(tokenizer.bos_token or "")
    return "".join(text + (ends if role == "assistant" else "") for role, text in item.messages)


def _messages(item: Item) -> list[Message]:
    if item.messages:
        return [{"role": role, "content": text} for role, text in item.messages]
    system = [{"role": "system", "content": item.system}] if item.system else []
    return [*system, {"role": "user", "content": item.prompt}]


def _with_thought(text: str, words: ThoughtWords, thinks: bool) -> str:
    """A generation prompt with a thought begun, or without an open one, whatever the template has written."""
    opened = text.rstrip().endswith(words.start)
    if thinks:
        return text.rstrip() if opened else text + words.start
    return f"{text.rstrip()}{words.end}" if opened else text


def _render(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, thinks: bool | None, prefix: str = ""
) -> str:
    """The text of messages with the generation prompt.

    A template that knows no system message (Gemma's) gets the system's text in front of the first question.

    :param thinks: what the template's `enable_thinking` is set to, where it looks at it; None: left to the template.
    """
    template = prefix + tokenizer.get_chat_template()
    options: dict[str, Any] = {} if thinks is None else {"enable_thinking": thinks}

    def render(messages: Sequence[Message]) -> str:
        return str(
            tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
                **options,
            )
        )

    try:
        if messages[0]["role"] != "system" or len(messages) == 1:
            return render(messages)
        try:
            return render(messages)
        except TemplateError:
            system, question, *others = messages
            joined = f"{system['content']}\n\n{question['content']}"
            return render([{"role": question["role"], "content": joined}, *others])
    except TemplateError as error:
        raise InputError(
            "the tokenizer's chat template cannot be used", where="chat template", why=str(error),
            fix="mend the template, or ask without it: --raw",
        ) from error  # fmt: skip


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The first special token that the chat template writes behind an assistant's answer; None where it writes none."""
    if not has_chat_template(tokenizer):
        return None
    answer = "the-answer"
    question: list[dict[str, str]] = [{"role": "user", "content": "?"}]
    try:
        text = str(
            tokenizer.apply_chat_template(
                [*question, {"role": "assistant", "content": answer}], tokenize=False
            )
        )
    except TemplateError:
        return None  # `head_ids` says what is wrong with it
    ids = tokenizer(text.rpartition(answer)[2], add_special_tokens=False)["input_ids"]
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return next((int(id) for id in ids if id in special), None)
