"""The words of thinking: <think>, </think> and <pause>, and the head that mixes thoughts in."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.models.loading import wrap
from components.shared.models.remote_code.modeling_cognate import CognateForCausalLM
from components.shared.models.remote_code.modeling_wrapped import ForgeWrapped
from components.shared.models.remote_code.thoughts import TalkHead
from components.shared.runtime.errors import InputError
from components.shared.tasks.prompting import thought_words

PAUSE = "<pause>"
DASHES = ("---", "—", "-")


class ThoughtTokens(NamedTuple):
    """Token ids of the words of thinking."""

    start: int
    end: int
    pause: int


def add_thought_tokens(
    model: Any, tokenizer: PreTrainedTokenizerBase, length: int, *, seed: int
) -> tuple[PreTrainedModel, ThoughtTokens]:
    """The model with a talk head and with the words of thinking in its vocabulary.

    Words that the tokenizer has are left as they were learnt. The others are added, where the embedding has rows that no
    token uses in these, else in new ones, and begin as copies of a dash (the reference takes "---"): a token that already
    marks a pause. A model of another family than the Cognates is wrapped,
    because a talk head has no place in its own class. The function of the model without thoughts does not change.

    :param model: its embeddings grow, in place.
    :param length: of a thought, in tokens, which becomes part of the model's config.
    :param seed: of the talk head's hidden layers.
    :returns: the model, wrapped where its family needs it, and the ids of the words.
    :raises InputError: the tokenizer has no single token for a dash.
    """
    words = (*thought_words(tokenizer), PAUSE)
    missing = [word for word in words if word not in tokenizer.get_vocab()]
    if missing:
        encoded = {text: tokenizer.encode(text, add_special_tokens=False) for text in DASHES}
        single = {text: ids[0] for text, ids in encoded.items() if len(ids) == 1}
        dash = next((id for text, id in single.items() if str(tokenizer.decode([id])).strip() == text), None)
        if dash is None:
            raise InputError(
                "the tokenizer has no single token for a dash to start the thought tokens from",
                where="quietstar",
                why=f"tried {', '.join(map(repr, DASHES))}",
                fix=f"add {', '.join(missing)} to the tokenizer and the model's embedding first",
            )
        tokenizer.add_special_tokens(
            {"additional_special_tokens": missing}, replace_extra_special_tokens=False
        )
        if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
            grow(model, len(tokenizer))
        rows = tokenizer.convert_tokens_to_ids(missing)
        with torch.no_grad():
            for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
                for parameter in () if layer is None else (layer.weight, getattr(layer, "bias", None)):
                    if parameter is not None:
                        parameter[rows] = parameter[dash].clone()
    start, end, pause = (int(tokenizer.get_vocab()[word]) for word in words)
    tokens = ThoughtTokens(start, end, pause)

    if not isinstance(model, CognateForCausalLM | ForgeWrapped):
        model = wrap(model)
    if not model.config.thoughts:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            talk_head = TalkHead(model.config.get_text_config().hidden_size)
            model.talk_head = talk_head.to(device=model.device, dtype=model.dtype)
    model.config.thoughts = {"length": length, "mixing": True, "start": tokens.start, "end": tokens.end}
    return model, tokens


def grow(model: Any, rows: int) -> None:
    """Give a model's embedding and head so many rows, in place; a wrapped model's own config says so too."""
    if not isinstance(model, ForgeWrapped):
        model.resize_token_embeddings(rows, mean_resizing=False)
        return
    model.inner.resize_token_embeddings(rows, mean_resizing=False)
    for config in (model.config.inner_config, model.config.inner_config.get_text_config()):
        config.vocab_size = rows
    described = model.config.inner
    described.get("text_config", described)["vocab_size"] = rows
