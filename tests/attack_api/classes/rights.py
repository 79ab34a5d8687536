"""Every route by every principal, and what belongs to somebody else."""

from __future__ import annotations

import re
from typing import Any

from fastapi.routing import APIRoute, APIWebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from pipelines.control.api.app import application
from pipelines.control.auth.guard import anyone, anyone_rarely, right_of, routes, unguarded
from pipelines.control.auth.rights import RIGHTS
from tests.attack_api.attack import attack, refused
from tests.attack_api.target import DIGEST, Target, settings_of

PRINCIPALS = {
    "": "",
    "viewer": "viewer",
    "operator": "operator",
    "admin": "admin",
    "run theirs": "run",
    "scoped": "scoped",
    "revoked": "",
    "expired": "",
    "disabled": "",
    "run over": "",
}
"""Keys, and the roles that they are worth."""

LONG = ("/config/doctor",)
"""What takes long where it is allowed; that it is, other tests know."""


def allowed(role: str, resource: str, action: str) -> bool:
    if role == "scoped":
        return (resource, action) == ("models", "read")
    return action in RIGHTS.get(role, {}).get(resource, frozenset())  # type: ignore[call-overload]


def path_of(path: str, **values: str) -> str:
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: values.get(match[1], "no-such-thing"), path)


def described(target: Target) -> list[tuple[str, str, Any]]:
    """Method, path and route of everything that the server answers to."""
    found = []
    for route in routes(application(settings_of(target))):
        if isinstance(route.original_route, APIRoute):
            found += [(method, str(route.path_format), route) for method in sorted(route.methods or ())]
    return found


@attack("rights")
def a_route_without_a_right(target: Target) -> None:
    app = application(settings_of(target))
    refused(not unguarded(app), f"{unguarded(app)} say nothing")
    told = target.http().get("/openapi.json").json()["paths"]
    known = {path for _, path, _ in described(target)}
    refused(set(told) <= known, f"OpenAPI has routes that were not looked at: {set(told) - known}")


@attack("rights")
def every_route_by_every_principal(target: Target) -> None:
    wrong = []
    for method, path, route in described(target):
        calls = [dependency.call for dependency in route.dependant.dependencies]
        if anyone in calls or anyone_rarely in calls:
            continue
        guard = right_of(route)
        for key, role in PRINCIPALS.items():
            if path in LONG and role in ("viewer", "operator", "admin"):
                continue
            body = {} if method in ("POST", "PUT", "PATCH") else None
            with target.http(key) as http:
                status = http.request(method, path_of(path), json=body).status_code
            if not role:
                expected = status == 401
            elif guard is None or allowed(role, guard.resource, guard.action):
                expected = status not in (401, 403) and status < 500
                expected |= role == "scoped" and status == 403
            else:
                expected = status == 403
            if not expected:
                wrong.append(f"{method} {path} by {key or 'nobody'}: {status}")
    refused(not wrong, "; ".join(wrong))


@attack("rights")
def every_socket_by_every_principal(target: Target) -> None:
    wrong = []
    for route in routes(application(settings_of(target))):
        if not isinstance(route.original_route, APIWebSocketRoute):
            continue
        guard = right_of(route)
        for key, role in PRINCIPALS.items():
            may = bool(role) and (guard is None or allowed(role, guard.resource, guard.action))
            if (
                socket_status(target, path_of(str(route.path)), {"X-API-Key": target.keys.get(key, "")})
                == 101
            ):
                if not may:
                    wrong.append(f"{route.path} by {key or 'nobody'}")
            elif may:
                wrong.append(f"{route.path} not by {key}")
    refused(not wrong, "; ".join(wrong))


def socket_status(target: Target, path: str, headers: dict[str, str], **given: Any) -> int:
    """101 where a WebSocket is accepted, else why not."""
    url = target.replica.url.replace("http", "ws", 1) + path
    try:
        with connect(
            url, additional_headers={k: v for k, v in headers.items() if v}, open_timeout=10, **given
        ):
            return 101
    except InvalidStatus as error:
        return int(error.response.status_code)


@attack("objects")
def another_owners_run(target: Target) -> None:
    """404, and the run is as it was."""
    with target.http("operator") as http:
        before = http.get("/phases/runs/theirs").json()
        for method, path, body in (
            ("POST", "cancel", None),
            ("POST", "resume", None),
            ("POST", "retry", None),
            ("POST", "rerun", {"phase": "bitnet"}),
            ("PUT", "pin", {"pinned": True}),
            ("DELETE", "", None),
        ):
            for name in ("theirs", "ended"):
                address = f"/phases/runs/{name}/{path}".rstrip("/")
                answer = http.request(method, address, json=body, headers={"If-Match": '"1"'})
                refused(answer.status_code in (404, 405), f"{method} {address}: {answer.status_code}")
        after = http.get("/phases/runs/theirs").json()
        refused(
            before["version"] == after["version"] and before["state"] == after["state"], "the run has changed"
        )


@attack("objects")
def another_owners_model(target: Target) -> None:
    with target.http("operator") as http:
        refused(http.get(f"/models/{DIGEST}").status_code not in (401, 403), "everybody may see it")
        for method, path in (
            ("PUT", "tags/x"),
            ("DELETE", "tags/x"),
            ("PUT", "pin"),
            ("DELETE", "pin"),
            ("DELETE", ""),
        ):
            answer = http.request(method, f"/models/{DIGEST}/{path}".rstrip("/"))
            refused(answer.status_code == 404, f"{method} {path}: {answer.status_code}")


@attack("objects")
def anothers_keys_and_principals(target: Target) -> None:
    for who in ("viewer", "operator", "scoped", "run theirs"):
        with target.http(who) as http:
            for method, path in (
                ("GET", "/auth/keys"),
                ("DELETE", f"/auth/keys/{target.ids['key of admin']}"),
                ("GET", "/auth/audit"),
                ("PATCH", f"/auth/principals/{target.ids.get(who, 'x')}"),
                ("POST", f"/auth/principals/{target.ids['admin']}/link"),
                ("POST", "/auth/principals"),
            ):
                body = {"role": "admin", "name": "me"} if method in ("POST", "PATCH") else None
                answer = http.request(method, path, json=body)
                refused(answer.status_code == 403, f"{method} {path} by {who}: {answer.status_code}")
    refused(target.http("admin").get("/auth/me").status_code == 200, "the admin's key has been revoked")


@attack("objects")
def a_runs_token_for_another_run(target: Target) -> None:
    """Whatever takes events takes those of the token's own run."""
    for method, path, route in described(target):
        guard = right_of(route)
        if guard is None or (guard.resource, guard.action) != ("events", "write"):
            continue
        for name in ("mine", "over", "no-such-run"):
            with target.http("run theirs") as http:
                address = re.sub(r"\{\w+\}", name, path)
                status = http.request(method, address, json={"events": []}).status_code
                refused(status in (403, 404, 415, 422), f"{method} {address}: {status}")
