"""What is known of a model in numbers, by the names under which gates find it.

<metric>             what the phase returned from `get_metrics`: retention, thinking/reasoning, pass_at_1 …
score/<suite>        mean score of a suite on the report split; `low/` and `high/`, the ends of its interval;
                     `chance/`, what the best guesser scores; of each also the mean over the suites, `score/mean` …
<detail>/<suite>     what else a score is made of: flops_per_right/efficiency, tokens_per_right/, bytes_per_right/;
                     refused/safety, obeyed/safety, attack_success/safety …; pass_at_1/arc
stand_in/<name>      perplexity, bits_per_byte, chat: where `evaluation` asks for them
size/bytes           of all files; `size/weights`, of the stored tensors alone; `size/parameters`, how many they are
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .artifact.manifest import MANIFEST, Manifest
from .artifact.weights import describe

STAND_INS = "stand_ins"
"""In a manifest's `extra`: what stands in for suites in a model's own language, as evaluation/report_split.py writes it."""

INTERVAL = ("low", "high", "chance")


def of_manifest(manifest: Manifest) -> dict[str, float]:
    """All that a manifest says of its model."""
    stored = sum(tensor["bytes"] for tensor in manifest.tensors.values())
    return {
        **manifest.metrics,
        **suites_of(manifest.scores),
        **stand_ins_of(manifest.extra),
        **_sizes(manifest.bytes, stored, manifest.parameters),
    }


def scores_of(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The scores as metrics: `{"reasoning": {"score": 0.4, …}}` → `{"score/reasoning": 0.4}`."""
    return {f"score/{suite}": float(score["score"]) for suite, score in scores.items()}


def suites_of(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The scores, their intervals and chance, each suite's and the mean over the suites."""
    values = scores_of(scores)
    for suite, score in scores.items():
        details = score.get("detail", {})
        values |= {
            f"{name}/{suite}": float(of) for name, of in details.items() if isinstance(of, int | float)
        }
    for name in INTERVAL:
        values |= {f"{name}/{suite}": float(score[name]) for suite, score in scores.items() if name in score}
    for name in ("score", *INTERVAL):
        own = [value for key, value in values.items() if key.startswith(f"{name}/")]
        if own:
            values[f"{name}/mean"] = sum(own) / len(own)
    return values


def stand_ins_of(extra: Mapping[str, Any]) -> dict[str, float]:
    """What stands in for suites, as metrics: `stand_in/perplexity`, `stand_in/bits_per_byte`, `stand_in/chat`."""
    found = extra.get(STAND_INS, {})
    values = {name: found[name] for name in ("perplexity", "bits_per_byte") if name in found}
    if "chat" in found:
        values["chat"] = found["chat"]["score"]
    return {f"stand_in/{name}": float(value) for name, value in values.items()}


def sizes_of_folder(folder: Path) -> dict[str, float]:
    """The sizes of a model that is not sealed yet."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    tensors, parameters = describe(folder)
    stored = sum(tensor["bytes"] for tensor in tensors.values())
    return _sizes(sum(path.stat().st_size for path in files), stored, parameters)


def _sizes(total: int, stored: int, parameters: int) -> dict[str, float]:
    return {"size/bytes": float(total), "size/weights": float(stored), "size/parameters": float(parameters)}
