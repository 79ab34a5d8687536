"""Models at work for whoever asks: answers side by side, and forms for other programs, in a process of their own.

One model process at a time; nothing of it is imported here. It gets no secret of this process but the store's keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import uuid
from typing import Any

from pydantic import BaseModel
from sqlalchemy import select

from components.shared.runtime.errors import ForgeError

from ..auth.rights import Principal
from ..context import Control
from ..errors import Refused
from ..store.database import now
from ..store.tables import deployment
from ..store.upsert import upsert
from .catalogue import find, owned_row
from .lineage import Deployment, deployments

ANSWER_SECONDS = 120.0
EXPORT_SECONDS = 600.0
LONGEST_PROMPT = 8000
MOST_TOKENS = 512
TARGETS = ("transformers", "gguf")
"""The forms that components/shared/export writes."""

PASSED_ON = (
    "PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE",
)  # fmt: skip
STORE_KEYS = ("AWS_", "FORGE_ENCRYPTION_")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class Answer(BaseModel):
    """What a model has written.

    :param finished: it ended by itself; else it was cut off.
    :param seconds: of writing; `load_seconds` of verifying and loading before that.
    :param route: how an agent went about it: thoughts, experts, branches; None for a plain model.
    """

    digest: str
    text: str
    finished: bool
    tokens: int
    seconds: float
    tokens_per_second: float
    load_seconds: float
    route: dict[str, Any] | None = None


async def answers(control: Control, digests: list[str], prompt: str, tokens: int) -> list[Answer]:
    """What models answer to a prompt.

    :raises Refused: a model is not there, too many wait, or it takes too long.
    :raises ForgeError: a model cannot be used: damaged, foreign code, no text model.
    """
    models = [await find(control.database, digest) for digest in digests]
    for found in models:
        if found.kind != "model":
            raise Refused(422, "only a model answers", where=found.digest, why=f"this is a {found.kind}")
    request = {
        "do": "answer",
        "models": [{"digest": found.digest, "address": found.address} for found in models],
        "prompt": prompt,
        "tokens": tokens,
    }
    given = [Answer(**said) for said in await in_process(control, request, ANSWER_SECONDS, "ask a model")]
    control.meters.tokens.inc(sum(answer.tokens for answer in given))
    control.meters.token_seconds.inc(sum(answer.seconds for answer in given))
    return given


async def deploy(control: Control, digest: str, target: str, who: Principal) -> Deployment:
    """Write a model in the form of another program, below the control plane's folder.

    :raises Refused: no such model of theirs, or no such form.
    :raises ForgeError: the model has no such form: the reason says what it would need.
    """
    if target not in TARGETS:
        raise Refused(
            422, "there is no way to this target yet", where="target",
            why=f"models can be written as {' or '.join(TARGETS)}", fix=f"give {' or '.join(TARGETS)}",
        )  # fmt: skip
    async with control.database.read() as connection:
        row = await owned_row(connection, digest, who)
    output = (control.settings.folder / "exports" / digest[:16] / target).absolute()
    draft = output.with_name(f".{target}.{uuid.uuid4().hex}")
    request = {
        "do": "export", "digest": digest, "address": row.address, "target": target, "output": str(draft),
    }  # fmt: skip
    draft.parent.mkdir(parents=True, exist_ok=True)
    try:
        notes = await in_process(control, request, EXPORT_SECONDS, "write a model")
        await asyncio.to_thread(_replace, draft, output)
    finally:
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
    async with control.database.write() as connection:
        await owned_row(connection, digest, who)  # nobody has removed it meanwhile
        time = float(await connection.scalar(select(now())) or 0.0)
        written = {
            "address": str(output),
            "state": "written",
            "notes": notes,
            "owner": who.id,
            "created": time,
        }
        await upsert(
            connection, deployment, [{"digest": digest, "target": target, **written}],
            lambda new: {name: new[name] for name in written},
        )  # fmt: skip
        return next(found for found in await deployments(connection, digest) if found.target == target)


def _replace(draft: os.PathLike[str], output: os.PathLike[str]) -> None:
    shutil.rmtree(output, ignore_errors=True)
    os.rename(draft, output)


async def in_process(control: Control, request: dict[str, Any], seconds: float, what: str) -> list[Any]:
    """What the process of models says to a request.

    :raises Refused: too many wait, it takes too long (504), or it ended without an answer (500).
    :raises ForgeError: what it says is wrong.
    """
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment |= {name: value for name, value in os.environ.items() if name.startswith(STORE_KEYS)}
    async with control.turns.turn(what):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipelines.control.services.model_worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            start_new_session=True, env={**environment, **OFFLINE},
        )  # fmt: skip
        try:
            async with asyncio.timeout(seconds):
                said, noise = await process.communicate(json.dumps({**request, "seconds": seconds}).encode())
        except TimeoutError:
            raise Refused(
                504, "the model takes too long", where=what, why=f"more than {seconds:.0f} s",
                fix="ask for fewer tokens",
            ) from None  # fmt: skip
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    try:
        content = json.loads(said)
    except ValueError:
        last = noise.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise Refused(
            500, "the process of the model has ended without an answer", where=what,
            why=f"exit code {process.returncode}: {last[0][:300]}", fix="is there memory enough for it?",
        ) from None  # fmt: skip
    if "error" in content:
        raise _as_error(content["kind"], content["error"])
    done: list[Any] = content["done"]
    return done


def _as_error(kind: str, said: dict[str, str]) -> ForgeError:
    """The error of the other process: what is wrong with a model or a prompt is the asker's to know."""
    status = {"StoreError": 503, "MissingKey": 404}.get(kind, 422)
    return Refused(status, said["what"], where=said["where"], why=said["why"], fix=said["fix"])
