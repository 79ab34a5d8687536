"""The catalogue of models, and the playground."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from ..auth.guard import Asker, right
from ..services import catalogue, importing, lineage, model_detail, playground, removal, tensors
from ..services.artifact_files import artifact_file
from .app import Here
from .controller import from_controller
from .errors import Problem
from .text import Cursor, Digest, Plain, Time, Word

router = APIRouter(prefix="/models", tags=["models"], responses={404: {"model": Problem}})

Bytes = Annotated[int | None, Query(ge=0, le=2**62)]
Name = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+-]*$")]


class Import(BaseModel):
    """Where models lie that the catalogue shall know."""

    model_config = ConfigDict(extra="forbid")
    address: Plain = Field(
        min_length=1, max_length=2000, description="of an artifact, or of a place above some"
    )


class Deploy(BaseModel):
    """The form that a model shall have."""

    model_config = ConfigDict(extra="forbid")
    target: Plain = Field(max_length=64, description="transformers or gguf")


class Question(BaseModel):
    """What is asked, and whom."""

    model_config = ConfigDict(extra="forbid")
    models: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(min_length=1, max_length=2)
    prompt: str = Field(min_length=1, max_length=playground.LONGEST_PROMPT)
    tokens: int = Field(64, ge=1, le=playground.MOST_TOKENS, description="at most so many new ones")


class Answers(BaseModel):
    """One answer a model, in the order in which they were asked."""

    answers: list[playground.Answer]


@router.get("", dependencies=[right("models", "read")])
async def models(
    here: Here,
    phase: Word = "",
    kind: Annotated[Literal["model", "trunk", "population", "all"], Query()] = "model",
    digest: Annotated[str, Query(pattern=r"^[0-9a-f]{0,64}$", description="how it begins")] = "",
    min_score: Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)] = None,
    tag: Word = "",
    run: Word = "",
    q: Word = "",
    min_bytes: Bytes = None,
    max_bytes: Bytes = None,
    after: Time = None,
    before: Time = None,
    pinned: bool | None = None,
    order: catalogue.Order = "finished",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Cursor = "",
) -> catalogue.ModelPage:
    """The models that fit, the newest, the best or the largest first."""
    wanted = catalogue.Search(
        phase=phase, kind="" if kind == "all" else kind, digest=digest, min_score=min_score, tag=tag, run=run, text=q,
        min_bytes=min_bytes, max_bytes=max_bytes, after=after, before=before, pinned=pinned, order=order,
    )  # fmt: skip
    return await catalogue.search(here.database, wanted, limit, cursor)


@router.post("/import", dependencies=[right("models", "write")])
async def import_models(here: Here, who: Asker, place: Import) -> importing.Imported:
    """Enter the artifacts at a place, or below it, into the catalogue."""
    return await importing.import_models(here, place.address, who)


@router.post(
    "/answer",
    dependencies=[right("models", "execute")],
    responses={500: {"model": Problem}, 503: {"model": Problem}, 504: {"model": Problem}},
)
async def answer(here: Here, request: Request, question: Question) -> Answers:
    """Ask one model, or two side by side. Each is verified before it is used, and no code of it is run."""
    if here.settings.controller_url and not here.settings.runs_runs:
        return Answers(**await from_controller(here, request, question.model_dump()))
    return Answers(answers=await playground.answers(here, question.models, question.prompt, question.tokens))


@router.get("/{digest}", dependencies=[right("models", "read")])
async def model(here: Here, who: Asker, digest: Digest) -> model_detail.ModelDetail:
    """A model in full."""
    return await model_detail.detail(here, digest, who)


@router.delete("/{digest}", dependencies=[right("models", "delete")], responses={409: {"model": Problem}})
async def remove(here: Here, who: Asker, digest: Digest) -> removal.Removed:
    """Remove a model and its files, where nothing refers to it."""
    return await removal.remove(here, digest, who)


@router.get("/{digest}/lineage", dependencies=[right("models", "read")])
async def model_lineage(
    here: Here, digest: Digest, depth: Annotated[int, Query(ge=1, le=64)] = 32
) -> lineage.Lineage:
    """What a model was made from, and what was made of it."""
    return await lineage.lineage(here.database, digest, depth)


@router.get("/{digest}/tensors", dependencies=[right("models", "read")])
async def model_tensors(
    here: Here,
    digest: Digest,
    q: Word = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    cursor: Cursor = "",
) -> tensors.TensorPage:
    """The tensors of a model, by name: shape, codec, bits a weight, and what the code loses."""
    found = await catalogue.find(here.database, digest)
    return await tensors.page(here, digest, found.address, limit=limit, cursor=cursor, text=q)


@router.get(
    "/{digest}/files/{name:path}",
    dependencies=[right("models", "read")],
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {}}},
        206: {"description": "a range of it"},
        307: {"description": "a link, signed for five minutes, into the store that has it"},
        416: {"description": "no such range"},
    },
)
async def file(here: Here, digest: Digest, name: Annotated[str, Path(max_length=1000)]) -> Response:
    """A file of a model, by its name in the manifest; in a bucket, a link to it."""
    found = await artifact_file(here, digest, name)
    if found.store is not None:
        return StreamingResponse(found.parts(), media_type="application/octet-stream")
    if found.path is None:
        return RedirectResponse(found.link, 307, headers={"Cache-Control": "no-store"})
    return FileResponse(
        found.path,
        media_type="application/octet-stream",
        filename=found.path.name,
        headers={"X-Content-Type-Options": "nosniff"},
    )


@router.put("/{digest}/tags/{tag}", dependencies=[right("models", "write")])
async def tag(here: Here, who: Asker, digest: Digest, tag: Name) -> catalogue.Model:
    """Give a model a tag."""
    return await catalogue.tag(here.database, digest, tag, who)


@router.delete("/{digest}/tags/{tag}", dependencies=[right("models", "write")])
async def untag(here: Here, who: Asker, digest: Digest, tag: Name) -> catalogue.Model:
    """Take a tag away."""
    return await catalogue.untag(here.database, digest, tag, who)


@router.put("/{digest}/pin", dependencies=[right("models", "write")])
async def pin(here: Here, who: Asker, digest: Digest) -> catalogue.Model:
    """Keep a model from being removed."""
    return await catalogue.pin(here.database, digest, True, who)


@router.delete("/{digest}/pin", dependencies=[right("models", "write")])
async def unpin(here: Here, who: Asker, digest: Digest) -> catalogue.Model:
    """Let a model be removed."""
    return await catalogue.pin(here.database, digest, False, who)


@router.post(
    "/{digest}/deploy",
    dependencies=[right("models", "execute")],
    responses={500: {"model": Problem}, 503: {"model": Problem}, 504: {"model": Problem}},
)
async def deploy(
    here: Here, request: Request, who: Asker, digest: Digest, wanted: Deploy
) -> lineage.Deployment:
    """Write a model for another program, below the server's own folder."""
    if here.settings.controller_url and not here.settings.runs_runs:
        return lineage.Deployment(**await from_controller(here, request, wanted.model_dump()))
    return await playground.deploy(here, digest, wanted.target, who)
