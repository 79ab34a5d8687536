"""Tiny random models of the families that people know, as Hugging Face folders with a real BPE tokenizer.

`python -m tests.shapes FAMILY FOLDER` writes one by hand.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

FAMILIES = ("gpt2", "llama", "qwen2", "qwen3", "mistral", "phi3", "gemma", "mixtral")
"""What every phase must take."""
MORE = ("gemma2", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss", "deepseek_v3")
"""Relatives whose weights lie otherwise still."""
PAD, BOS, EOS = "<pad>", "<s>", "</s>"
VOCABULARY = 400
TEXT = """You are an agent that answers briefly. Use a tool where one helps, and say what it said.
What is the capital of France? The capital of France is Paris, and that of Norway is Oslo.
Put the words in order, copy the letters, add the numbers: 47+3=50, 12-5=7, 6*7=42, 81/9=9.
Question: which of these is larger, 0123456789 or 9876543210? Answer: the second. True or false, yes or no.
sort reverse count copy max min first last next previous sum difference product remainder even odd
abc=1, dax=2; call(name="lookup", query="dax") -> 2. Remember the key, recall the value, close the bracket ()[]{}.
"""
TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
COMMON = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
OWN: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.1},
    "llama": {},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"tie_word_embeddings": True},
    "mistral": {"sliding_window": 16},
    "phi3": {"sliding_window": None},
    "gemma": {"tie_word_embeddings": True},
    "gemma2": {"tie_word_embeddings": True, "sliding_window": 16, "query_pre_attn_scalar": 16},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 48},
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 48},
    "qwen3_moe": EXPERTS,
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 48},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 48, "sliding_window": 16},
    "deepseek_v3": {
        "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "first_k_dense_replace": 1,
        "n_group": 2, "topk_group": 1, "q_lora_rank": 32, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 16, "num_key_value_heads": 4, "head_dim": 8,
    },
}  # fmt: skip


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of VOCABULARY tokens that was trained on TEXT, with <pad>, <s>, </s> and a chat template."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXT.splitlines(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, bos_token=BOS, eos_token=EOS, chat_template=TEMPLATE
    )


def config(family: str) -> Any:
    """The family's config at hidden 64 and two layers."""
    settings = OWN[family] | {"vocab_size": len(tokenizer())}
    settings |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return AutoConfig.for_model(family, **(settings if family == "gpt2" else COMMON | settings))


def make(family: str, folder: Path, seed: int = 0, *, shards: str = "5GB", dtype: str = "float32") -> Path:
    """Write a random model of the family with its tokenizer, as save_pretrained of transformers does.

    Biases and gains are random too: a model that loses one is another.

    :param family: one of FAMILIES or MORE.
    :param seed: of the weights.
    :param shards: largest size of a weights file.
    :param dtype: of the stored weights.
    :returns: the folder.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config(family))
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
            elif parameter.ndim == 3:  # experts are made empty
                parameter.normal_(0, 0.1)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shards)
    tokenizer().save_pretrained(folder)
    return folder


if __name__ == "__main__":
    print(make(sys.argv[1], Path(sys.argv[2])))
