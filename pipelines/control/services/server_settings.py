"""The settings of this server that may be shown: no secret, and no password of an address."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

from ..settings import VARIABLES, ControlSettings

SECRET = frozenset({"jwt_secret", "webhook_secret"})


class Links(BaseModel):
    """Where other pages are; empty where there are none."""

    kfp: str
    mlflow: str


class ServerSettings(BaseModel):
    """Settings by name.

    :param variables: name → the environment variable that gives it.
    """

    settings: dict[str, Any]
    variables: dict[str, str]
    links: Links


def server_settings(settings: ControlSettings) -> ServerSettings:
    """What may be shown of a server's settings; of a secret only whether it was given."""
    shown = settings.model_dump(mode="json")
    for name, value in shown.items():
        if name in SECRET:
            shown[name] = "given" if value else ""
        elif isinstance(value, str) and "://" in value:
            shown[name] = without_password(value)
    links = Links(kfp=_page(settings.kfp_host), mlflow=_page(settings.mlflow_url))
    return ServerSettings(settings=shown, variables=VARIABLES, links=links)


def without_password(address: str) -> str:
    """An address without the user, the password and the query that it may hold."""
    scheme, _, rest = address.partition("://")
    host_and_path = re.split("[?#]", rest.rpartition("@")[2])[0]  # a password may hold either sign
    return f"{scheme}://{host_and_path}"


def _page(address: str) -> str:
    """An address that a browser can open; empty for any other."""
    return without_password(address).rstrip("/") if address.startswith(("http://", "https://")) else ""
