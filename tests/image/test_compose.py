"""images/compose.yaml: what it promises, read from the file, and what compose makes of it where that is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import time
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from components.shared.runtime.code import VERSION
from images import dotenv
from tests import needs
from tests.chart.command_lines import refused
from tests.contract.stores.s3_servers import free_port, program

IMAGES = Path(__file__).resolve().parents[2] / "images"
FILE, EXAMPLE = IMAGES / "compose.yaml", IMAGES / ".env.example"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"databases", "buckets"}
OURS = {"agent-forge-api", "phase-controller", "phase-controller-gpu", "ui"}


def test_it_keeps_to_the_compose_specification() -> None:
    schemas = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text())
    jsonschema.validate(COMPOSE, schema)
    with pytest.raises(jsonschema.ValidationError, match="healthchek"):
        jsonschema.validate({"services": {"redis": SERVICES["redis"] | {"healthchek": {}}}}, schema)


def test_the_stores_start_by_themselves_and_what_is_ours_behind_its_profile() -> None:
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert {name for name in profiles if not profiles[name]} == {
        "redis",
        "postgres",
        "minio",
        "mlflow",
    } | ONCE
    assert {name for name in profiles if "control" in profiles[name]} == OURS - {"phase-controller-gpu"}
    assert {name for name in profiles if "gpu" in profiles[name]} == OURS - {"phase-controller"}


def test_the_services_are_those_of_the_documents() -> None:
    assert SERVICES["redis"]["image"].endswith("/redis:7-alpine")
    assert SERVICES["postgres"]["image"].endswith("/postgres:15")
    made = SERVICES["postgres"]["environment"]
    assert (made["POSTGRES_DB"], made["POSTGRES_USER"]) == ("agent_forge", "forge_user")
    assert SERVICES["postgres"]["volumes"] == ["postgres_data:/var/lib/postgresql/data"]
    api = SERVICES["agent-forge-api"]["environment"]
    assert api["PHASE_CONTROLLER_URL"] == "http://phase-controller:8084"
    assert {"REDIS_URL", "DATABASE_URL"} <= set(api)
    for name in ("phase-controller", "phase-controller-gpu"):
        assert SERVICES[name]["volumes"] == ["model_storage:/models", "checkpoint_storage:/checkpoints"]
    inside = {"agent-forge-api": 8083, "phase-controller": 8084, "ui": 3000, "redis": 6379, "postgres": 5432}
    for name, port in inside.items():
        assert [each.rpartition(":")[2] for each in SERVICES[name]["ports"]] == [str(port)]


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_is_ours_is_started_as_it_can_be_and_asked_where_it_answers(name: str, tmp_path: Path) -> None:
    from pipelines.control.api.app import application
    from pipelines.control.auth.guard import routes
    from pipelines.control.settings import from_environment

    service = SERVICES[name]
    arguments = ["control", *service["command"]]
    assert not refused(arguments)
    given = dict(zip(service["command"][::2], service["command"][1::2], strict=True))
    values = {
        key: re.sub(r"\$\{[A-Z_]+:[-?]([^}]*)\}", r"\1", str(text))
        for key, text in service["environment"].items()
    }
    secrets = {key: "0" * 32 for key in values if key.endswith("_SECRET")}
    folder = {"FORGE_RUNS": str(tmp_path)}
    settings = from_environment({**values, **secrets, **folder}, role=given["--role"], host=given["--host"])
    inside = int(service["ports"][0].rpartition(":")[2])
    (asked,) = re.findall(r"http://127\.0\.0\.1:(\d+)(/[a-z]*)'", " ".join(service["healthcheck"]["test"]))
    assert asked[0] == str(inside)
    assert asked[1] in {route.path for route in routes(application(settings))}
    called = set(values.get("FORGE_HOSTS", "").split(","))
    assert {"localhost", "127.0.0.1", "phase-controller"} <= called


def test_only_the_gpu_profile_asks_for_a_gpu_and_its_controller_has_the_others_name() -> None:
    asking = {name for name, service in SERVICES.items() if "deploy" in service}
    assert asking == {"phase-controller-gpu"}
    (device,) = SERVICES["phase-controller-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert SERVICES["phase-controller-gpu"]["networks"]["default"]["aliases"] == ["phase-controller"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_port_is_bound_to_this_machine_alone(name: str) -> None:
    assert all(
        re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+", p) for p in SERVICES[name].get("ports", [])
    )


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_image_is_of_a_version_and_from_a_named_registry(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.match(
        r"(docker\.io|quay\.io|localhost|\$\{AGENT_FORGE_REGISTRY:-localhost/agent-forge\})/", image
    )
    tag = image.rpartition(":")[2]
    assert re.search(r"\d", tag)
    if name in OURS:
        assert tag == VERSION


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONCE))
def test_what_goes_on_running_has_a_health_check_and_comes_back(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL") and {"interval", "timeout", "retries"} <= set(check)
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_nothing_gains_privileges_and_ours_write_to_their_volumes_only(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    if name in OURS:
        assert service["read_only"] and service["init"] and service["tmpfs"] == ["/tmp"]


def test_what_is_needed_is_healthy_or_done_before() -> None:
    for service in SERVICES.values():
        for name, needed in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if name in ONCE else "service_healthy"
            assert needed["condition"] == wanted
    assert set(SERVICES["mlflow"]["depends_on"]) == ONCE
    assert SERVICES["databases"]["depends_on"].keys() == {"postgres"}
    assert SERVICES["buckets"]["depends_on"].keys() == {"minio"}


def test_every_volume_that_is_mounted_is_declared_and_the_other_way_round() -> None:
    mounted = {v.partition(":")[0] for service in SERVICES.values() for v in service.get("volumes", [])}
    assert mounted == set(COMPOSE["volumes"])
    assert {"postgres_data", "model_storage", "checkpoint_storage"} <= mounted


def test_no_secret_stands_in_the_file() -> None:
    secret = re.compile(r"\$\{[A-Z_]*(PASSWORD|SECRET):\?run make up\}")
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|AUTH", name):
                assert secret.fullmatch(value), name
            for given in re.findall(r"//(?:\$\{[^}]*\}|[^:/@$]*):(.*)@", str(value)):
                assert secret.fullmatch(given), name


def test_the_example_names_every_setting_and_holds_no_secret() -> None:
    used = dict.fromkeys(re.findall(r"(?<!\$)\$\{([A-Z_]+)", FILE.read_text()))
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    named = dict(line.split("=", 1) for line in lines)
    assert named.keys() == used.keys()
    assert {name for name, value in named.items() if not value} == {
        name for name in named if re.search("PASSWORD|SECRET", name)
    }
    for name, value in named.items():  # what the file takes where .env says nothing is what the example says
        defaults = set(re.findall(rf"\$\{{{name}:-([^}}]*)\}}", FILE.read_text()))
        assert defaults <= {value}


def test_the_settings_are_made_once_with_random_secrets_for_their_owner_only(tmp_path: Path) -> None:
    for name in ("one", "two"):
        dotenv.main(EXAMPLE, tmp_path / name)
    made = (tmp_path / "one").read_text()
    assert len(re.findall(r"^[A-Z_]*(?:PASSWORD|SECRET)=[0-9a-f]{32}$", made, re.MULTILINE)) == 5
    assert made != (tmp_path / "two").read_text() and stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o600
    dotenv.main(EXAMPLE, tmp_path / "one")
    assert (tmp_path / "one").read_text() == made


def test_a_run_is_led_to_the_store_and_the_tracker_of_the_services(tmp_path: Path) -> None:
    for name in ("in-store.sh", ".env.example"):
        shutil.copy(IMAGES / name, tmp_path / name)
    led = [tmp_path / "in-store.sh", "sh", "-c", 'env; echo "$@"', "forge", "run-pipeline"]
    refused = subprocess.run(led, capture_output=True, text=True)
    assert refused.returncode == 2 and "make up" in refused.stderr
    dotenv.main(tmp_path / ".env.example", tmp_path / ".env")
    done = subprocess.run(led, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "run-pipeline --store s3://forge/runs"
    said = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert said["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9000" and said["AWS_ACCESS_KEY_ID"] == "forge"
    assert f"MINIO_ROOT_PASSWORD={said['AWS_SECRET_ACCESS_KEY']}\n" in (tmp_path / ".env").read_text()
    assert said["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"


def compose_command() -> list[str] | None:
    """Compose, as a program or as docker's plugin. podman-compose takes misspelt keys, so it proves nothing."""
    found = program("docker-compose")
    if found:
        return [found]
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0:
        return [docker, "compose"]
    return None


