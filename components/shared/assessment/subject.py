"""Who is assessed: a model in a folder, known by its digest before a weight of it is loaded."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from transformers import PreTrainedTokenizerBase

from components.shared.agent.agent import AGENT, Agent
from components.shared.evaluation.answers import AnswerFunction
from components.shared.evaluation.thinking import answers_with_thoughts
from components.shared.models.loading import decode_all, load
from components.shared.models.ternary.inference import MIN_WEIGHTS, accelerate
from components.shared.runtime.artifact import artifact
from components.shared.runtime.artifact.manifest import MANIFEST, Manifest
from components.shared.runtime.artifact.plain_model import adopt
from components.shared.runtime.errors import ArtifactError, ConfigError
from components.shared.training.device import device


class Loaded(NamedTuple):
    """Who takes the test.

    :param model: through which all that an agent does goes; None for one that has none.
    """

    agent: nn.Module | AnswerFunction
    tokenizer: PreTrainedTokenizerBase
    model: nn.Module | None


@dataclass(frozen=True)
class Subject:
    """A model that is not loaded yet.

    :param name: what it is called where it is spoken of.
    :param manifest: of an artifact its own; of a plain Hugging Face folder one that only knows its files.
    :param thinks: whether a model with a talk head thinks before every token of its answers, which are then written.
    """

    name: str
    folder: Path
    manifest: Manifest
    thinks: bool = False

    @classmethod
    def at(cls, folder: Path, name: str = "") -> Subject:
        """The model in a folder: an artifact, every byte of it verified, or any Hugging Face causal LM.

        :raises ArtifactError: there is none, or it is damaged, or it is an artifact of another kind.
        """
        found = artifact.read(folder) if (folder / MANIFEST).is_file() else adopt(folder)
        if found.manifest.kind != "model":
            raise ArtifactError(
                "only a model can be assessed", where=str(folder), why=f"this is a {found.manifest.kind}",
                fix="give the folder of a model (forge models lists them)",
            )  # fmt: skip
        return cls(name or str(folder), folder, found.manifest)

    @property
    def digest(self) -> str:
        """Of the content of its files."""
        return self.manifest.digest

    @property
    def taker(self) -> str:
        """What its scores are kept under: the digest, and whether it thinks."""
        return f"{self.digest} thinking" if self.thinks else self.digest

    def thinking(self) -> Subject:
        """The same model, thinking before every token.

        :raises ConfigError: it was never taught to, or is an agent, which does as its architecture says.
        """
        agent = (self.folder / AGENT).is_file()
        if agent or not json.loads((self.folder / "config.json").read_bytes()).get("thoughts"):
            raise ConfigError(
                "there are no thoughts to be switched on", where=self.name,
                why="an agent thinks as its architecture says" if agent else "the model has no talk head",
                fix="leave --think out, or give a model of phase quietstar or of one behind it",
            )  # fmt: skip
        return dataclasses.replace(self, name=f"{self.name}, thinking", thinks=True)

    def facts(self) -> dict[str, Any]:
        """What an assessment says of the model beside its scores."""
        return {
            "name": self.name,
            "digest": self.digest,
            "phase": self.manifest.phase,
            "parameters": self.manifest.parameters,
            "bytes": self.manifest.bytes,
        }

    def load(self) -> Loaded:
        """What takes the test: an agent as its architecture says, else the model itself, thinking where it is to.

        :raises ArtifactError: it cannot be loaded.
        """
        if (self.folder / AGENT).is_file():
            agent = Agent.load(self.folder, device=str(device()))
            decode_all(agent.model, self.folder)
            return Loaded(agent.answers, agent.tokenizer, agent.model)
        model, tokenizer = load(self.folder, device=device())
        decode_all(model, self.folder)
        accelerate(model, least=MIN_WEIGHTS)
        if self.thinks:
            return Loaded(partial(answers_with_thoughts, model, tokenizer), tokenizer, model)
        return Loaded(model, tokenizer, model)
