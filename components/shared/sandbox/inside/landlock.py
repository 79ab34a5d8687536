"""Landlock (Linux, Documentation/userspace-api/landlock.rst): of all files those below some paths, with no privileges.

Not everything is looked at: that a file is there, and its size, can be asked (stat) outside the paths too; what is in it,
and what lies in a folder, cannot. What changes files without opening them the seccomp filter refuses.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

from .seccomp import PR_SET_NO_NEW_PRIVS, control

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
VERSION, PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_DIR, MAKE_REG, MAKE_SYM = 1 << 7, 1 << 8, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
FIRST_RIGHTS = (1 << 13) - 1
LATER_RIGHTS = {2: REFER, 3: TRUNCATE, 5: IOCTL_DEV}
"""ABI → the right to files that it brought."""
NETWORK = 0b11  # bind and connect TCP: ABI 4
SCOPES = 0b11  # abstract sockets and signals of others: ABI 6
READ = READ_FILE | READ_DIR
FILE_ONLY = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
FOLDER = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER | TRUNCATE


def abi() -> int:
    """The version of Landlock that the kernel has; 0 where it has none."""
    return max(0, system_call(CREATE_RULESET, None, 0, VERSION, fails=False))


def system_call(number: int, *arguments: object, fails: bool = True) -> int:
    """syscall(2).

    :param fails: whether a failure is an error.
    :raises OSError: it failed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = int(libc.syscall(ctypes.c_long(number), *words))
    if result < 0 and fails:
        raise OSError(ctypes.get_errno(), f"Landlock's call {number} failed")
    return result


def restrict(read: Sequence[str], write: Sequence[str], devices: Sequence[str], version: int) -> None:
    """Leave this process these paths, and no network, from now on.

    :param read: to read below; those that are not there are left out.
    :param write: folders to do everything in but running programs and making devices.
    :param devices: to read and write.
    :param version: of the ABI, at most the kernel's.
    :raises OSError: the kernel refuses.
    """
    rights = FIRST_RIGHTS | sum(right for since, right in LATER_RIGHTS.items() if since <= version)
    attributes = [rights, *([NETWORK] if version >= 4 else []), *([SCOPES] if version >= 6 else [])]
    packed = struct.pack(f"={len(attributes)}Q", *attributes)
    ruleset = system_call(CREATE_RULESET, ctypes.c_char_p(packed), len(packed), 0)
    for paths, wanted in ((read, READ), (write, FOLDER), (devices, READ_FILE | WRITE_FILE)):
        for path in paths:
            if os.path.exists(path):
                allow(ruleset, path, wanted & rights)
    control(PR_SET_NO_NEW_PRIVS, 1)
    system_call(RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def allow(ruleset: int, path: str, rights: int) -> None:
    """Add a rule for what lies below a path, or for a file.

    :raises OSError: the kernel refuses it.
    """
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    wanted = rights if os.path.isdir(path) else rights & FILE_ONLY
    rule = struct.pack("=Qi", wanted, place)
    system_call(ADD_RULE, ruleset, PATH_BENEATH, ctypes.c_char_p(rule), 0)
    os.close(place)
