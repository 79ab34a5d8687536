"""Signing in, sessions, principals, keys, and the audit."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ..auth import audit, keys, principals, sessions, tokens
from ..auth.credentials import by_key, by_token
from ..auth.guard import Asker, known, login, public, right
from ..auth.rights import RIGHTS, Principal
from ..errors import Refused
from ..settings import secret_of
from .app import Here

router = APIRouter(prefix="/auth", tags=["auth"])

COOKIE = "forge-session"

RoleName = Literal["viewer", "operator", "admin"]
Id = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9-]+$")]


class Asked(BaseModel):
    """What a request says; what is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class Who(BaseModel):
    """Who asks, and what they may.

    :param rights: by resource.
    """

    id: str
    name: str
    role: str
    rights: dict[str, list[str]]


class SignedIn(BaseModel):
    """A token for the next quarter of an hour."""

    access_token: str
    expires: float
    principal: Who


class Link(Asked):
    """The secret of a one-time link."""

    link: str = Field(max_length=keys.LONGEST)


class NewKey(Asked):
    """A key to be made.

    :param principal: whose; empty for one's own.
    :param scopes: "resource:action"; empty for all of the owner's role.
    """

    name: str = Field(max_length=200)
    principal: str = Field("", max_length=64)
    scopes: list[str] = Field(default_factory=list, max_length=64)
    days: float | None = Field(None, gt=0, le=3650)


class Key(BaseModel):
    """What is known of a key, which is not the key."""

    id: str
    name: str
    principal: str
    principal_name: str
    role: str
    scopes: list[str]
    created: float
    expires: float | None
    used: float | None
    revoked: float | None


class MadeKey(BaseModel):
    """A new key: the one time that it is seen."""

    id: str
    key: str


class NewPrincipal(Asked):
    """A principal to be made."""

    name: str = Field(max_length=200)
    role: RoleName = "viewer"


class Change(Asked):
    """What a principal shall be."""

    role: RoleName | None = None
    disabled: bool | None = None


class PrincipalRow(BaseModel):
    """A principal."""

    id: str
    name: str
    role: str
    created: float
    disabled: bool


class MadeLink(BaseModel):
    """A one-time link's secret, good for ten minutes: the page's address, then #link= and this."""

    link: str


class AuditRow(BaseModel):
    """What somebody did, or was refused."""

    id: int
    time: float
    principal: str
    name: str
    action: str
    object: str
    outcome: str
    request_id: str
    address: str
    detail: dict[str, Any]


class AuditPage(BaseModel):
    """A page of the audit, the newest first.

    :param next: the cursor of the next page; none where this is the last.
    """

    rows: list[AuditRow]
    next: int | None


def shown(who: Principal) -> Who:
    """Somebody, with what they may."""
    rights = {
        resource: sorted(action for action in actions if who.may(resource, action))
        for resource, actions in RIGHTS[who.role].items()
    }
    return Who(
        id=who.id, name=who.name, role=who.role, rights={name: may for name, may in rights.items() if may}
    )