def config(*arguments: str, settings: Path) -> subprocess.CompletedProcess[str]:
    command = compose_command()
    if command is None:
        needs.lacks("compose is not installed")
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    options = ["--file", str(FILE), "--env-file", str(settings), *arguments]
    return subprocess.run([*command, *options], env=clean, capture_output=True, text=True)


def test_compose_resolves_it_with_each_profile(tmp_path: Path) -> None:
    dotenv.main(EXAMPLE, tmp_path / "settings")
    resolved = {}
    for profile in ("", "control", "gpu"):
        chosen = ["--profile", profile] if profile else []
        done = config(*chosen, "config", "--format", "json", settings=tmp_path / "settings")
        assert done.returncode == 0 and not done.stderr, done.stderr
        resolved[profile] = json.loads(done.stdout)["services"]
    assert set(resolved[""]) == {"redis", "postgres", "minio", "mlflow"} | ONCE
    assert set(resolved["control"]) - set(resolved[""]) == OURS - {"phase-controller-gpu"}
    assert set(resolved["gpu"]) - set(resolved[""]) == OURS - {"phase-controller"}
    ports = [port for service in resolved["gpu"].values() for port in service.get("ports", [])]
    assert len(ports) == 8 and {port["host_ip"] for port in ports} == {"127.0.0.1"}
    assert resolved[""]["redis"]["image"] == "docker.io/library/redis:7-alpine"


