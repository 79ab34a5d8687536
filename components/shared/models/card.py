"""The model card: the README.md of an artifact."""

from __future__ import annotations


def model_card(title: str, summary: str, *, facts: dict[str, str] | None = None) -> str:
    """A Hugging Face model card. No times, hosts or paths: the card is part of the artifact's digest.

    :param title: the heading.
    :param summary: one paragraph: what the model is and which phase made it.
    :param facts: rows of a table (name → value).
    """
    rows = "".join(f"| {name} | {value} |\n" for name, value in (facts or {}).items())
    table = f"\n| | |\n|---|---|\n{rows}" if rows else ""
    return (
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [agent-forge]\n---\n\n"
        f"# {title}\n\n{summary}\n{table}\n"
        "It loads in transformers 5:\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        "model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)\n"
        "tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=True)\n```\n"
    )
