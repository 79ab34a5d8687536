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

START, END, PAUSE = "<think>", "</think>", "<pause>"
DASHES = ("---", "—", "-")


class Words(NamedTuple):
    """Token ids."""

    start: int
    end: int
    pause: int


def teach_words(
    model: Any, tokenizer: PreTrainedTokenizerBase, length: int, *, seed: int
) -> tuple[PreTrainedModel, Words]:
    """The model with a talk head and with the words of thinking in its vocabulary.

    Words that the tokenizer has are left as they were learnt. The others are added, and begin as copies of a dash (the
    reference takes "---"): a token that already marks a pause. A model of another family than the Cognates is wrapped,
    because a talk head has no place in its own class. The function of the model without thoughts does not change.

    :param length: of a thought, which becomes part of the model's config.
    :param seed: of the talk head's hidden layers.
    """
    missing = [word for word in (START, END, PAUSE) if word not in tokenizer.get_vocab()]
    if missing:
        encoded = {text: tokenizer.encode(text, add_special_tokens=False) for text in DASHES}
        whole = {text: ids for text, ids in encoded.items() if len(ids) == 1}
        dash = next(
            (ids[0] for text, ids in whole.items() if str(tokenizer.decode(ids)).strip() == text), None
        )
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
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        rows = tokenizer.convert_tokens_to_ids(missing)
        with torch.no_grad():
            for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
                if layer is not None:
                    layer.weight[rows] = layer.weight[dash].clone()
    start, end, pause = (int(tokenizer.get_vocab()[word]) for word in (START, END, PAUSE))
    words = Words(start, end, pause)

    if not isinstance(model, CognateForCausalLM | ForgeWrapped):
        model = wrap(model)
    if not model.config.thoughts:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.talk_head = TalkHead(model.config.hidden_size).to(device=model.device, dtype=model.dtype)
    model.config.thoughts = {"length": length, "mixing": True, "start": words.start, "end": words.end}
    return model, words