def test_compose_asks_for_make_up_where_there_is_no_password(tmp_path: Path) -> None:
    (tmp_path / "settings").write_text("REDIS_PASSWORD=x\nMINIO_ROOT_PASSWORD=x\n")
    done = config("config", "--quiet", settings=tmp_path / "settings")
    assert done.returncode != 0 and "POSTGRES_PASSWORD" in done.stderr and "run make up" in done.stderr


def test_redis_starts_by_its_command_asks_for_the_password_and_is_healthy(tmp_path: Path) -> None:
    if not shutil.which("redis-server"):
        needs.lacks("redis is not installed")
    port = str(free_port())
    script = SERVICES["redis"]["command"][2].replace("$$", "$")
    script = script.replace("dir /data", f"dir {tmp_path}\nbind 127.0.0.1\nport {port}")
    password = {"REDIS_PASSWORD": "not-to-be-guessed", "REDISCLI_AUTH": "not-to-be-guessed"}
    check = SERVICES["redis"]["healthcheck"]["test"][1].replace("redis-cli", f"redis-cli -p {port}")
    server = subprocess.Popen(
        ["sh", "-c", script], env=os.environ | password, stdout=subprocess.DEVNULL, cwd=tmp_path
    )
    try:
        end = time.monotonic() + 60
        while subprocess.run(["sh", "-c", check], env=os.environ | password, capture_output=True).returncode:
            assert server.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        assert subprocess.run(["sh", "-c", check], env=os.environ | {"REDISCLI_AUTH": "other"}).returncode
        named = Path("/proc", str(server.pid), "cmdline").read_bytes()
        assert b"redis-server" in named and b"not-to-be-guessed" not in named
    finally:
        server.terminate()
        assert server.wait(timeout=60) == 0
