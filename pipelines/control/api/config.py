"""Settings: the server's own, those of the phases, and the profiles that are kept."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from ..auth.guard import right
from ..errors import Refused
from ..services import checklist, effective_settings, pipeline_state, profiles
from ..services.server_settings import ServerSettings, server_settings
from ..services.settings_schema import schemas
from .app import Here
from .errors import Problem
from .text import Plain

router = APIRouter(prefix="/config", tags=["config"], responses={404: {"model": Problem}})

Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$")]
Override = Annotated[Plain, Field(max_length=10_000)]


class Schemas(BaseModel):
    """JSON schemas by section: `evaluation` and the eight phases."""

    phases: dict[str, dict[str, Any]]


class Wanted(BaseModel):
    """Settings that are to be checked."""

    model_config = ConfigDict(extra="forbid")
    profile: Plain = Field("tiny", max_length=48)
    overrides: list[Override] = Field(default_factory=list, max_length=200)
    seed: int | None = Field(None, ge=0, lt=2**63)


class Profiles(BaseModel):
    """All profiles, the project's first."""

    profiles: list[profiles.Profile]


class NewProfile(profiles.UserProfile):
    """A profile to keep."""

    base: Plain = Field("tiny", max_length=48)
    overrides: list[Override] = Field(default_factory=list, max_length=200)
    description: Plain = Field("", max_length=400)


@router.get("", dependencies=[right("config", "read")])
async def config(here: Here) -> ServerSettings:
    """The server's settings as they are in effect, without a secret, and where Kubeflow and MLflow are."""
    return server_settings(here.settings)


@router.get("/schema", dependencies=[right("config", "read")])
async def schema() -> Schemas:
    """The JSON schema of every phase's settings: what each means, its default, its range."""
    return Schemas(phases=await asyncio.to_thread(schemas))


@router.post("/validate", dependencies=[right("config", "read")])
async def validate(here: Here, wanted: Wanted) -> effective_settings.Validity:
    """Whether settings fit; every value with who set it, and what differs from the profile."""
    return await effective_settings.effective(here, wanted.profile, wanted.overrides, wanted.seed)


@router.get("/profiles", dependencies=[right("config", "read")])
async def all_profiles(here: Here) -> Profiles:
    """The profiles that there are."""
    return Profiles(profiles=await asyncio.to_thread(profiles.every, here.settings))


@router.get("/profiles/{name}", dependencies=[right("config", "read")])
async def profile(here: Here, name: Name) -> profiles.Profile:
    """A profile."""
    return await asyncio.to_thread(profiles.find, here.settings, name)


@router.put("/profiles/{name}", dependencies=[right("config", "execute")])
async def keep_profile(here: Here, name: Name, given: NewProfile) -> profiles.Profile:
    """Keep a profile, where its settings fit."""
    if given.base not in profiles.builtin():
        raise Refused(
            422,
            "a profile stands on one of the project's",
            where="base",
            fix=f"give {', '.join(profiles.builtin())}",
        )
    checked = await effective_settings.effective(here, given.base, given.overrides, None)
    if not checked.is_valid:
        raise Refused(422, "the settings do not fit", where="overrides", why="; ".join(checked.issues)[:2000])
    return await asyncio.to_thread(profiles.keep, here.settings, name, given)


@router.get("/state", dependencies=[right("config", "read")])
async def state(here: Here) -> pipeline_state.PipelineState:
    """How each phase of the pipeline stands."""
    return await pipeline_state.pipeline_state(here.database)


@router.get("/doctor", dependencies=[right("config", "read")], responses={504: {"model": Problem}})
async def doctor(here: Here) -> checklist.Checklist:
    """Whether everything is there that a run needs."""
    return await checklist.checklist(here)
