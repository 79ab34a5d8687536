"""One request to a Kubeflow Pipelines server: what it answers, or an error that says what it was instead.

kfp's own Client asks a server without a time limit while it is made, takes a login page for a run and a gateway's
error for a reason to end. So only its generated transport and its token file are used here: each request has a time
limit, is not repeated and not redirected behind our back, and what comes back is the API's, or an error.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from components.shared.runtime.errors import ConfigError, ForgeError, InputError, StoreError

from . import answers

API = "/apis/v2beta1"
CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0
"""Of one request."""

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of gateways, and of servers that start, that the next request may not get."""

LOGINS = frozenset({301, 302, 303, 307, 308, 401, 403})
RUN = re.compile(rf"{API}/runs/[^/:]+")
"""The path of one run; those that end in a verb answer nothing."""

PAGE = re.compile(rb"\s*<")
TOKEN_FILE = "/var/run/secrets/kubeflow/pipelines/token"
"""Where kubelet puts a pod's own token, as KFP documents it; KF_PIPELINES_SA_TOKEN_PATH names another place."""


class ServerLost(StoreError):
    """The server does not answer now. What runs there goes on, and the next request may succeed."""


class NotLoggedIn(StoreError):
    """The server, or the login page in front of it, does not know who we are (any more)."""


class NotFound(InputError):
    """The server works, and has no such thing."""


@dataclass(frozen=True)
class Access:
    """How a server is reached.

    :param host: its address, such as http://localhost:8080
        (of `kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80`).
    :param token: a bearer token; without one, and without cookies, the pod's own is taken where there is one.
    :param cookies: as a browser sends them: `authservice_session=…`.
    :param authority: a file with the certificates of the authorities that are trusted.
    """

    host: str
    namespace: str = "kubeflow"
    token: str = ""
    cookies: str = ""
    authority: str = ""


