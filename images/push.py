"""Pushes the images to a registry and writes down what was pushed, by digest, in images/images.lock.

`forge compile` and `forge submit` read that lock: a pipeline runs what was pushed here, wherever the tags go later.

    python images/push.py --registry ghcr.io/acme/agent-forge [--source localhost/agent-forge] [--plain-http] [NAME…]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from components.shared.image import DEFAULT, LOCK, VERSION  # noqa: E402 - this is no part of the package
from components.shared.runtime.errors import ConfigError, ForgeError, StoreError  # noqa: E402

PHASES = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py"))
NAMES = (*PHASES, "forge")
CONTROL = ("control", "controller")
"""Of the control plane, which a pipeline does without: pushed where they are named."""

BUILDERS = ("buildx", "podman", "buildah")


def main(argv: Sequence[str] | None = None) -> int:
    """Push, then write the lock: one that is half new would pin images of two versions together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="images (default: those of the pipeline)")
    parser.add_argument("--registry", required=True, help="what the names begin with there")
    parser.add_argument("--source", default=DEFAULT, help=f"what they begin with here (default: {DEFAULT})")
    parser.add_argument("--lock", type=Path, default=LOCK, help=f"default: {LOCK.relative_to(ROOT)}")
    parser.add_argument("--plain-http", action="store_true", help="a registry on this machine, without TLS")
    given = parser.parse_args(argv)
    registry = given.registry.rstrip("/")
    try:
        names = _known(given.names or NAMES)
        if not registry or "://" in registry:
            fix = "give host and path alone, such as ghcr.io/acme/agent-forge"
            raise ConfigError("this is no registry", where=f"--registry {given.registry}", fix=fix)
        known = _locked(given.lock) if given.names else {}
        program = builder()
        if program == "buildx":
            digests = push_baked(names, registry)
        else:
            digests = {
                name: push(
                    program,
                    f"{given.source}/{name}:{VERSION}",
                    f"{registry}/{name}:{VERSION}",
                    given.plain_http,
                )
                for name in names
            }
    except ForgeError as error:
        print(f"push: {error}", file=sys.stderr)
        return error.exit_code
    pinned = {name: f"{registry}/{name}@{digest}" for name, digest in digests.items()}
    given.lock.write_text(json.dumps({**known, **pinned}, indent=2, sort_keys=True) + "\n")
    print(f"{given.lock}: {len(pinned)} of {len(NAMES)} images pinned")
    return 0


def builder() -> str:
    """What built the images, by the rule of build.sh.

    :raises ConfigError: nothing is here that pushes.
    """
    given = os.environ.get("BUILDER", "")
    if given:
        if given not in BUILDERS:
            fix = f"set one of {', '.join(BUILDERS)}, or nothing"
            raise ConfigError(f"BUILDER is {given!r}", where="the environment", fix=fix)
        return given
    if shutil.which("docker") and not _fails("docker", "buildx", "version") and not _fails("docker", "info"):
        return "buildx"
    for program in ("podman", "buildah"):
        if shutil.which(program):
            return program
    raise ConfigError("neither docker with buildx nor podman nor buildah is here", fix="install one of them")


def push(program: str, source: str, target: str, plain_http: bool) -> str:
    """Push one image by podman or buildah and give its digest.

    :raises StoreError: the registry did not take it.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "digest")
        flags = [f"--digestfile={file}", *(["--tls-verify=false"] if plain_http else [])]
        _run([program, "push", *flags, source, f"docker://{target}"], target)
        return file.read_text().strip()


def push_baked(names: Sequence[str], registry: str) -> dict[str, str]:
    """Push by BuildKit, which builds what it has not built yet, and give the digests from its metadata.

    :raises StoreError: a build failed, or the registry did not take an image.
    """
    variant = os.environ.get("VARIANT", "cuda")
    targets = {name: name if name in ("forge", "control") else f"{name}-{variant}" for name in names}
    environment = {**os.environ, "REGISTRY": registry, "VERSION": VERSION, "VARIANT": variant}
    kind = "type=registry,rewrite-timestamp=true"  # times of files are no part of a digest
    outputs = [f"--set={target}.output={kind}" for target in targets.values()]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "metadata.json")
        command = ["docker", "buildx", "bake", "--file=images/docker-bake.hcl", f"--metadata-file={file}"]
        _run([*command, *outputs, *targets.values()], registry, environment)
        metadata = json.loads(file.read_text())
    return {name: metadata[target]["containerimage.digest"] for name, target in targets.items()}


def _known(names: Sequence[str]) -> Sequence[str]:
    for name in names:
        if name not in (*NAMES, *CONTROL):
            fix = f"the images are {', '.join((*NAMES, *CONTROL))}"
            raise ConfigError(f"there is no image {name!r}", fix=fix)
    return names


def _locked(lock: Path) -> dict[str, str]:
    """The lock as it is, which the images that are pushed by name alone are added to."""
    if not lock.is_file():
        return {}
    try:
        return dict(json.loads(lock.read_text()))
    except (OSError, ValueError, TypeError) as error:
        fix = "push all images, which writes it anew, or delete it"
        raise ConfigError(
            "the images' lock cannot be read", where=str(lock), why=str(error), fix=fix
        ) from error


def _run(command: list[str], target: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr)
    if done.returncode:
        why = f"{' '.join(command[:2])} ended with {done.returncode}, see above"
        raise StoreError(
            "the image was not pushed", where=target, why=why, fix="log in to the registry; make images"
        )


def _fails(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode != 0


if __name__ == "__main__":
    raise SystemExit(main())
