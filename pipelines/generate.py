"""What a model writes: an agent of ours as its architecture says, any other as a Hugging Face causal LM.

    model = TextModel.load(Path("runs/demo/artifacts/compression/model"))
    model.complete("12+7=").text
    chat = Chat(model)
    chat.ask("Good day!").text

A model that was tuned to chat wants its turns in the form of its tokenizer's chat template, and says little or nothing
without it; a byte-level model was trained on bare prompts behind <bos>. The tokenizer says which of the two is meant
(tasks/prompting.py), before and after the phases.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.runtime.artifact import artifact
from components.shared.runtime.artifact.manifest import MANIFEST
from components.shared.runtime.errors import ArtifactError, InputError

from .runs.folder import DONE, find
from .runs.published import manifest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from components.shared.agent.agent import Agent
    from components.shared.agent.tools import Toolbox
    from components.shared.base_models.address import Address

Message = dict[str, str]
"""{"role": "user" or "assistant", "content": text}"""


@dataclass(frozen=True)
class Completion:
    """What was written after a prompt.

    :param tokens: how many; None for an agent, which counts for itself.
    :param finished: whether the model ended by itself; False where it was cut off.
    """

    prompt: str
    text: str
    tokens: int | None = None
    finished: bool = True


def model_folder(runs: Path, name: str) -> Path:
    """The folder of a model: what `name` is the folder or the store's address of, else the last model of that run.

    :param runs: the folder of all runs.
    :param name: a model's folder or address, its name at the hub, a GGUF file; or a run's name, its folder, or latest.
    :raises ArtifactError: the run has made none.
    :raises InputError: there is no such run.
    """
    if "://" in name:
        from components.shared.runtime.store import local_copy

        return local_copy.download(name, local_copy.inputs())
    if (Path(name) / "config.json").is_file():
        return Path(name)
    if base := elsewhere(runs, name):
        from components.shared.base_models.reading import reading_copy

        return reading_copy(base)
    folder = find(runs, name)
    finished = [status for status in folder.tasks() if status.status in DONE]
    for status in sorted(finished, key=lambda status: status.finished or 0.0, reverse=True):
        for output in status.outputs.values():
            if manifest_of(folder.path / output).get("kind") == "model":
                return folder.path / output
    raise ArtifactError(
        "this run has not made a model yet", where=str(folder.path), fix="wait, or go on: --resume"
    )


def elsewhere(runs: Path, name: str) -> Address | None:
    """What a name means that is neither a run's nor a folder's: a model of the hub, or a GGUF file; None for nothing."""
    from components.shared.base_models.address import address

    if (runs / name).exists() or Path(name).is_dir():
        return None
    try:
        base = address(name)
    except InputError:
        return None  # then it is a run's name, or that of nothing
    return base if base.kind in ("hub", "gguf") else None


@dataclass(frozen=True)
class TextModel:
    """A model that writes, in memory.

    :param agent: in place of model and tokenizer, where the artifact is an agent.
    :param ours: trained on bare prompts behind <bos>, as the phases do.
    :param template: whether a prompt is a turn in the form of the tokenizer's chat template.
    """

    folder: Path
    model: Any
    tokenizer: Any
    agent: Agent | None = None
    ours: bool = False
    template: bool = False

    @classmethod
    def load(cls, folder: Path, *, template: bool | None = None, plain: bool = False) -> TextModel:
        """Load an artifact, or any Hugging Face folder of a causal LM with safetensors.

        :param template: use the tokenizer's chat template, or do not; None: where it brings one of its own.
        :param plain: take an agent as the model below it, without experts, thoughts and tools.
        :raises ArtifactError: no such model; an artifact that was changed; pickled weights;
            code of its own, which is not run.
        :raises InputError: a template is asked for, and there is none.
        """
        from components.shared.agent.agent import AGENT, Agent
        from components.shared.models.loading import AUTO_MAP, decode_all, load
        from components.shared.models.ternary.inference import MIN_WEIGHTS, accelerate
        from components.shared.tasks.prompting import has_chat_template
        from components.shared.training.device import device

        if (folder / MANIFEST).is_file():
            artifact.read(folder)
        if (folder / AGENT).is_file() and not plain and not template:
            agent = Agent.load(folder, device=str(device()))
            decode_all(agent.model, folder)
            return cls(folder, agent.model, agent.tokenizer, agent, ours=True)
        model, tokenizer = load(folder, device=device())
        decode_all(model, folder)
        accelerate(model, least=MIN_WEIGHTS)
        ours = (folder / MANIFEST).is_file() or getattr(model.config, "model_type", "") in AUTO_MAP
        if template and getattr(tokenizer, "chat_template", None) is None:
            raise InputError(
                "the model's tokenizer has no chat template", where=str(folder),
                fix="ask it without: --raw, or give the folder of a model that was tuned to chat",
            )  # fmt: skip
        used = has_chat_template(tokenizer) if template is None else template
        return cls(folder, model, tokenizer, None, ours, used)

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer brings a chat template."""
        return getattr(self.tokenizer, "chat_template", None) is not None

    def complete(
        self,
        prompt: str,
        *,
        tokens: int = 64,
        sample: bool = False,
        seed: int = 0,
        toolbox: Toolbox | None = None,
    ) -> Completion:
        """What the model writes after the prompt, or answers to it: `complete_all` of one prompt."""
        return self.complete_all([prompt], tokens=tokens, sample=sample, seed=seed, toolbox=toolbox)[0]

    def complete_all(
        self,
        prompts: Sequence[str],
        *,
        tokens: int = 64,
        sample: bool = False,
        seed: int = 0,
        toolbox: Toolbox | None = None,
    ) -> list[Completion]:
        """What the model writes after each prompt, or answers to it; all go on together.

        :param tokens: at most so many new ones each; an agent's architecture says for itself how long it answers.
        :param sample: draw from the model's distribution, in place of the most probable token each time.
        :param toolbox: of an agent's session: what a prompt saves, later ones can load.
        :raises InputError: a prompt is empty, or longer than the model can take.
        """
        if not all(prompts):
            raise InputError("the prompt is empty", where="--prompt", fix="ask something")
        if self.agent is not None:
            answers = self.agent.answers(prompts, toolbox)
            return [Completion(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        return self._write(prompts, [self._ids(prompt) for prompt in prompts], tokens, sample, seed)

    def reply(
        self, messages: Sequence[Mapping[str, str]], *, tokens: int = 64, sample: bool = False, seed: int = 0
    ) -> Completion:
        """The next turn of a conversation, in the form of the chat template.

        :param messages: {"role", "content"} each, the last one the user's.
        :raises InputError: they are longer than the model can take.
        """
        from components.shared.tasks.prompting import conversation_ids

        ids = conversation_ids(messages, self.tokenizer)
        return self._write([messages[-1]["content"]], [ids], tokens, sample, seed)[0]

    def _ids(self, prompt: str) -> list[int]:
        """The prompt as one turn of a conversation, or bare: as in training, or as the tokenizer itself begins a text."""
        from components.shared.tasks.prompting import conversation_ids, text_heads

        if self.template:
            return conversation_ids([{"role": "user", "content": prompt}], self.tokenizer)
        return (
            text_heads([prompt], self.tokenizer)[0]
            if self.ours
            else list(self.tokenizer(prompt)["input_ids"])
        )

    def _write(
        self, prompts: Sequence[str], ids: list[list[int]], tokens: int, sample: bool, seed: int
    ) -> list[Completion]:
        """Write after the token ids of each prompt, which end where the model is to go on."""
        from components.shared.generation.texts import continue_texts
        from components.shared.tasks.prompting import padding_id, stop_ids

        longest = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if longest is not None and max(map(len, ids)) >= longest:
            raise InputError(
                f"the prompt has {max(map(len, ids))} tokens, and the model takes {longest}", where=str(self.folder),
                fix="shorten it, or begin a new conversation",
            )  # fmt: skip
        limits = [tokens if longest is None else min(tokens, longest - len(each)) for each in ids]
        ends = stop_ids(self.tokenizer, self.model)
        with _in_words(self.folder):
            texts = continue_texts(
                self.model,
                ids,
                limits,
                stops=ends,
                sample=sample,
                seed=seed,
                padding=padding_id(self.tokenizer),
            )
        return [
            Completion(
                prompt,
                str(self.tokenizer.decode(written, skip_special_tokens=True)),
                len(written),
                bool(written) and written[-1] in ends,
            )
            for prompt, written in zip(prompts, texts, strict=True)
        ]


@dataclass
class Chat:
    """A conversation. Where there is no chat template, each line stands for itself; an agent keeps its tools' memory."""

    model: TextModel
    tokens: int = 64
    sample: bool = False
    seed: int = 0
    messages: list[Message] = field(default_factory=list)
    toolbox: Toolbox | None = None

    @property
    def remembers(self) -> bool:
        """Whether earlier turns are part of what the model reads."""
        return self.model.template

    def ask(self, line: str) -> Completion:
        """The answer to the user's next line.

        :raises InputError: it is empty, or the conversation has become longer than the model can take.
        """
        how: dict[str, Any] = {"tokens": self.tokens, "sample": self.sample, "seed": self.seed}
        if self.model.agent is not None and self.toolbox is None:
            from components.shared.agent.tools import Toolbox

            self.toolbox = Toolbox(self.model.agent.architecture.tools)
        if not self.remembers:
            return self.model.complete(line, **how, toolbox=self.toolbox)
        question: Message = {"role": "user", "content": line}
        answer = self.model.reply([*self.messages, question], **how)
        self.messages += [question, {"role": "assistant", "content": answer.text}]
        return answer


@contextmanager
def _in_words(folder: Path) -> Iterator[None]:
    """What goes wrong inside the block is the model's: its generation settings and sizes come from its folder.

    :raises ArtifactError: anything did.
    """
    from components.shared.models.foreign import unreadable

    try:
        yield
    except Exception as error:
        raise unreadable("the model cannot be run", folder, error) from error