class Connection:
    """Requests to one server.

    :param seconds: limits of connecting, and of waiting for each part of an answer.
    :raises ConfigError: there is no address, or no such file of certificates.
    """

    def __init__(
        self, access: Access, *, seconds: tuple[float, float] = (CONNECT_SECONDS, READ_SECONDS)
    ) -> None:
        if not access.host:
            raise ConfigError(
                "no Kubeflow Pipelines server is named",
                fix="give --host or KFP_HOST, such as http://localhost:8080",
            )
        self.access = access
        self.host = access.host.rstrip("/").removesuffix("/#")
        if "://" not in self.host:
            self.host = f"https://{self.host}"
        self.seconds = seconds
        self._client = self._transport()

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON under a path of the API."""
        return self._json("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send JSON to a path of the API, and give what it answers."""
        return self._json("POST", path, body=body)

    def post_file(self, path: str, text: str, query: Mapping[str, Any]) -> dict[str, Any]:
        """Upload a YAML file."""
        file = ("uploadfile", ("pipeline.yaml", text.encode(), "application/x-yaml"))
        return self._json("POST", path, query=query, files=[file])

    def text(self, path: str, query: Mapping[str, Any] | None = None) -> str:
        """What the server has under a path that is not the API's, such as a log.

        :raises NotLoggedIn: it is a page; KFP's UI answers so for paths that it does not have, too.
        """
        answer, kind = self._ask("GET", path, query=query)
        if "html" in kind:
            raise self.login(path, "the answer is a web page")
        return answer.decode(errors="replace")

    def strange(self, path: str, why: str) -> StoreError:
        """An answer that is JSON, but not what the API says there."""
        return StoreError(
            "this is not what the Kubeflow Pipelines API answers",
            where=self._where(path),
            why=why,
            fix="check --host: it is the address below which /apis/v2beta1 lies",
        )

    def lost(self, path: str, why: str) -> ServerLost:
        """No answer, or one that breaks off."""
        return ServerLost(
            "the Kubeflow Pipelines server does not answer",
            where=self._where(path),
            why=why,
            fix="check --host, and the port-forward or proxy on the way; `forge doctor --host` looks closer",
        )

    def login(self, path: str, why: str) -> NotLoggedIn:
        """It wants to know who we are."""
        return NotLoggedIn(
            "the Kubeflow Pipelines server does not know who we are",
            where=self._where(path),
            why=f"{why}; a token or a session that has expired looks so",
            fix="give --token or --cookies anew (KFP_TOKEN, KFP_COOKIES), and check --host",
        )

    def _transport(self) -> Any:
        import kfp_server_api
        from urllib3.util import Retry

        if self.access.authority and not Path(self.access.authority).is_file():
            raise ConfigError(
                "there is no such file of certificates", where=self.access.authority, fix="check --ca, KFP_CA"
            )
        configuration = kfp_server_api.Configuration(host=self.host)
        configuration.ssl_ca_cert = self.access.authority or None
        configuration.retries = Retry(0, redirect=0, raise_on_redirect=False)
        token_file = os.environ.get("KF_PIPELINES_SA_TOKEN_PATH") or TOKEN_FILE
        if self.access.token:
            configuration.api_key["authorization"] = self.access.token
        elif not self.access.cookies and Path(token_file).is_file():
            warnings.filterwarnings("ignore", category=FutureWarning, module="kfp")
            from kfp.client import ServiceAccountTokenVolumeCredentials

            credentials = ServiceAccountTokenVolumeCredentials(token_file)
            configuration.api_key["authorization"] = (
                "read from the file before each request: kubelet renews it"
            )
            configuration.refresh_api_key_hook = credentials.refresh_api_key_hook
        configuration.api_key_prefix["authorization"] = "Bearer"
        return kfp_server_api.ApiClient(configuration)

    def _json(
        self,
        method: Literal["GET", "POST"],
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        files: list[Any] | None = None,
    ) -> dict[str, Any]:
        path = API + path
        answer, kind = self._ask(method, path, query=query, body=body, files=files)
        if "html" in kind or PAGE.match(answer):
            raise self.login(path, "the answer is a web page, not the API's")
        try:
            content = json.loads(answer or b"{}")
        except RecursionError as error:
            raise self.strange(path, "it is nested too deep") from error
        except ValueError as error:
            raise self.lost(path, f"the answer is no JSON, or breaks off: {error}") from error
        if not isinstance(content, dict):
            raise self.strange(path, f"{type(content).__name__} in place of an object")
        if problem := answers.problem(content, run=bool(RUN.fullmatch(path))):
            raise self.strange(path, problem)
        return content

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        files: list[Any] | None = None,
    ) -> tuple[bytes, str]:
        """One request: the bytes of the answer, and their type."""
        from kfp_server_api.exceptions import ApiException
        from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

        headers = {
            "Accept": "application/json, text/plain;q=0.9",
            "Content-Type": "multipart/form-data" if files else "application/json",
            **({"Cookie": self.access.cookies} if self.access.cookies else {}),
        }
        try:
            self._client.update_params_for_auth(headers, [], ["Bearer"])
            answer = self._client.request(
                method,
                self.host + path + (f"?{urlencode(query)}" if query else ""),
                headers=headers,
                body=body,
                post_params=files,
                _preload_content=False,
                _request_timeout=self.seconds,
            )
            return answer.data, str(answer.headers.get("Content-Type", "")).lower()
        except ApiException as error:
            raise self._explained(error, path) from error
        except (HTTPError, OSError) as error:
            cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
            if isinstance(cause, SSLError):
                raise self._untrusted(str(cause)) from error
            raise self.lost(path, f"{type(cause).__name__}: {_short(str(cause))}") from error

    def _explained(self, error: Any, path: str) -> ForgeError:
        """The error for an answer that is none of 200 to 299."""
        if not error.status:  # the generated transport's own envelope around TLS errors
            return self._untrusted(str(error.reason))
        said = f"it answers {error.status} {error.reason or ''} {_message(error.body or b'')}".strip()
        if error.status in PASSING:
            return self.lost(path, said)
        if error.status == 404:
            fix = "check the id, --host and --namespace"
            return NotFound("the server has no such thing", where=self._where(path), why=said, fix=fix)
        to = str((error.headers or {}).get("Location", ""))
        if to.startswith("https://") and self.host.startswith("http://") and API in to:
            why, fix = f"it sends us to {to}", f"give --host https://{self.host[7:]}"
            return StoreError("the server wants https", where=self.host, why=why, fix=fix)
        if error.status in LOGINS:
            return self.login(path, f"it sends us to {to.partition('?')[0]}" if to else said)
        return StoreError(
            "the Kubeflow Pipelines server does not take this",
            where=self._where(path),
            why=said,
            fix="check the parameters, --host and --namespace; `forge doctor --host` looks closer",
        )

    def _untrusted(self, why: str) -> StoreError:
        return StoreError(
            "no trusted TLS connection to the server",
            where=self.host,
            why=_short(why),
            fix="give the authority's certificate: --ca FILE or KFP_CA",
        )

    def _where(self, path: str) -> str:
        return f"{self.host}{path.partition('?')[0]}"


def _message(body: bytes) -> str:
    """What the API says of an error; nothing of a page's source."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return "" if PAGE.match(body) else _short(body.decode(errors="replace"))
    if not isinstance(content, dict):
        return _short(str(content))
    return _short(str(content.get("message") or content.get("error_message") or content.get("error") or ""))


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
