"""The agent around a model: what it answers, how it is stored, what it refuses."""

import json

import pytest
import torch

from components.shared.agent.agent import AGENT, EXPERTS, Agent
from components.shared.agent.architecture import TOOLS, Architecture, Route
from components.shared.agent.dispatcher import fit
from components.shared.agent.tools import Toolbox
from components.shared.evaluation.answers import correct
from components.shared.models.layers import decoder_layers, skipping
from components.shared.models.loading import save, wrap
from components.shared.models.remote_code.experts import set_expert
from components.shared.models.remote_code.thoughts import generate_with_thoughts
from components.shared.runtime.errors import ArtifactError, InputError
from components.shared.tasks.item import Item
from components.shared.tasks.tokenizer import byte_tokenizer

from ..models.variants import cognate, some_ids

PATHS = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj")
TOKENIZER = byte_tokenizer()


def experts(model, *names):
    return {
        name: {
            path: (1 + torch.randn(32, generator=torch.Generator().manual_seed(seed))).half()
            for path in PATHS
        }
        for seed, name in enumerate(names)
    }


def prompts(count=12):
    return [Item("x", 1, "report", text, "?") for text in ("ab=", "47+3=", "sort dax=", "z")] * (count // 4)


class Scripted(Agent):
    """Says what stands in a table, so that what is done with it can be seen."""

    def __init__(self, table, architecture, **more):
        super().__init__(cognate(), TOKENIZER, architecture, **more)
        self.table = table

    def generate(self, items, route):
        return [self.table[item.prompt] for item in items]


def test_the_plain_agent_is_right_exactly_where_the_model_is():
    model = cognate(hidden_size=32)
    bare = Agent(model, TOKENIZER, Architecture(), answer_tokens=6)
    asked = prompts()
    said = bare.answers(asked)
    answered = [
        Item("x", 1, "report", item.prompt, text if place % 2 else "no")
        for place, (item, text) in enumerate(zip(asked, said, strict=True))
    ]
    ended = [len(TOKENIZER(text)["input_ids"]) < 6 for text in said]
    agent, forward = correct(bare.answers, TOKENIZER, answered), correct(model, TOKENIZER, answered)
    assert [a for a, whole in zip(agent, ended, strict=True) if whole] == [
        f for f, whole in zip(forward, ended, strict=True) if whole
    ]


def test_a_mixture_is_the_weighted_sum_of_the_experts_and_of_the_base():
    model, ids = cognate(), some_ids(2, 7)
    both = experts(model, "a", "b")
    agent = Agent(model, TOKENIZER, Architecture(), experts=both)
    before = model(ids).logits
    with agent.with_experts(Route(experts={"a": 0.25, "b": 0.5})):
        mixed = model(ids).logits
    set_expert(model, {p: 0.25 * both["a"][p].float() + 0.5 * both["b"][p].float() + 0.25 for p in PATHS})
    torch.testing.assert_close(mixed, model(ids).logits)
    set_expert(model, None)
    assert torch.equal(model(ids).logits, before) and not torch.allclose(mixed, before, atol=0.1)


def test_calls_are_executed_by_the_tools_of_the_architecture_and_by_no_others():
    table = {"47+3=": "<add 47 3>", "keep k42=": "<save k 42>", "load k42=": "<load k 42>", "dax": "xad"}
    asked = list(table)
    able = Scripted(table, Architecture(tools=TOOLS))
    assert able.answers(asked) == ["0", "ok", "?", "xad"]  # one prompt does not see what another saved
    assert able.answers(asked, Toolbox(TOOLS)) == ["0", "ok", "42", "xad"]  # within a session it does
    assert Scripted(table, Architecture(tools=("memory",))).answers(asked)[0] == "<add 47 3>"
    assert Scripted(table, Architecture()).answers(asked) == list(table.values())


def test_prompts_take_the_route_of_their_class_and_the_default_below_the_threshold():
    texts = ["47+3=", "12-5=", "30+4=", "sort dax=", "sort bcz=", "sort que="]
    dispatcher = fit(texts, ["sums"] * 3 + ["words"] * 3)
    sums, words = Route(instruction="tool"), Route(branches=2)
    items = [Item("x", 1, "report", text, "") for text in texts]

    def routes(threshold):
        architecture = Architecture(routes={"sums": sums, "words": words}, threshold=threshold)
        return Agent(cognate(), TOKENIZER, architecture, dispatcher=dispatcher).routes(items)

    assert routes(0.5) == [sums] * 3 + [words] * 3
    assert routes(1.0) == [Route()] * 6


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_is_stored_answers_as_what_was_made_and_is_the_base_for_plain_transformers(tmp_path, wrapped):
    model = cognate()
    dispatcher = fit(["47+3=", "sort dax="], ["sums", "words"])
    architecture = Architecture(
        default=Route(think="aloud", thought_length=4),
        routes={"sums": Route(experts={"a": 0.5, "b": 0.25}), "words": Route(skip=(1,))},
        threshold=0.4,
        tools=("calculator", "context"),
    )
    agent = Agent(
        model,
        TOKENIZER,
        architecture,
        experts=experts(model, "a", "b"),
        dispatcher=dispatcher,
        answer_tokens=5,
    )
    said = agent.answers(prompts())
    save(wrap(model) if wrapped else model, TOKENIZER, tmp_path, card="")  # compression may wrap it
    agent.save(tmp_path)
    stored = Agent.load(tmp_path)
    assert stored.architecture == architecture and stored.answers(prompts()) == said
    assert len(set(said)) > 1
    ids = some_ids(2, 5)
    torch.testing.assert_close(stored.model(ids).logits, model(ids).logits)
    again = tmp_path / "again"
    again.mkdir()
    stored.save(again)
    assert (again / AGENT).read_bytes() == (tmp_path / AGENT).read_bytes()


def test_an_agent_needs_no_more_files_than_it_uses(tmp_path):
    save(cognate(), TOKENIZER, tmp_path, card="")
    with pytest.raises(ArtifactError, match=r"holds no agent\.json"):
        Agent.load(tmp_path)
    Agent(cognate(), TOKENIZER, Architecture()).save(tmp_path)
    assert not (tmp_path / EXPERTS).exists() and Agent.load(tmp_path).answers([]) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format"),
        ({"script": "import os"}, "script"),
        ({"architecture": {"tools": ["shell"]}}, "architecture.tools.0"),
        ({"architecture": {"default": {"skip": [0]}}}, "layers from 1 on"),
        ({"architecture": {"default": {"think": "quietly", "branches": 2}}}, "greedily"),
        ({"architecture": {"threshold": 2}}, "threshold"),
    ],
)
def test_a_damaged_agent_file_is_refused_with_the_place_of_the_damage(tmp_path, change, said):
    save(cognate(), TOKENIZER, tmp_path, card="")
    Agent(cognate(), TOKENIZER, Architecture()).save(tmp_path)
    file = json.loads((tmp_path / AGENT).read_text())
    (tmp_path / AGENT).write_text(json.dumps(file | change))
    with pytest.raises(ArtifactError, match=said):
        Agent.load(tmp_path)


