"""What a process of the control plane is told: by its environment, or by the options of `forge control`.

===========================  ==========================================================  ===========================
variable                     what it is                                                  without it
===========================  ==========================================================  ===========================
FORGE_RUNS                   the folder of all runs                                      runs
FORGE_STORE                  where artifacts are kept: s3://bucket/prefix or a folder    beside their run
FORGE_PLACES                 further stores and folders that requests may name           those two alone
DATABASE_URL                 postgresql://… or sqlite:///…                               control/control.db in runs
REDIS_URL                    redis://… or rediss://…: wakes readers, limits, caches      all in this process
PHASE_CONTROLLER_URL         the controller, which has torch and the models              this process does its work
JWT_SECRET                   at least 32 bytes; the same for all replicas                made at the first start
FORGE_ORIGINS                pages that may ask, separated by commas                     http://localhost:3000
FORGE_HOSTS                  names that this server goes by                              localhost, 127.0.0.1, [::1]
FORGE_PROXY                  addresses of proxies that end TLS and say who asks          none is believed
FORGE_TLS_CERTIFICATE, _KEY  PEM files                                                   plain, on loopback only
FORGE_OIDC_ISSUER, _AUDIENCE whose tokens are taken beside ours                          nobody's
FORGE_OIDC_ROLE_CLAIM        the claim of theirs that names a role                       forge_role
FORGE_RATE_LIMIT             requests a minute, of each principal                        100
FORGE_CACHE_MEMORY_BYTES     of what was read at some cost, in each process              64 MiB
FORGE_CACHE_DISK_BYTES       of the same beside the runs                                 1 GiB
FORGE_CACHE_SECONDS          for which Redis keeps it                                    3600
KFP_HOST, KFP_NAMESPACE      where runs on Kubeflow go                                   there are none
KFP_CLUSTER                  the file of configs/cluster that says what pods ask for      default
FORGE_API_URL                this API as pods reach it, to send their events to          their run's store only
MLFLOW_TRACKING_URI          where pages link to                                         no link
FORGE_WEBHOOK_SECRET         signs what the controller's webhook takes                   the webhook refuses all
FORGE_SCALE_TARGET           deployment/NAME or hpa/NAME that grows when memory is short  new runs wait instead
FORGE_SCALE_BOUNDS           its fewest and most replicas                                1-6
FORGE_TRACES                 an OTLP endpoint for traces                                 no traces
===========================  ==========================================================  ===========================
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.shared.runtime.errors import ConfigError

API_PORT = 8083
CONTROLLER_PORT = 8084
PAGE_PORT = 3000

FOLDER = "control"
"""The folder beside the runs that holds what the control plane itself keeps."""

SECRET_BYTES = 32

Role = Literal["all", "api", "controller", "page"]
"""What a process does: everything; requests; runs; the page alone."""

VARIABLES = {
    "runs": "FORGE_RUNS",
    "store": "FORGE_STORE",
    "places": "FORGE_PLACES",
    "database_url": "DATABASE_URL",
    "redis_url": "REDIS_URL",
    "controller_url": "PHASE_CONTROLLER_URL",
    "jwt_secret": "JWT_SECRET",
    "origins": "FORGE_ORIGINS",
    "hosts": "FORGE_HOSTS",
    "proxies": "FORGE_PROXY",
    "certificate": "FORGE_TLS_CERTIFICATE",
    "certificate_key": "FORGE_TLS_KEY",
    "oidc_issuer": "FORGE_OIDC_ISSUER",
    "oidc_audience": "FORGE_OIDC_AUDIENCE",
    "oidc_role_claim": "FORGE_OIDC_ROLE_CLAIM",
    "rate_limit": "FORGE_RATE_LIMIT",
    "cache_memory_bytes": "FORGE_CACHE_MEMORY_BYTES",
    "cache_disk_bytes": "FORGE_CACHE_DISK_BYTES",
    "cache_seconds": "FORGE_CACHE_SECONDS",
    "kfp_host": "KFP_HOST",
    "kfp_namespace": "KFP_NAMESPACE",
    "kfp_cluster": "KFP_CLUSTER",
    "pods_url": "FORGE_API_URL",
    "mlflow_url": "MLFLOW_TRACKING_URI",
    "webhook_secret": "FORGE_WEBHOOK_SECRET",
    "scale_target": "FORGE_SCALE_TARGET",
    "scale_bounds": "FORGE_SCALE_BOUNDS",
    "traces": "FORGE_TRACES",
    "api_url": "REACT_APP_API_URL",
}

LISTS = ("places", "origins", "hosts", "proxies")


class ControlSettings(BaseModel):
    """The settings of a process, checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role = "all"
    host: str = "127.0.0.1"
    port: int = Field(API_PORT, ge=0, le=65535)
    runs: Path = Path("runs")
    store: str = ""
    places: tuple[str, ...] = ()
    database_url: str = ""
    redis_url: str = ""
    controller_url: str = ""
    jwt_secret: str = Field("", repr=False)
    origins: tuple[str, ...] = ("http://localhost:3000",)
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    proxies: tuple[str, ...] = ()
    certificate: Path | None = None
    certificate_key: Path | None = None
    oidc_issuer: str = ""
    oidc_audience: str = ""
    oidc_role_claim: str = "forge_role"
    rate_limit: int = Field(100, ge=1)
    cache_memory_bytes: int = Field(64 << 20, ge=0)
    cache_disk_bytes: int = Field(1 << 30, ge=0)
    cache_seconds: float = Field(3600.0, gt=0)
    kfp_host: str = ""
    kfp_namespace: str = "kubeflow"
    kfp_cluster: str = "default"
    pods_url: str = ""
    mlflow_url: str = ""
    webhook_secret: str = Field("", repr=False)
    scale_target: str = Field("", pattern=r"^(|(deployment|hpa)/[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?)$")
    scale_bounds: str = Field("1-6", pattern=r"^[1-9][0-9]{0,3}-[1-9][0-9]{0,3}$")
    traces: str = ""
    api_url: str = ""

    @property
    def folder(self) -> Path:
        """Where the control plane keeps its own files."""
        return self.runs / FOLDER

    @property
    def database(self) -> str:
        """The database's address, as it was given, or that of the file beside the runs."""
        return self.database_url or f"sqlite:///{(self.folder / 'control.db').absolute()}"

    @property
    def runs_runs(self) -> bool:
        """Whether this process starts runs and stays with them."""
        return self.role in ("all", "controller")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can ask."""
        return self.host in ("127.0.0.1", "::1", "localhost")


def from_environment(environment: Mapping[str, str] = os.environ, **given: Any) -> ControlSettings:
    """The settings that the environment says; what is given beside it wins.

    :raises ConfigError: a value does not fit, or what is asked for is not safe.
    """
    values: dict[str, Any] = {}
    for name, variable in VARIABLES.items():
        if text := environment.get(variable, "").strip():
            values[name] = tuple(filter(None, map(str.strip, text.split(",")))) if name in LISTS else text
    values |= {name: value for name, value in given.items() if value is not None}
    try:
        settings = ControlSettings(**values)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]  # a secret is not repeated
        name = str(first["loc"][0])
        raise ConfigError(
            "a setting of the control plane does not fit", where=VARIABLES.get(name, name), why=first["msg"]
        ) from None
    return checked(settings)


def checked(settings: ControlSettings) -> ControlSettings:
    """The settings, where they are safe together.

    :raises ConfigError: they are not.
    """
    if settings.jwt_secret and len(settings.jwt_secret.encode()) < SECRET_BYTES:
        raise ConfigError(
            "the secret that signs tokens is too short",
            where="JWT_SECRET",
            why=f"it has {len(settings.jwt_secret.encode())} bytes",
            fix=f"give {SECRET_BYTES} or more: openssl rand -hex 32",
        )
    if settings.webhook_secret and len(settings.webhook_secret.encode()) < SECRET_BYTES:
        raise ConfigError(
            "the secret of the webhook is too short",
            where="FORGE_WEBHOOK_SECRET",
            why=f"it has {len(settings.webhook_secret.encode())} bytes",
            fix=f"give {SECRET_BYTES} or more: openssl rand -hex 32",
        )
    if "*" in settings.origins:
        raise ConfigError(
            "any page of the web could ask in the name of whoever looks at it",
            where="FORGE_ORIGINS",
            why="it is *",
            fix="name the pages: https://forge.example.com",
        )
    if bool(settings.certificate) != bool(settings.certificate_key):
        raise ConfigError(
            "a certificate and its key go together",
            where="FORGE_TLS_CERTIFICATE, FORGE_TLS_KEY",
            fix="give both",
        )
    if bool(settings.oidc_issuer) != bool(settings.oidc_audience):
        raise ConfigError(
            "an identity provider's tokens are for somebody",
            where="FORGE_OIDC_ISSUER, FORGE_OIDC_AUDIENCE",
            fix="give both",
        )
    if not (settings.loopback or settings.certificate or settings.proxies):
        raise ConfigError(
            "beyond this machine nothing is sent in the clear",
            where=f"--host {settings.host}",
            fix="give FORGE_TLS_CERTIFICATE and FORGE_TLS_KEY; behind a proxy that ends TLS, its addresses: FORGE_PROXY",
        )
    return settings


def own_folder(settings: ControlSettings) -> Path:
    """The control plane's folder, made where there is none; only its owner reads the secrets and the database in it."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    settings.folder.chmod(0o700)
    return settings.folder


def secret_of(settings: ControlSettings) -> str:
    """The secret that signs tokens: the one given, else the one beside the runs, made where there is none."""
    if settings.jwt_secret:
        return settings.jwt_secret
    path = own_folder(settings) / "jwt-secret"
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:
            file.write(secrets.token_hex(SECRET_BYTES))
            file.flush()
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.link(file.name, path)  # whole or not at all, also on a disk that is full
    secret = path.read_text(encoding="utf-8").strip()
    if len(secret) < SECRET_BYTES:
        raise ConfigError(
            "the secret that signs tokens is damaged",
            where=str(path),
            fix="remove it: everybody signs in again",
        )
    return secret
