"""Runs of Kubeflow that somebody else has started."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from ..auth.guard import Asker, right
from ..services.adoption import adopted
from ..services.runs import Run
from .app import Here
from .text import Plain

router = APIRouter(prefix="/phases/runs", tags=["phases"])


class Adopt(BaseModel):
    """Which run.

    :param kfp_id: KFP's id of it, its name there, or the address of its page.
    """

    model_config = ConfigDict(extra="forbid")

    kfp_id: Plain = Field(min_length=1, max_length=400)


@router.post("/adopt", dependencies=[right("phases", "execute")])
async def adopt(here: Here, who: Asker, body: Adopt) -> Run:
    """Take in a run that `forge submit` has started; one that is known already is the answer.

    :raises ConfigError: no server of Kubeflow is set: 422.
    :raises NotFound: it has no such run: 422.
    """
    return await adopted(here, who, body.kfp_id)