@pytest.mark.parametrize(
    ("route", "said"),
    [
        (Route(experts={"c": 1.0}), "no expert c"),
        (Route(think="quietly"), "not taught to think"),
        (Route(skip=(7,)), r"no layers \[7\]"),
    ],
)
def test_an_architecture_that_the_model_cannot_take_is_refused(route, said):
    model = cognate()
    with pytest.raises(InputError, match=said):
        Agent(model, TOKENIZER, Architecture(default=route), experts=experts(model, "a", "b"))


def test_thoughts_are_those_of_the_model_and_only_the_answer_is_said():
    model = cognate(thoughts={"length": 2, "start": 259, "end": 260, "mixing": True})
    torch.nn.init.normal_(model.talk_head.outward.weight)
    items = prompts(4)
    agent = Agent(model, TOKENIZER, Architecture(), answer_tokens=3)
    for length in (1, 3):
        said = agent.generate(items[:1], Route(think="quietly", thought_length=length))
        ids = torch.tensor([[257, *TOKENIZER("ab=")["input_ids"]]])
        tokens = generate_with_thoughts(model, ids, limit=3, stops=(258,), length=length)[0].tolist()
        tokens = tokens[: tokens.index(258)] if 258 in tokens else tokens
        assert said == [TOKENIZER.decode(tokens)]


def test_thinking_aloud_answers_with_what_follows_the_thought(monkeypatch):
    seen = []

    def sampled(model, asked, **settings):
        seen.append((asked, settings["limit"]))
        return [[49, 50, 260, 55, 258], [49, 49]]

    monkeypatch.setattr("components.shared.agent.agent.sample_answers", sampled)
    agent = Agent(cognate(), TOKENIZER, Architecture(), answer_tokens=3)
    items = [Item("x", 1, "report", "4+3=", ""), Item("x", 1, "report", "1+1=", "")]
    assert agent.generate(items, Route(think="aloud", thought_length=5)) == ["7", ""]
    ((asked, limit),) = seen
    assert asked[0] == [257, *b"4+3=", 259] and limit == 8


def test_a_layer_that_is_left_out_is_as_if_it_were_not_there():
    model, ids = cognate(num_hidden_layers=3), some_ids(2, 7)
    before = model(ids).logits
    with skipping(model, (1,)):
        without = model(ids).logits
        cached = model.generate(ids, max_new_tokens=4, do_sample=False, use_cache=True)
        assert torch.equal(cached, model.generate(ids, max_new_tokens=4, do_sample=False, use_cache=False))
    assert torch.equal(model(ids).logits, before)
    del decoder_layers(model)[1]
    torch.testing.assert_close(model(ids).logits, without)
    with pytest.raises(ValueError, match="layers 1 to 2"), skipping(cognate(), (0,)):
        pass
