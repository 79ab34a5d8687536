"""From where a request may come: by which name this server was asked, and from which page.

A browser sends along what a foreign page asks for; so each request is looked at, whatever its method, and each WebSocket
before it is accepted, since CORS says nothing about them.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.types import Scope

from ..auth.guard import HEALTH
from ..errors import Refused
from ..settings import ControlSettings

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:@/\\?#\[\]]+)(?::\d{1,5})?")


def refusal(settings: ControlSettings, scope: Scope) -> Refused | None:
    """Why a request is refused because of where it comes from; None where it is not."""
    headers: dict[bytes, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, []).append(value.decode("latin-1"))
    hosts = headers.get(b"host", [])
    if scope["path"] not in HEALTH and (len(hosts) != 1 or not _ours(settings, scope, hosts[0])):
        return Refused(
            421,
            "this server does not go by that name",
            where="Host",
            fix="name it in FORGE_HOSTS, where the name is yours",
        )
    origins = headers.get(b"origin", [])
    if len(origins) > 1 or (origins and not _known(settings, scope, origins[0], hosts)):
        return _foreign("Origin", "this page is not one of FORGE_ORIGINS")
    site = headers.get(b"sec-fetch-site", ["none"])
    if not origins and site != ["none"] and site != ["same-origin"] and not _visit(scope, headers):
        return _foreign("Sec-Fetch-Site", "another page has sent it")
    if scope["type"] == "websocket" and not origins and b"cookie" in headers:
        return _foreign("Origin", "a browser says its page")
    return None


def _ours(settings: ControlSettings, scope: Scope, host: str) -> bool:
    """Whether a name is one of ours, or the very address at which the request arrived: no name server can forge that."""
    if (match := _HOST.fullmatch(host)) is None:
        return False
    name = match[1].lower()
    if name in {known.lower() for known in settings.hosts}:
        return True
    try:
        arrived = ipaddress.ip_address((scope.get("server") or ("", 0))[0])
        return ipaddress.ip_address(name.strip("[]")) == arrived
    except ValueError:
        return False


def _known(settings: ControlSettings, scope: Scope, origin: str, hosts: list[str]) -> bool:
    if origin in settings.origins:
        return True
    scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
    return len(hosts) == 1 and origin.lower() == f"{scheme}://{hosts[0].lower()}"


def _visit(scope: Scope, headers: dict[bytes, list[str]]) -> bool:
    """Whether somebody follows a link to here: the page itself is shown, and sends no credential along."""
    return (
        scope["type"] == "http"
        and scope["method"] in ("GET", "HEAD")
        and headers.get(b"sec-fetch-mode") == ["navigate"]
        and headers.get(b"sec-fetch-dest") == ["document"]
    )


def _foreign(where: str, why: str) -> Refused:
    return Refused(403, "a foreign page may not ask this", where=where, why=why)


def socket_of(address: str) -> str:
    """The origin of an address, as a WebSocket has it: https://… is wss://…."""
    parts = urlsplit(address)
    return f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}"
