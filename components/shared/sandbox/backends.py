"""The two ways to hold a program, and which of them this machine has.

    bubblewrap      namespaces: a root of its own in memory, with what Python needs read-only in it; no network, no other
                    processes, no capabilities (https://github.com/containers/bubblewrap)
    landlock        for containers that may not make namespaces: Landlock takes the files, from Linux 5.13 on

Under both, the process has a seccomp filter and resource limits (inside/), and Landlock where the kernel has it. Each is
tried out before it is used, by a program that tries what it must not; where neither holds, nothing is run.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.shared.runtime.errors import ForgeError

Backend = Literal["bubblewrap", "landlock"]
BACKENDS: tuple[Backend, ...] = ("bubblewrap", "landlock")
ROOT = Path(__file__).resolve().parents[3]
PLACE = "/sandbox"
"""The program's folder under bubblewrap: nowhere that something else is."""
OWN = (
    "components/__init__.py",
    *(f"components/shared/{name}" for name in ("__init__.py", "sandbox/__init__.py", "sandbox/inside")),
)
"""The code that confines the process."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
START = (
    "import sys; sys.path.append({root!r}); "
    "from components.shared.sandbox.inside.confine import main; main({root!r})"
)


class SandboxUnavailable(ForgeError):
    """This machine has nothing that holds a program."""

    exit_code = 10


@dataclass(frozen=True)
class Command:
    """How a program is started.

    :param argv: the command.
    :param folder: its own, as it sees it.
    :param needs_landlock: whether Landlock alone keeps files away from it.
    """

    argv: list[str]
    folder: str
    needs_landlock: bool


def python() -> str:
    """The interpreter without its virtual environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    plain = Path(sys.base_prefix, "bin", version)
    return os.path.realpath(plain if plain.exists() else sys.executable)


def readable() -> list[str]:
    """What Python reads to start and to import its standard library."""
    paths = [sysconfig.get_path("stdlib"), python(), *LIBRARIES]
    libraries = Path(sys.base_prefix, "lib").glob("libpython*.so*")
    return [path for path in [*paths, *map(str, libraries)] if os.path.exists(path)]


def command(backend: Backend, folder: str, *, disk: int, info: int) -> Command:
    """The command that starts the sandboxed process.

    :param folder: made for this run.
    :param disk: bytes that it may hold.
    :param info: a file descriptor to which bubblewrap writes the process' number.
    :raises SandboxUnavailable: bubblewrap is not installed.
    """
    start = [python(), "-P", "-s", "-S", "-B", "-X", "utf8", "-c", START.format(root=str(ROOT))]
    if backend == "landlock":
        return Command(start, folder, True)
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxUnavailable(
            "bubblewrap is not installed", fix="install it: the package is called bubblewrap"
        )
    flags = [
        *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv"),
        *("--cap-drop", "ALL", "--uid", "65534", "--gid", "65534", "--info-fd", str(info)),
    ]
    for path in [*readable(), *(str(ROOT / name) for name in OWN)]:
        flags += ["--ro-bind", path, path]
    for device in DEVICES:
        flags += ["--dev-bind", device, device]
    flags += ["--size", str(disk), "--tmpfs", PLACE, "--remount-ro", "/", "--chdir", PLACE]
    for name, value in environment(PLACE).items():
        flags += ["--setenv", name, value]
    return Command([program, *flags, "--", *start], PLACE, False)


def environment(folder: str) -> dict[str, str]:
    """All that the program sees of an environment: alike everywhere, so that it does the same everywhere."""
    return {
        "HOME": folder,
        "TMPDIR": folder,
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
    }
