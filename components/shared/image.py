"""Which container image a phase runs in, and what is started in it.

Imports nothing heavy, so that compiling stays light.
"""

import json
import os
import re
from pathlib import Path

from components.shared.runtime.code import VERSION
from components.shared.runtime.errors import ConfigError

DEFAULT = "localhost/agent-forge"
"""Where images are that no registry has: on a public one nobody can register `localhost`."""

LOCK = Path(__file__).resolve().parents[2] / "images" / "images.lock"
"""Names and digests of the images that `make images-push` has pushed, as JSON; AGENT_FORGE_LOCK names another."""

PINNED = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")


def image(name: str) -> str:
    """The address of the image `name`, a phase or "forge".

    The first that there is of `$AGENT_FORGE_IMAGE_<NAME>`, the lock's digest, the tag of this version in
    `$AGENT_FORGE_REGISTRY` (such as ghcr.io/acme/agent-forge), and the tag that `make images` gives.

    :raises ConfigError: the lock cannot be read, does not name this image, or holds something without a digest.
    """
    chosen = os.environ.get(f"AGENT_FORGE_IMAGE_{name.upper().replace('-', '_')}", "")
    if chosen:
        return chosen
    lock = os.environ.get("AGENT_FORGE_LOCK", str(LOCK))
    if lock and (Path(lock).is_file() or "AGENT_FORGE_LOCK" in os.environ):
        return _locked(name, Path(lock))
    registry = os.environ.get("AGENT_FORGE_REGISTRY", "").rstrip("/") or DEFAULT
    return f"{registry}/{name}:{VERSION}"


def _locked(name: str, lock: Path) -> str:
    """What `lock` has for an image."""
    fix = "push the images again (make images-push REGISTRY=…), or set AGENT_FORGE_LOCK= to go without a lock"
    try:
        known = json.loads(lock.read_text())
        address = known[name]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            "the images' lock cannot be read", where=str(lock), why=str(error), fix=fix
        ) from error
    except KeyError:
        names = ", ".join(sorted(known)) or "nothing"
        why = f"it names {names}"
        raise ConfigError(
            f"there is no image {name!r} in the lock", where=str(lock), why=why, fix=fix
        ) from None
    if not isinstance(address, str) or not PINNED.fullmatch(address):
        why = f"{address!r} is no address with a digest"
        raise ConfigError(f"the lock does not pin image {name!r}", where=str(lock), why=why, fix=fix)
    return address


def arguments(module: str, step: str = "") -> list[str]:
    """The arguments after `python`: the phase's module, its step where it has one, KFP's executor input."""
    return ["-m", f"components.{module}", *(["--step", step] if step else []), "--executor-input", "{{$}}"]
