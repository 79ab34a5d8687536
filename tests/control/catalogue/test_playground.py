"""Models at work: verified first, foreign code refused, one at a time, in a process of their own that can be ended."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from components.shared.runtime.artifact.artifact import read, seal
from components.shared.runtime.errors import ForgeError
from pipelines.control.context import Control, opened
from pipelines.control.errors import Refused
from pipelines.control.services import model_worker, playground
from pipelines.control.services.models import register
from pipelines.control.settings import ControlSettings
from tests.control.catalogue.made import ALICE, asking, catalogued

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def cognate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that writes something."""
    from components.shared.models.loading import build, save
    from components.shared.models.remote_code.configuration_cognate import CognateConfig
    from components.shared.tasks.tokenizer import byte_tokenizer

    folder = tmp_path_factory.mktemp("models") / "cognate"
    save(build(CognateConfig(**SHAPE), seed=0), byte_tokenizer(), folder, card="")
    seal(folder, kind="model", phase="cognate")
    return folder


@pytest.fixture
async def control(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Control]:
    shutil.copyfile(sqlite_template, tmp_path / "control.db")
    settings = ControlSettings(runs=tmp_path / "runs", database_url=f"sqlite:///{tmp_path / 'control.db'}")
    async with opened(settings) as process:
        yield process


async def known(control: Control, folder: Path) -> str:
    manifest = read(folder).manifest
    async with control.database.write() as connection:
        await register(connection, manifest, str(folder), "", "", owner="alice")
    return manifest.digest


async def test_two_models_answer_side_by_side(control: Control, cognate: Path) -> None:
    digest = await known(control, cognate)
    answers = await playground.answers(control, [digest, digest], "12+7=", 8)
    assert [answer.digest for answer in answers] == [digest, digest]
    assert answers[0].text == answers[1].text
    assert all(0 <= answer.tokens <= 8 and answer.seconds > 0 for answer in answers)


def test_foreign_code_is_not_run(cognate: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    shutil.copytree(cognate, foreign)
    (foreign / "forge.json").unlink()
    config = json.loads((foreign / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"},
    }
    (foreign / "config.json").write_text(json.dumps(config))
    (foreign / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    digest = seal(foreign, kind="model", phase="cognate").digest
    with pytest.raises(ForgeError):
        model_worker.answer(
            {"models": [{"digest": digest, "address": str(foreign)}], "prompt": "x", "tokens": 1}
        )
    assert not (tmp_path / "ran").exists()


async def test_a_model_that_has_changed_is_not_asked(control: Control, cognate: Path, tmp_path: Path) -> None:
    place = tmp_path / "changed"
    shutil.copytree(cognate, place)
    digest = await known(control, place)
    with (place / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(Refused, match="tokenizer"):
        await playground.answers(control, [digest], "12+7=", 8)


async def test_a_model_that_takes_too_long_is_ended_with_its_process(
    control: Control, cognate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await known(control, cognate)
    monkeypatch.setattr(playground, "ANSWER_SECONDS", 0.2)
    with pytest.raises(Refused) as refused:
        await playground.answers(control, [digest], "12+7=", 8)
    assert refused.value.status == 504
    assert control.turns.waiting == 0


async def test_who_comes_while_too_many_wait_is_told_to_come_back(control: Control) -> None:
    async with control.turns.turn("wait"):
        waiting = [asyncio.create_task(_turn(control)) for _ in range(control.turns.limit)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            await _turn(control)
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "10"})
    await asyncio.gather(*waiting)


async def _turn(control: Control) -> None:
    async with control.turns.turn("wait"):
        pass


async def test_only_a_model_answers(control: Control) -> None:
    from sqlalchemy import update

    from pipelines.control.store.tables import model

    manifest = await catalogued(control, control.settings.runs / "m")
    async with control.database.write() as connection:
        await connection.execute(update(model).values(kind="population"))
    with pytest.raises(Refused, match="only a model"):
        await playground.answers(control, [manifest.digest], "x", 1)


def test_a_form_that_a_model_cannot_have_is_refused_with_the_reason(cognate: Path, tmp_path: Path) -> None:
    request = {"digest": read(cognate).digest, "address": str(cognate), "output": str(tmp_path / "out")}
    for target in playground.TARGETS:
        with pytest.raises(ForgeError, match="ternary"):
            model_worker.export({**request, "target": target})


class Controller(BaseHTTPRequestHandler):
    """A controller that says what it was asked, or that it is busy."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        busy = body["prompt"] == "busy"
        answer = {
            "digest": body["models"][0], "text": self.headers["Authorization"], "finished": True, "tokens": 1,
            "seconds": 1.0, "tokens_per_second": 1.0, "load_seconds": 0.0,
        }  # fmt: skip
        said = {"what": "too many wait", "why": "8 are before you"} if busy else {"answers": [answer]}
        self.send_response(503 if busy else 200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Not here."""


async def test_a_process_without_models_asks_the_controller_in_the_name_of_who_asks(
    tmp_path: Path, sqlite_template: Path
) -> None:
    shutil.copyfile(sqlite_template, tmp_path / "control.db")
    server = HTTPServer(("127.0.0.1", 0), Controller)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = ControlSettings(
        runs=tmp_path / "runs", database_url=f"sqlite:///{tmp_path / 'control.db'}", role="api",
        controller_url=f"http://127.0.0.1:{server.server_port}",
    )  # fmt: skip
    async with asking(settings, ALICE) as client:
        body = {"models": ["a" * 64], "prompt": "hello"}
        headers = {"Authorization": "Bearer token"}
        answer = await client.post("/models/answer", json=body, headers=headers)
        assert answer.json()["answers"][0]["text"] == "Bearer token"
        busy = await client.post("/models/answer", json={**body, "prompt": "busy"}, headers=headers)
        assert (busy.status_code, busy.json()["what"]) == (503, "too many wait")
        server.shutdown()
        server.server_close()
        gone = await client.post("/models/answer", json=body, headers=headers)
        assert (gone.status_code, gone.json()["what"]) == (503, "the controller does not answer")
