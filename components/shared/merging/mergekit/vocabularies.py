"""What a configuration says of tokenizers: `tokenizer` or `tokenizer_source`, and `chat_template`."""

from __future__ import annotations

from typing import Any

from ..streaming.recipe import TokenizerRecipe, TokenRow
from .model_names import ModelNames, NamedModel
from .reader import Reader

CHAT_TEMPLATES = {
    "chatml": "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "alpaca": "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'user' %}### Instruction:\n{{ message['content'] }}\n\n"
    "{% else %}### Response:\n{{ message['content'] }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}### Response:\n{% endif %}",
}


def tokenizer_of(
    reader: Reader, names: ModelNames, content: dict[str, Any], base: NamedModel | None
) -> TokenizerRecipe:
    """What is done with the vocabularies.

    :raises ConfigError: it is said twice, or a source, rule or template is none.
    """
    template = _chat_template(reader, content.get("chat_template"))
    of_base = None if base is None else base.folder
    if content.get("tokenizer_source") is not None:
        if content.get("tokenizer") is not None:
            raise reader.refuse("there must be either tokenizer or tokenizer_source")
        return TokenizerRecipe(
            _source(names, content["tokenizer_source"], base), chat_template=template, base=of_base
        )
    if content.get("tokenizer") is None:
        return TokenizerRecipe(chat_template=template, base=of_base)
    settings = reader.mapping(content["tokenizer"], "tokenizer", ("source", "tokens", "pad_to_multiple_of"))
    multiple = settings.get("pad_to_multiple_of") or 0
    if not isinstance(multiple, int) or multiple < 0:
        raise reader.refuse("pad_to_multiple_of must be a whole number above 0", why=f"it is {multiple!r}")
    rules = reader.mapping(settings.get("tokens"), "tokens")
    tokens = {str(token): _row(reader, names, str(token), rule) for token, rule in rules.items()}
    return TokenizerRecipe(
        _source(names, settings.get("source", "union"), base), tokens, multiple, template, of_base
    )


def _source(names: ModelNames, source: Any, base: NamedModel | None) -> Any:
    if source in ("base", "union"):
        return source
    folder = names.model(source).folder
    return "base" if base is not None and folder == base.folder else folder


def _row(reader: Reader, names: ModelNames, token: str, rule: Any) -> TokenRow:
    """The rule of a token: the row that a model has for it or for another token, or zeros."""
    content = reader.mapping(rule, f"the token {token}", ("source", "force"))
    source, force = content.get("source"), bool(content.get("force", False))
    if source is None:
        raise reader.refuse(
            f"the token {token} has no source", "name a model, or kind: zero, or kind: model_token"
        )
    if isinstance(source, dict) and "kind" in source:
        if source["kind"] == "zero":
            return TokenRow(None, force=force)
        own = reader.mapping(source, "source", ("kind", "model", "token", "token_id"))
        other = own.get("token", own.get("token_id"))
        if own["kind"] != "model_token" or other is None:
            raise reader.refuse(f"the source of {token} must be of kind zero or model_token", why=str(source))
        return TokenRow(names.model(own.get("model")).folder, other, force)
    return TokenRow(names.model(source).folder, None, force)


def _chat_template(reader: Reader, value: Any) -> str:
    """A template itself, "auto", or the text of one that is known by name."""
    if value is None or value == "":
        return ""
    text = str(value)
    if text == "auto" or "{" in text:
        return text
    if text not in CHAT_TEMPLATES:
        raise reader.refuse(
            f"the chat template {text} is not known",
            f"use auto, {', '.join(CHAT_TEMPLATES)}, or write the template itself",
        )
    return CHAT_TEMPLATES[text]
