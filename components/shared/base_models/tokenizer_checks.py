"""Whether the tokenizer beside a model is its own and whole, and what is set up where it only lacks a name for a token.

A tokenizer without its files loads as an empty one and turns every text into nothing, and a model trained on nothing says
nothing of it: so it is looked at before any phase works. The embedding is never touched: what would need new rows is
refused.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from components.shared.runtime.artifact.weights import json_object
from components.shared.runtime.errors import ArtifactError

PLAIN = "The capital of France is Paris; 12 + 30 = 42."
RICH = "naïve – 東京 🙂"
RESERVED = re.compile(
    r"<\|?(finetune_right_pad_id|pad|endoftext|reserved_special_token_\d+|unused_?\d+)\|?>|\[PAD\]"
)
"""Tokens that an embedding has a row for and no text uses: what pads may be one of them."""


def checked_tokenizer(
    tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, folder: Path
) -> list[str]:
    """Refuse a tokenizer that is not this model's; name its end and its padding where they have none.

    :param tokenizer: changed in place: `eos_token` and `pad_token`.
    :param config: of the model.
    :param folder: where both are, for errors.
    :returns: what was set up, and what a person should know, in sentences.
    :raises ArtifactError: it encodes text to nothing or to one token; it loses plain text; its vocabulary, or a token
        added to it, has no row in the embedding; nothing ends a text.
    """
    _require_text(tokenizer, folder)
    rows = int(config.get_text_config().vocab_size)
    notes = (
        _require_rows(tokenizer, rows, folder),
        _end(tokenizer, config, folder),
        _padding(tokenizer, config),
        _rich(tokenizer),
    )
    return [note for note in notes if note]


def _require_text(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """A text has tokens, more than one kind of them, and comes back."""
    ids = tokenizer(PLAIN, add_special_tokens=False).input_ids
    if len(set(ids)) < 4:
        has = sorted(
            path.name for path in folder.glob("*") if re.match(r"tokenizer|vocab|merges|spiece", path.name)
        )
        raise ArtifactError(
            "the tokenizer encodes a sentence to nothing" if not ids else "the tokenizer knows no words",
            where=str(folder),
            why=f"{PLAIN!r} becomes {len(ids)} tokens of {len(set(ids))} kinds; of its files there are"
            f" {', '.join(has) or 'none'}",
            fix="put the tokenizer's own files beside the model: tokenizer.json, or vocab.json and merges.txt, or"
            " tokenizer.model",
        )
    back = str(tokenizer.decode(ids, skip_special_tokens=True))
    if _letters(back) != _letters(PLAIN):
        raise ArtifactError(
            "the tokenizer loses plain text",
            where=str(folder),
            why=f"{PLAIN!r} comes back as {back[:80]!r}",
            fix="put the tokenizer that the model was trained with beside it",
        )


def _require_rows(tokenizer: PreTrainedTokenizerBase, rows: int, folder: Path) -> str:
    """Every token has its row in the embedding, but for those that transformers adds to a kind of tokenizer by itself."""
    beyond = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= rows)
    if not beyond:
        return ""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    names = ", ".join(f"{token} ({number})" for number, token in beyond[:3])
    if all(token in added for _, token in beyond):
        written = "".join(
            (folder / name).read_text(encoding="utf-8", errors="replace")
            for name in (
                "tokenizer.json",
                "tokenizer_config.json",
                "added_tokens.json",
                "special_tokens_map.json",
            )
            if (folder / name).is_file()
        )
        used = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token}
        if not any(json.dumps(token) in written or token in used for _, token in beyond):
            return f"transformers adds {names} to this kind of tokenizer, and the model has no row: no text may hold it"
        raise ArtifactError(
            "tokens were added for which the model has no rows",
            where=str(folder),
            why=f"{names}{' …' if len(beyond) > 3 else ''}; the embedding has {rows:,} rows",
            fix="remove them from the tokenizer's added tokens, or save the model after"
            " model.resize_token_embeddings(len(tokenizer)) in transformers",
        )
    raise ArtifactError(
        "the tokenizer's vocabulary is larger than the model's embedding",
        where=str(folder),
        why=f"its last token is {beyond[-1][0]:,}, and the embedding has {rows:,} rows: it is another model's tokenizer",
        fix="put the model's own tokenizer beside it",
    )


def _end(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, folder: Path) -> str:
    """The token that ends a text: the tokenizer's, else the one that the model's configuration names."""
    if tokenizer.eos_token_id is not None:
        return ""
    generation = json_object(folder / "generation_config.json", needed=False)
    for named in (generation.get("eos_token_id"), config.get_text_config().eos_token_id):
        first = named[0] if isinstance(named, list) and named else named
        token = tokenizer.convert_ids_to_tokens(first) if isinstance(first, int) else None
        if isinstance(token, str):
            tokenizer.eos_token = token
            return f"the tokenizer names no end of a text: it is {token}, as the model's configuration says"
    raise ArtifactError(
        "nothing ends a text",
        where=str(folder),
        why="neither the tokenizer nor the model's configuration names an eos token: generation would never stop",
        fix='name it in tokenizer_config.json: "eos_token": "<|endoftext|>", or what the model was trained with',
    )


def _padding(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> str:
    """What fills up short rows: a token that no text uses, else the eos. It is masked, and never learnt."""
    if tokenizer.pad_token_id is not None:
        return ""
    vocabulary = tokenizer.get_vocab()
    named = config.get_text_config().pad_token_id
    token = tokenizer.convert_ids_to_tokens(named) if isinstance(named, int) and named >= 0 else None
    taken = (tokenizer.eos_token, tokenizer.bos_token)
    reserved = sorted(
        (name for name in vocabulary if RESERVED.fullmatch(name) and name not in taken),
        key=lambda name: ("pad" not in name.lower(), vocabulary[name]),
    )
    chosen = next((each for each in (token, *reserved) if isinstance(each, str)), None)
    tokenizer.pad_token = chosen or tokenizer.eos_token
    why = "a token that no text uses" if chosen else "the end of a text, which is masked where it pads"
    return f"the tokenizer names no padding: it is {tokenizer.pad_token}, {why}"


def _rich(tokenizer: PreTrainedTokenizerBase) -> str:
    back = tokenizer.decode(tokenizer(RICH, add_special_tokens=False).input_ids, skip_special_tokens=True)
    lost = "".join(sorted({letter for letter in RICH if letter not in back and not letter.isspace()}))
    return f"the tokenizer cannot write {lost}" if lost else ""


def _letters(text: str) -> str:
    return "".join(text.split()).casefold()
