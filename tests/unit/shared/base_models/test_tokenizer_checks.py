"""Tokenizers that are not their model's, or not whole: each is refused by name, or set up without a new row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from components.shared.base_models.tokenizer_checks import checked_tokenizer
from components.shared.runtime.errors import ArtifactError
from tests import shapes


def config(**more: Any) -> Any:
    return AutoConfig.for_model(
        "llama", **{"vocab_size": 400, "eos_token_id": None, "pad_token_id": None, **more}
    )


def bare(**more: Any) -> PreTrainedTokenizerFast:
    """The tokenizer of the shapes without names for its special tokens, but for those given."""
    return PreTrainedTokenizerFast(tokenizer_object=shapes.tokenizer().backend_tokenizer, **more)


def test_a_whole_tokenizer_is_taken_as_it_is(tmp_path: Path) -> None:
    own = shapes.tokenizer()
    assert checked_tokenizer(own, config(), tmp_path) == []
    assert (own.pad_token, own.eos_token, len(own)) == ("<pad>", "</s>", 400)


def test_qwens_tokenizer_without_its_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Qwen2Tokenizer"}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    empty = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    with pytest.raises(ArtifactError, match=r"encodes a sentence to nothing|knows no words") as caught:
        checked_tokenizer(empty, config(), tmp_path)
    assert "tokenizer_config.json" in caught.value.why and "merges.txt" in caught.value.fix


def test_a_tokenizer_that_loses_letters_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(
        models.WordLevel({"the": 0, "capital": 1, "of": 2, "is": 3, "[UNK]": 4}, unk_token="[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    own = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", eos_token="[UNK]")
    with pytest.raises(ArtifactError, match=r"loses plain text.*comes back as"):
        checked_tokenizer(own, config(), tmp_path)


def test_a_vocabulary_larger_than_the_embedding_is_another_models(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"larger than the model's embedding.*399.*has 300 rows"):
        checked_tokenizer(shapes.tokenizer(), config(vocab_size=300), tmp_path)
    assert (
        checked_tokenizer(shapes.tokenizer(), config(vocab_size=512), tmp_path) == []
    )  # rows that no token uses


def test_tokens_that_were_added_without_rows_are_named(tmp_path: Path) -> None:
    own = bare(eos_token="</s>", pad_token="<pad>")
    own.add_tokens(["<tool>", "<think>"], special_tokens=True)
    own.save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match=r"tokens were added.*<tool> \(400\).*resize_token_embeddings"):
        checked_tokenizer(own, config(), tmp_path)
    assert checked_tokenizer(own, config(vocab_size=402), tmp_path) == []


def test_an_end_is_the_one_that_the_model_names_or_there_is_none(tmp_path: Path) -> None:
    own = bare(pad_token="<pad>")
    [note] = checked_tokenizer(own, config(eos_token_id=2), tmp_path)
    assert own.eos_token == "</s>" and "it is </s>" in note
    own = bare(pad_token="<pad>")
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 1]}')
    checked_tokenizer(own, config(eos_token_id=1), tmp_path)
    assert own.eos_token == "</s>"
    (tmp_path / "generation_config.json").unlink()
    with pytest.raises(ArtifactError, match=r"nothing ends a text.*would never stop.*eos_token"):
        checked_tokenizer(bare(pad_token="<pad>"), config(), tmp_path)


def test_padding_is_a_reserved_token_or_the_end_and_never_a_new_row(tmp_path: Path) -> None:
    own = bare(eos_token="</s>")
    [note] = checked_tokenizer(own, config(), tmp_path)
    assert own.pad_token == "<pad>" and "a token that no text uses" in note
    own = bare(eos_token="</s>")
    checked_tokenizer(own, config(pad_token_id=1), tmp_path)  # the model's own word goes first
    assert own.pad_token == "<s>" and len(own) == 400
    backend = json.loads(shapes.tokenizer().backend_tokenizer.to_str())
    text = json.dumps(backend).replace('"<pad>"', '"plain"')
    from tokenizers import Tokenizer

    own = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(text), eos_token="</s>")
    [note] = checked_tokenizer(own, config(), tmp_path)
    assert own.pad_token == "</s>" and "masked" in note and len(own) == 400