async def signed_in(here: Here, request: Request, response: Response, session: sessions.Session) -> SignedIn:
    """The answer to who has begun a session, or goes on with one."""
    token, expires = tokens.issue(secret_of(here.settings), session.principal, session.credential)
    who = request.state.principal = await by_token(here, token)
    if session.refresh:
        response.set_cookie(
            COOKIE,
            session.refresh,
            max_age=int(sessions.SECONDS),
            path="/auth",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
    return SignedIn(access_token=token, expires=expires, principal=shown(who))


@router.post("/exchange", dependencies=[login])
async def exchange(here: Here, request: Request, response: Response, body: Link) -> SignedIn:
    """Begin a session by a one-time link.

    :raises Refused: 401: it was used already, or is too old.
    """
    return await signed_in(here, request, response, await sessions.begin(here.database, body.link))


@router.post("/refresh", dependencies=[public])
async def refresh(here: Here, request: Request, response: Response) -> SignedIn:
    """Go on with a session: a new token, and a new cookie in place of the one that came.

    :raises Refused: 401: there is no session, or its cookie was used before, which ends it.
    """
    cookie = request.cookies.get(COOKIE, "")
    return await signed_in(here, request, response, await sessions.go_on(here.database, cookie))


@router.post("/logout", status_code=204, dependencies=[public])
async def logout(here: Here, request: Request, response: Response) -> None:
    """End the session, on all replicas; without one there is nothing to end."""
    async with here.database.write() as connection:
        if family := await sessions.family_of(connection, request.cookies.get(COOKIE, "")):
            await sessions.end(connection, family)
    response.delete_cookie(COOKIE, path="/auth", httponly=True, samesite="strict")


@router.post("/token", dependencies=[login])
async def token(here: Here, request: Request) -> SignedIn:
    """A short-lived token for the key in X-API-Key; it may what the key may, and ends with it.

    :raises Refused: 401: there is no such key.
    """
    who = request.state.principal = await by_key(here.database, request.headers.get("x-api-key", ""))
    if who.role == "run":
        raise Refused(403, "a run's token is for its events alone")
    text, expires = tokens.issue(secret_of(here.settings), who.id, who.credential)
    return SignedIn(access_token=text, expires=expires, principal=shown(who))


@router.get("/me", dependencies=[known])
async def me(who: Asker) -> Who:
    """Who asks, and what they may."""
    return shown(who)


@router.get("/keys", dependencies=[right("keys", "read")])
async def list_keys(here: Here) -> list[Key]:
    """All keys, the newest first."""
    async with here.database.read() as connection:
        return [Key(**row) for row in await keys.listed(connection)]


@router.post("/keys", status_code=201, dependencies=[right("keys", "write")])
async def make_key(here: Here, who: Asker, body: NewKey) -> MadeKey:
    """Make a key.

    :raises Refused: 403: it could do more than what asks for it; 404: there is no such owner.
    """
    if who.scopes and not (body.scopes and who.scopes >= set(body.scopes)):
        raise Refused(
            403,
            "a key cannot make one that may more than itself",
            where="scopes",
            fix="give some of its own scopes",
        )
    owner = body.principal or who.id
    async with here.database.write() as connection:
        await principals.change(connection, owner)  # there is one
        made = await keys.make(
            connection,
            "key",
            principal=owner,
            name=principals.named(body.name),
            scopes=body.scopes,
            seconds=None if body.days is None else body.days * 86400,
        )
    return MadeKey(id=made.id, key=made.text)


@router.delete("/keys/{id}", status_code=204, dependencies=[right("keys", "delete")])
async def revoke_key(here: Here, id: Id) -> None:
    """End a key, on all replicas, from the next request on.

    :raises Refused: 404: there is none.
    """
    async with here.database.write() as connection:
        await keys.revoke(connection, id)


@router.get("/principals", dependencies=[right("keys", "read")])
async def list_principals(here: Here) -> list[PrincipalRow]:
    """All principals, by name."""
    async with here.database.read() as connection:
        return [PrincipalRow(**row) for row in await principals.listed(connection)]


@router.post("/principals", status_code=201, dependencies=[right("keys", "write")])
async def make_principal(here: Here, who: Asker, body: NewPrincipal) -> PrincipalRow:
    """Add a principal.

    :raises Refused: 403: the key is for less; 409: the name is taken.
    """
    whole(who)
    async with here.database.write() as connection:
        id = await principals.create(connection, body.name, body.role)
        return PrincipalRow(**await principals.change(connection, id))


@router.patch("/principals/{id}", dependencies=[right("keys", "write")])
async def change_principal(here: Here, who: Asker, id: Id, body: Change) -> PrincipalRow:
    """Give a principal another role, shut it out, or let it in again.

    :raises Refused: 403: the key is for less; 404: there is none; 409: nobody would be admin.
    """
    whole(who)
    async with here.database.write() as connection:
        return PrincipalRow(**await principals.change(connection, id, role=body.role, disabled=body.disabled))


@router.post("/principals/{id}/link", status_code=201, dependencies=[right("keys", "write")])
async def make_link(here: Here, who: Asker, id: Id) -> MadeLink:
    """A one-time link by which a principal signs in to the page.

    :raises Refused: 403: the key is for less; 404: there is no such principal.
    """
    whole(who)
    async with here.database.write() as connection:
        await principals.change(connection, id)
        return MadeLink(link=await sessions.make_link(connection, id))


@router.get("/audit", dependencies=[right("audit", "read")])
async def read_audit(
    here: Here,
    cursor: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    principal: Annotated[str, Query(max_length=64)] = "",
) -> AuditPage:
    """What was done and what was refused, the newest first."""
    rows = [AuditRow(**row) for row in await audit.page(here.database, cursor, limit, principal)]
    return AuditPage(rows=rows, next=rows[-1].id if len(rows) == limit else None)


def whole(who: Principal) -> None:
    """Whether somebody came with all of their role.

    :raises Refused: 403: by a key that is for less, and could give itself more by this.
    """
    if who.scopes:
        raise Refused(403, "this takes a key or a session with all rights of its role", where="scopes")
