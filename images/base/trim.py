"""Takes out of a Debian image with Python what a container that only runs Python does not need. Run once, as root, while
the image is built; the last thing that it takes away is the shell.

What stays: Python, the shared libraries, ldconfig (NVIDIA's container runtime calls it), certificates, time zones, the
licences, and dpkg's list of what is installed, which scanners read.
"""

from __future__ import annotations

import compileall
import py_compile
import re
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

USER = "forge:x:65532:65532:Agent Forge:/tmp:/usr/sbin/nologin\n"
"""getpass, and whatever calls it, fails for a number that has no name."""

PROGRAMS = re.compile(r"python(3(\.\d+)?)?|ldconfig")
SHARE = ("ca-certificates", "common-licenses", "doc", "zoneinfo")
GONE = (
    "etc/alternatives", "etc/apt", "etc/cron.*", "etc/dpkg", "etc/init.d", "etc/pam.d", "etc/security", "etc/skel",
    "etc/systemd", "etc/shadow*", "etc/gshadow*", "etc/passwd-", "etc/group-", "usr/games", "usr/include",
    "usr/libexec", "usr/src", "usr/local/include", "usr/local/share", "usr/lib/apt", "usr/lib/dpkg", "usr/lib/gcc",
    "usr/lib/init", "usr/lib/systemd", "usr/lib/udev", "usr/lib/valgrind", "usr/lib/*/cmake", "usr/lib/*/perl-base",
    "usr/lib/*/pkgconfig", "var/backups", "var/cache", "var/lib/apt", "var/lib/pam", "var/lib/systemd", "var/log",
)  # fmt: skip
PYTHON_GONE = ("ensurepip", "idlelib", "lib2to3", "test", "tkinter", "turtledemo")


def main() -> None:
    """Name the user, compile Python's own library, and take away the rest."""
    with Path("/etc/passwd").open("a") as users, Path("/etc/group").open("a") as groups:
        users.write(USER)
        groups.write("forge:x:65532:\n")
    library = Path(sysconfig.get_path("stdlib"))
    for name in PYTHON_GONE:
        remove(library / name)
    for folder in [
        *library.glob("config-*"),
        *library.glob("site-packages/*"),
        *library.parent.glob("python3/*"),
    ]:
        remove(folder)
    hashed = py_compile.PycInvalidationMode.UNCHECKED_HASH  # no look at the source when a module is imported
    compileall.compile_dir(library, quiet=1, force=True, invalidation_mode=hashed)

    for pattern in GONE:
        for path in list(Path("/").glob(pattern)):
            remove(path)
    keep("/usr/share", lambda path: path.name in SHARE)
    for path in list(below("/usr/share/doc")):
        if path.name != "copyright":
            remove(path)
    keep("/var/lib/dpkg", lambda path: path.name in ("status", "status.d"))
    for text in ("/usr/lib", "/usr/local/lib"):
        for path in list(below(text)):
            if path.suffix in (".a", ".o"):
                remove(path)
    keep("/tmp", lambda path: False)
    for text in ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/bin", "/sbin"):
        keep(text, lambda path: PROGRAMS.fullmatch(path.name) is not None)


def keep(folder: str, wanted: Callable[[Path], bool]) -> None:
    """Empty a folder, but for what is wanted. One that is a link (/bin to /usr/bin) is looked at where it leads."""
    if Path(folder).is_dir() and not Path(folder).is_symlink():
        for path in list(Path(folder).iterdir()):
            if not wanted(path):
                remove(path)


def below(folder: str) -> Iterator[Path]:
    """Everything below a folder that is no folder itself."""
    return (path for path in Path(folder).rglob("*") if path.is_symlink() or not path.is_dir())


def remove(path: Path) -> None:
    """A file, a link or a folder with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
