"""A model of ours as `LM` of lm-evaluation-harness: `--model agent_forge --model_args path=…`.

The model is loaded as everything here loads it, so codecs, ternary layers, memory and refinement are what they are in the
artifact. Beyond that

    thoughts    a model with a talk head thinks before each token that is scored or written (`thoughts=false`: it does not)
    experts     an agent (agent.json) dispatches each context, and is the mixture of experts of its route, with the layers
                left out that this leaves out, for scoring and for writing
    the rest    of a route is for writing alone: thinking aloud (the thought is no part of the answer), branches, and the
                tools that execute a call. Its instruction is not put in front: what stands in front is the task's

Contexts and continuations are tokenised as the harness' own `hf` model does it (TemplateLM._encode_pair). Rows of the byte
tokenizer's models begin with <bos>, as all their rows do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model

from components.shared.agent.agent import AGENT, ALOUD_TOKENS, Agent
from components.shared.agent.architecture import Route
from components.shared.agent.tools import Toolbox
from components.shared.evaluation.branching import branch
from components.shared.models.layers import skipping
from components.shared.models.loading import load
from components.shared.runtime.errors import ConfigError
from components.shared.tasks.extraction import until
from components.shared.tasks.item import Item
from components.shared.tasks.prompting import padding_id, thought_ids
from components.shared.tasks.tokenizer import SPECIAL

from .likelihood import likelihoods, row_of
from .writing import Wanted, texts_after, thoughtful_texts, wanted

POSITIONS = 2048
"""Tokens that a model reads whose config says nothing."""
Encoded = tuple[Any, list[int], list[int]]
"""(what was asked, context, continuation); None is asked where a text is scored in windows."""


@register_model("agent_forge")
class AgentForgeLM(TemplateLM):
    """An artifact, an agent, or any causal language model's folder.

    :param path: of the folder.
    :param batch_size: rows in one forward.
    :param device: of the model; left out: the CPU. The harness' command line says "cuda:0" where nobody has said anything.
    :param dtype: of the weights in memory, such as "bfloat16"; left out: as stored.
    :param max_length: tokens that are read at most; left out: the model's positions.
    :param max_gen_toks: tokens of an answer, where a task says nothing.
    :param thoughts: whether a model that was taught to think does.
    :param add_bos_token: whether contexts begin with <bos>; left out: as the tokenizer does it, and yes for the byte
        tokenizer.
    """

    def __init__(
        self,
        path: str,
        batch_size: int | str = 16,
        max_batch_size: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        thoughts: bool = True,
        add_bos_token: bool | None = None,
    ) -> None:
        super().__init__()
        self.agent, self.model, self.tokenizer = _loaded(Path(path), _there(device), dtype)
        self.batch_size = int(batch_size) if str(batch_size).isdigit() else max_batch_size or 16
        self.path, self.max_gen_toks, self.add_bos_token = path, max_gen_toks, add_bos_token
        self._device = self.model.device
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        self.max_length = int(max_length or positions or POSITIONS)
        self.thoughts = thoughts
        self.begins = self.tokenizer.get_vocab().keys() >= {*SPECIAL} and add_bos_token is None

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands in front of a text that has no context."""
        start = self.tokenizer.bos_token_id
        return self.eot_token_id if start is None else int(start)

    @property
    def tokenizer_name(self) -> str:
        """What the harness' cache of requests knows the tokenizer by."""
        return self.path.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """A text's token ids; a <bos> that stands in the text is not doubled."""
        start = self.tokenizer.bos_token_id
        begun = add_special_tokens is None and string.startswith(self.tokenizer.decode(self.prefix_token_id))
        special = add_special_tokens if add_special_tokens is not None else self.add_bos_token
        options = {} if special is None else {"add_special_tokens": special}
        ids = list(self.tokenizer.encode(string, **({"add_special_tokens": False} if begun else options)))
        first = self.begins and add_special_tokens is None and not begun
        return [start, *ids] if first else ids

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation in the tokenizer's template."""
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-probability of whole texts, in windows that begin where the one before ended."""
        windows: list[Encoded] = []
        counts = []
        for (text,) in [request.args for request in requests]:
            ids = self.tok_encode(text, add_special_tokens=False if self.begins else None)
            pieces = [
                utils.make_disjoint_window(pair)
                for pair in utils.get_rolling_token_windows(
                    token_list=ids,
                    prefix_token=self.prefix_token_id,
                    max_seq_len=self.max_length,
                    context_len=1,
                )
            ]
            windows += [(None, list(context), list(behind)) for context, behind in pieces]
            counts.append(len(pieces))
        logs = iter([log for log, _ in self._loglikelihood_tokens(windows)])
        totals = [sum(next(logs) for _ in range(count)) for count in counts]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def _loglikelihood_tokens(self, requests: list[Encoded], **kwargs: Any) -> list[tuple[float, bool]]:  # type: ignore[override]
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        contexts = [asked[0] if asked else "" for asked, *_ in requests]
        for route, indices in self._by_route(contexts):
            rows = [row_of(requests[i][1], requests[i][2], self.max_length) for i in indices]
            with self._on(route):
                found = likelihoods(
                    self.model,
                    rows,
                    batch=self.batch_size,
                    thoughts=self._thinks(route),
                    length=route.thought_length or None,
                )
            for index, (log, greedy) in zip(indices, found, strict=True):
                answers[index] = (log, greedy)
        for (asked, *_), answer in zip(requests, answers, strict=True):
            if asked is not None:
                self.cache_hook.add_partial("loglikelihood", asked, answer)
        return answers

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each context, up to what ends it."""
        texts = [""] * len(requests)
        routes = self._by_route([request.args[0] for request in requests])
        for route, indices in routes:
            alike: dict[Wanted, list[int]] = {}
            for index in indices:
                alike.setdefault(wanted(requests[index].args[1], self.max_gen_toks), []).append(index)
            for want, group in alike.items():
                contexts = [requests[index].args[0] for index in group]
                with self._on(route):
                    answers = self._written(contexts, want, route)
                for index, text in zip(group, answers, strict=True):
                    texts[index] = self._executed(text, requests[index].args[0])
        for request, text in zip(requests, texts, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return texts

    @torch.no_grad()
    def _written(self, contexts: Sequence[str], want: Wanted, route: Route) -> list[str]:
        """What the model says after contexts, on a route that it is on."""
        aloud = thought_ids(self.tokenizer) if route.think == "aloud" else None
        limit = want.limit + ((route.thought_length or ALOUD_TOKENS) if aloud else 0)
        room = self.max_length - limit
        if room < 1:
            raise ConfigError(
                f"an answer of {limit} tokens leaves no room for its question", where="max_gen_toks",
                why=f"the model takes {self.max_length}", fix="ask for a shorter answer",
            )  # fmt: skip
        prompts = [self.tok_encode(context)[-room:] + ([aloud[0]] if aloud else []) for context in contexts]
        prompts = [prompt or [self.prefix_token_id] for prompt in prompts]
        stops = self._stops()
        if self._thinks(route):
            ids = thoughtful_texts(
                self.model,
                prompts,
                limit,
                stops=stops,
                length=route.thought_length or None,
                batch=self.batch_size,
            )
        elif route.branches > 1:
            ids = branch(self.model, prompts, stops=stops, limit=limit, width=route.branches)
        else:
            # what ends an answer may stand in a thought as well
            ends = () if aloud else want.until
            ids = texts_after(
                self.model,
                self.tokenizer,
                prompts,
                want._replace(limit=limit, until=ends),
                stops=stops,
                padding=padding_id(self.tokenizer),
            )
        if aloud:
            ids = [row[row.index(aloud[1]) + 1 :] if aloud[1] in row else [] for row in ids]
        return [until(self._text(row, stops), {"until": want.until}) for row in ids]

    def _text(self, ids: Sequence[int], stops: Sequence[int]) -> str:
        end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
        return str(self.tokenizer.decode(list(ids[:end]), skip_special_tokens=True))

    def _stops(self) -> list[int]:
        """<eos>, and what the model's generation settings end a text with."""
        known = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        return [self.eot_token_id, *([known] if isinstance(known, int) else known or [])]

    def _executed(self, text: str, context: str) -> str:
        """The answer, its call executed where the agent has tools."""
        if self.agent is None:
            return text
        return Toolbox(self.agent.architecture.tools).execute(text, context)

    def _by_route(self, contexts: Sequence[str]) -> list[tuple[Route, list[int]]]:
        """The contexts of each route: one for all, where there is no agent."""
        if self.agent is None:
            taught = bool(getattr(self.model.config, "thoughts", None))
            return [(Route(think="quietly" if taught else "no"), list(range(len(contexts))))]
        groups: dict[str, tuple[Route, list[int]]] = {}
        items = [Item("", 1, "report", context, "") for context in contexts]
        for index, route in enumerate(self.agent.routes(items)):
            groups.setdefault(route.canonical_json, (route, []))[1].append(index)
        return list(groups.values())

    @contextmanager
    def _on(self, route: Route) -> Iterator[None]:
        """Inside the block the model is the route's mixture of experts, without the layers that it leaves out."""
        if self.agent is None:
            yield
            return
        with self.agent.with_experts(route), skipping(self.model, route.skip):
            yield

    def _thinks(self, route: Route) -> bool:
        """Whether the model thinks before each token."""
        return self.thoughts and route.think == "quietly"


def _there(device: str | None) -> str:
    """The device, or the CPU where this machine has none of the kind, as the harness' own model does it."""
    if (device or "").startswith("cuda") and not torch.cuda.is_available():
        logging.getLogger(__name__).warning("there is no %s on this machine: the model is on the CPU", device)
        return "cpu"
    return device or "cpu"


def _loaded(folder: Path, device: str, dtype: str | None) -> tuple[Agent | None, Any, Any]:
    """The agent of a folder, if it has one, its model and its tokenizer.

    :raises ConfigError: no such dtype, or one for an agent.
    """
    kind = getattr(torch, dtype, None) if dtype else None
    if dtype and not isinstance(kind, torch.dtype):
        raise ConfigError(
            f"there is no dtype {dtype!r}", where="model_args", fix="float32, bfloat16, float64 …"
        )
    if (folder / AGENT).is_file():
        agent = Agent.load(folder, device=device)
        if kind is not None:
            agent.model.to(kind)
        return agent, agent.model, agent.tokenizer
    return None, *load(folder, device=device, dtype=kind)
