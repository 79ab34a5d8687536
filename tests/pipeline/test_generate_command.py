"""`forge generate`: prompts, chats, and what a tokenizer's chat template does."""

import json
import time

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from components.shared.agent.agent import Agent
from components.shared.agent.architecture import Architecture
from components.shared.models.loading import build, load, save, wrap
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.artifact.artifact import seal
from components.shared.runtime.errors import ArtifactError, InputError
from components.shared.tasks.tokenizer import byte_tokenizer
from pipelines import cli
from pipelines.generate import Chat, TextModel, model_folder
from pipelines.runs.folder import RunFolder, RunStatus, TaskStatus

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    """A plain Llama of transformers whose tokenizer has a chat template."""
    folder = tmp_path_factory.mktemp("models") / "chatty"
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=272, max_position_embeddings=64, **SHAPE)).save_pretrained(folder)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cognate(tmp_path_factory):
    """An artifact of ours."""
    folder = tmp_path_factory.mktemp("models") / "cognate"
    save(build(CognateConfig(**SHAPE), seed=0), byte_tokenizer(), folder, card="")
    seal(folder, kind="model", phase="cognate")
    return folder


@pytest.fixture
def read(monkeypatch):
    """The texts that models were given to go on with, special tokens and all."""
    texts = []
    generate = TextModel._write

    def write(self, prompts, ids, *how):
        texts.extend(map(self.tokenizer.decode, ids))
        return generate(self, prompts, ids, *how)

    monkeypatch.setattr(TextModel, "_write", write)
    return texts


def test_a_chat_template_is_used_for_a_foreign_model_that_has_one_and_can_be_left_out(chatty, read):
    assert TextModel.load(chatty).complete("hi", tokens=4).tokens <= 4
    TextModel.load(chatty, template=False).complete("hi", tokens=4)
    assert read == ["<user>hi<a>", "hi"]


def test_a_model_of_ours_reads_what_it_was_trained_on(cognate, read, tmp_path):
    TextModel.load(cognate).complete("12+7=", tokens=4)
    assert read == ["<bos>12+7="]
    with pytest.raises(InputError, match="no chat template"):
        TextModel.load(cognate, template=True)


def test_an_artifact_of_ours_that_was_made_of_a_chat_model_is_asked_under_its_template(
    chatty, read, tmp_path
):
    model, tokenizer = load(chatty)
    save(wrap(model), tokenizer, tmp_path / "wrapped", card="")
    seal(tmp_path / "wrapped", kind="model", phase="bitnet")
    TextModel.load(tmp_path / "wrapped").complete("hi", tokens=4)
    TextModel.load(tmp_path / "wrapped", template=False).complete("hi", tokens=4)
    assert read == ["<user>hi<a>", "<bos>hi"]


def test_a_chat_goes_on_from_what_was_said_before(chatty, read):
    chat = Chat(TextModel.load(chatty), tokens=3)
    first = chat.ask("hi").text
    chat.ask("you")
    assert read[1] == f"<user>hi<assistant>{first}<user>you<a>"
    with pytest.raises(InputError, match="takes 64"):
        chat.ask("x" * 64)
    assert len(chat.messages) == 4


def test_an_agent_answers_as_its_architecture_says_and_a_chat_keeps_its_tools(cognate, tmp_path):
    model, tokenizer = load(cognate)
    chat = Chat(TextModel(tmp_path, model, tokenizer, Agent(model, tokenizer, Architecture()), ours=True))
    chat.ask("12+7=")
    box = chat.toolbox
    assert chat.ask("12+7=").tokens is None and chat.toolbox is box and not chat.remembers


def test_a_runs_last_model_is_its_agent(cognate, tmp_path):
    run = RunFolder(tmp_path / "demo")
    run.write(RunStatus("demo", "running", time.time()))
    with pytest.raises(ArtifactError, match="not made a model yet"):
        model_folder(tmp_path, "demo")
    output = run.task("cognate").output("model")
    output.parent.mkdir(parents=True)
    output.symlink_to(cognate)
    run.task("cognate").write(
        TaskStatus(
            "cognate", "cognate", "cognate", status="succeeded", finished=1.0, outputs={"model": str(output)}
        )
    )
    assert model_folder(tmp_path, "latest") == output and model_folder(tmp_path, str(cognate)) == cognate


def test_the_command_answers_several_prompts_and_both_names_are_one(forge, chatty, cognate):
    code, text = forge(
        "generate", "--model-path", chatty, "--prompt", "hi", "--prompt", "you", "--tokens", 4, "--json"
    )
    assert code == 0, text
    answer = json.loads(text)
    assert answer["model"] == str(chatty) and [completion["prompt"] for completion in answer["answers"]] == [
        "hi",
        "you",
    ]
    assert all(completion["tokens"] <= 4 for completion in answer["answers"])
    code, text = forge("test", "--model-path", cognate, "--prompt", "12+7=", "--tokens", 4)
    assert code == 0 and text.startswith(f"{cognate}\n")
    code, text = forge("test", cognate, "--prompt", "12+7=", "--tokens", 4)
    assert code == 0 and text.startswith(f"{cognate}\n")


def test_lines_of_a_chat_are_answered_until_the_input_ends(chatty, cognate, monkeypatch):
    monkeypatch.setattr(cli.console, "file", None)
    command = ["generate", "--model-path", str(chatty), "--chat", "--tokens", "3"]
    done = CliRunner().invoke(cli.app, [*command, "--json"], input="hi\n\nyou\n")
    assert done.exit_code == 0, done.output
    assert [json.loads(line)["prompt"] for line in done.stdout.splitlines()] == ["hi", "you"]
    done = CliRunner().invoke(cli.app, [*command[:2], str(cognate), *command[3:]], input="hi\n")
    assert done.exit_code == 0 and "no chat template" in done.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--prompt", "x", "--chat"], 2, "a chat is asked for"),
        ([], 2, "nothing to ask"),
        (["--prompt", "x", "--tokens", "-1"], 2, "--tokens"),
        (["here", "--model-path", "there", "--prompt", "x"], 2, "give one"),
        (["--model-path", "nowhere", "--prompt", "x"], 3, "forge models lists them"),
        (["nowhere", "--prompt", "x"], 6, "there is no run"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(forge, arguments, code, said):
    exit_code, text = forge("generate", *arguments)
    assert exit_code == code and said in text


def test_code_that_a_foreign_model_brings_along_is_not_run(chatty, tmp_path, forge):
    for file in chatty.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text("raise SystemExit('it ran')")
    code, text = forge("generate", "--model-path", tmp_path, "--prompt", "x")
    assert code == 3 and "which is not run" in text


def test_an_empty_answer_of_a_model_that_has_a_template_is_explained(forge, chatty, monkeypatch):
    monkeypatch.setattr(
        "pipelines.generate.TextModel._write", lambda self, prompts, *how: [_nothing(*prompts)]
    )

    result = CliRunner().invoke(cli.app, ["generate", str(chatty), "--raw", "--prompt", "x"])
    assert result.exit_code == 0 and "--template uses it" in result.output


def _nothing(prompt):
    from pipelines.generate import Completion

    return Completion(prompt, "", 1)
