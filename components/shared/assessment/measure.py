"""`assess`: a model on suites, beside its baselines. What was measured before of the same digest is not measured again.

assess("runs/demo/artifacts/compression/model", items=128, seed=0).overall
assess("./mine", ["reasoning", "file:my-tasks.jsonl"], items=200, against="./theirs").as_dict()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from components.shared.evaluation.costs import agent_times, times
from components.shared.evaluation.lookup import Lookup
from components.shared.evaluation.pass_at_k import Sampling, sampled_score
from components.shared.evaluation.suites import SUITES, asked_of, evaluate, shots_for, suite_items
from components.shared.models.loading import load_tokenizer
from components.shared.runtime.config.settings import SEEDS
from components.shared.runtime.errors import ConfigError
from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.places import content_digest
from components.shared.tasks.tokenizer import byte_tokenizer
from components.shared.training.device import device

from .assessment import MEANING, Assessment, Compared, Kind, assessment
from .score_cache import ScoreCache, key_of
from .subject import Loaded, Subject

RATIO = 32
"""Train items that lookup sees for each that is asked: more than in a run, where every variant would pay for them."""

Taker = Callable[[], Loaded]


def assess(
    model: Subject | Path | str,
    suites: Sequence[str] = SUITES,
    *,
    items: int = 128,
    seed: int = 0,
    seeds: int = SEEDS,
    shots: int | None = None,
    sampling: Sampling | None = None,
    against: Subject | Path | str | None = None,
    relatives: Mapping[Kind, Subject] | None = None,
    batch: int = 64,
    cache: ScoreCache | None = None,
    progress: Progress | None = None,
) -> Assessment:
    """Assess a model on the report split.

    :param model: a folder, or a subject of one.
    :param suites: names of suites, or file:PATH.jsonl.
    :param items: of each suite.
    :param seed: of the items and of the bootstrap.
    :param seeds: how many seeds, from this one on, draw the items in turn (`evaluation.seeds` of a run).
    :param shots: examples in front of every question (`evaluation.shots` of a run), as `suites.shots_for` says for the
        model's tokenizer; all others are asked the same.
    :param sampling: for files of code: pass@k of several samples a problem, in place of one greedy answer.
    :param against: a model that is asked the same; the differences are over the same items.
    :param relatives: the model before the phase, and the base model; nothing but their manifests need be verified. Where
        these have scores of the same items, they are taken.
    :param cache: of scores; None: everything is measured.
    :raises ConfigError: no suite, an unknown one, too few items, or samples of what no tests grade, or of an agent.
    :raises InputError: a suite has not so many items, or a file not so many for training.
    :raises ArtifactError: a model cannot be used.
    """
    if not suites:
        raise ConfigError(
            "there is no suite to be asked", where="suites", fix=f"give some of {', '.join(SUITES)}"
        )
    subject = _subject(model)
    others = dict(relatives or {})
    suites = list(dict.fromkeys(suites))
    draw: dict[str, Any] = {"split": "report", "items": items, "seed": seed, "seeds": seeds}
    tokenizer = load_tokenizer(subject.folder)
    examples = {suite: shots_for(suite, tokenizer, shots) for suite in suites}
    if shots and not any(examples.values()):
        raise ConfigError(
            "only a file of questions has examples", where=f"shots {shots}",
            why="the model reads bytes, and knows the suites' forms from training", fix="name a file: file:PATH",
        )  # fmt: skip
    asked = {
        suite: asked_of(suite, suite_items(suite, **draw), shots=examples[suite], seed=seed)
        for suite in suites
    }
    if sampling is not None:
        for suite in suites:
            sampling.check(suite, suite_items(suite, **draw))
        asked = {suite: f"{digest}, {sampling}" for suite, digest in asked.items()}
    bench = _Bench(asked, draw, examples, sampling, batch, cache, progress or Progress("evaluate"))
    rival = None if against is None else _subject(against)
    scores = bench.scores(subject.taker, subject.load, subject.name)
    compared = [Compared("lookup", MEANING["lookup"], bench.lookup())]
    if rival is not None:
        found = bench.scores(rival.taker, rival.load, rival.name)
        compared.append(Compared("against", rival.name, found, rival.digest))
    for kind, other in others.items():
        known = bench.known(other)
        if known is None:
            checked = Subject.at(other.folder, other.name)
            known = bench.scores(checked.digest, checked.load, checked.name)
        compared.append(Compared(kind, other.name, known, other.digest))
    return assessment(subject.facts(), scores, compared, seed=seed)


def _subject(model: Subject | Path | str) -> Subject:
    return model if isinstance(model, Subject) else Subject.at(Path(model))


class _Bench:
    """The items, and the scores of all who are asked them.

    :param asked: suite → digest of its items, and of the examples in front of them.
    :param draw: what draws them: split, items, seed, seeds.
    :param shots: suite → how many examples.
    :param sampling: for files of code; None: one answer to each question.
    """

    def __init__(
        self,
        asked: Mapping[str, str],
        draw: Mapping[str, Any],
        shots: Mapping[str, int],
        sampling: Sampling | None,
        batch: int,
        cache: ScoreCache | None,
        progress: Progress,
    ) -> None:
        self.asked, self.draw, self.shots, self.batch = asked, draw, shots, batch
        self.sampling = sampling
        self.cache, self.progress = cache, progress

    def known(self, subject: Subject) -> dict[str, dict[str, Any]] | None:
        """The scores in a model's manifest, where they are of these items; else None."""
        scores = subject.manifest.scores
        if all(scores.get(suite, {}).get("asked") == digest for suite, digest in self.asked.items()):
            return {suite: scores[suite] for suite in self.asked}
        return None

    def lookup(self) -> dict[str, dict[str, Any]]:
        """The scores of the baseline by lookup."""
        return self.scores(
            f"lookup {RATIO}",
            lambda: Loaded(Lookup(seed=self.draw["seed"], ratio=RATIO), byte_tokenizer(), None),
            "lookup",
            shots=0,  # what it looks up are the examples anyway
        )

    def scores(
        self, taker: str, load: Taker, name: str, *, shots: int | None = None
    ) -> dict[str, dict[str, Any]]:
        """Suite → score of one taker, from the cache where it has it. It is loaded where something is to be measured.

        :param taker: its digest.
        :param name: what it is called while it is measured.
        :param shots: examples that it is shown; None: as many as all.
        """
        found: dict[str, dict[str, Any]] = {}
        loaded: Loaded | None = None
        for suite, asked in self.asked.items():
            key = key_of(taker, suite, asked, content_digest(suite), device().type)
            score = self.cache.get(key) if self.cache else None
            if score is None:
                loaded = loaded or load()
                several = self.sampling.samples if self.sampling and loaded.model else 1
                self.progress.start(f"{name}, {suite}", several * self.draw["items"])
                score = self._measure(loaded, suite, self.shots[suite] if shots is None else shots)
                score["asked"] = asked
                self.progress.done()
                if self.cache:
                    self.cache.put(key, score)
            found[suite] = score
        return found

    def _measure(self, loaded: Loaded, suite: str, shots: int) -> dict[str, Any]:
        """A score as JSON; of efficiency with `timing`, what a right answer took on this machine when it was measured."""
        agent, tokenizer, model = loaded
        if self.sampling is not None and model is not None:  # lookup answers alike each time
            return self._sampled(loaded, self.sampling, suite, shots)
        score = evaluate(
            agent,
            tokenizer,
            model=model,
            batch=self.batch,
            suites=[suite],
            shots=shots,
            seen=self.progress.step,
            **self.draw,
        )
        found = score[suite].as_dict()
        if suite == "efficiency" and model is not None:
            items, rate = suite_items(suite, **self.draw), found["score"]
            if isinstance(agent, nn.Module):
                found["timing"] = times(agent, tokenizer, items, rate)
            else:
                found["timing"] = agent_times(agent, items, rate)
        return found

    def _sampled(self, loaded: Loaded, sampling: Sampling, suite: str, shots: int) -> dict[str, Any]:
        if not isinstance(loaded.agent, nn.Module):
            raise ConfigError(
                "only a model writes samples", where=f"--samples {sampling.samples}",
                why="an agent, and a model that thinks, answer greedily, the same each time",
                fix="leave --samples out, or name the model without its agent",
            )  # fmt: skip
        score = sampled_score(
            loaded.agent, loaded.tokenizer, suite, sampling, shots=shots, seen=self.progress.step, **self.draw
        )
        return score.as_dict()
