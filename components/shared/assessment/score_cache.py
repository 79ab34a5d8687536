"""Scores that need not be measured again: those of the same model on the same items by the same code.

An entry a model and suite, as JSON that guards itself. One that is damaged is measured again and replaced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import metadata
from typing import Any

from components.shared.runtime.code import code_version
from components.shared.runtime.errors import MissingKey
from components.shared.runtime.store import sealed_json
from components.shared.runtime.store.interface import Store

PLACE = "cache/evaluations"
"""Below the root of the store."""

LIBRARIES = ("numpy", "torch", "transformers")
"""Those whose releases may change the last bits of a result."""

STYLE: dict[str, Any] = {"indent": 1, "ensure_ascii": False, "allow_nan": False}


def key_of(taker: str, suite: str, asked: str, content: str, device: str) -> str:
    """The digest of all that decides a score.

    :param taker: the digest of the model, or what the baseline is called.
    :param asked: the digest of the items and of the examples in front of them, which stands for their number and seed.
    :param content: the digest of the file that they come from, which has what is looked up, too; empty without a file.
    :param device: the kind that is computed on.
    """
    facts = {
        "taker": taker,
        "suite": suite,
        "asked": asked,
        "content": content,
        "device": device,
        "code": code_version("shared"),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class ScoreCache:
    """The scores that were measured before.

    :param store: a folder or a bucket.
    :param say: told of an entry that cannot be used.
    :param reads: whether what it has is used; it is replaced where not.
    """

    def __init__(self, store: Store, say: Callable[[str], None], *, reads: bool = True) -> None:
        self.store, self.say, self.reads = store, say, reads

    def get(self, key: str) -> dict[str, Any] | None:
        """The score under this key; None where there is none that is whole."""
        address = _address(key)
        if not self.reads:
            return None
        try:
            content = sealed_json.decode(self.store.get(address), **STYLE)
        except MissingKey:
            return None
        except ValueError as error:
            self.say(f"{self.store.address(address)} is damaged and is measured again: {error}")
            return None
        if content.get("key") != key or not isinstance(content.get("score"), dict):
            self.say(f"{self.store.address(address)} was made for another key; it is measured again")
            return None
        score: dict[str, Any] = content["score"]
        return score

    def put(self, key: str, score: dict[str, Any]) -> None:
        """Remember a score."""
        self.store.put(_address(key), sealed_json.encode({"key": key, "score": score}, **STYLE))


def _address(key: str) -> str:
    return f"{PLACE}/{key}.json"
