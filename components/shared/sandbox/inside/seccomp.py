"""A seccomp filter (Linux, Documentation/userspace-api/seccomp_filter.rst), as a program of the classic BPF machine.

    wrong architecture      the process is killed: a number would mean another call
    a call on the list      allowed, where its arguments are
    any other               refused with EPERM

The filter reads numbers and arguments, never memory: what hides its flags behind a pointer (clone3, openat2) is not on the
list.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .syscalls import architecture

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD_WORD, AND, JUMP_EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06  # BPF_LD|W|ABS, ALU|AND|K, JMP|JEQ|K, RET|K
KILL, REFUSE, ALLOW = 0x80000000, 0x00050000 | 1, 0x7FFF0000  # KILL_PROCESS, ERRNO | EPERM, ALLOW
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
O_ACCMODE, O_TRUNC = 0o3, 0o1000
DUPFD, GETFD, SETFD, GETFL, SETFL, GETLK, SETLK, SETLKW, DUPFD_CLOEXEC = 0, 1, 2, 3, 4, 5, 6, 7, 1030


class Condition(NamedTuple):
    """What a 32-bit word of a call's arguments has to be, for the call to be allowed.

    :param word: 2·argument is its lower half, 2·argument + 1 its upper one (little endian).
    :param mask: of the bits that are looked at.
    :param values: of these bits.
    :param among: whether it has to be one of the values, or none of them.
    """

    word: int
    values: Sequence[int]
    mask: int = 0xFFFFFFFF
    among: bool = True


Instruction = tuple[int, int, int, int]


def conditions(pid: int) -> dict[str, list[Condition]]:
    """The calls that are allowed with some arguments only.

    :param pid: of the process to be filtered: it may signal itself, and nobody else.
    """
    return {
        "kill": [Condition(0, (pid,))],
        "tgkill": [Condition(0, (pid,))],
        # its own limits, to read: `new_limit` is no address
        "prlimit64": [Condition(0, (0, pid)), Condition(4, (0,)), Condition(5, (0,))],
        # not F_SETOWN and F_SETSIG, by which a pipe sends any signal to any process of the user; not F_SETPIPE_SZ
        "fcntl": [Condition(2, (DUPFD, GETFD, SETFD, GETFL, SETFL, GETLK, SETLK, SETLKW, DUPFD_CLOEXEC))],
        # Before Linux 6.2, Landlock lets a file be emptied by opening it for reading.
        "open": [Condition(2, (O_TRUNC,), O_TRUNC | O_ACCMODE, among=False)],
        "openat": [Condition(4, (O_TRUNC,), O_TRUNC | O_ACCMODE, among=False)],
    }


def compiled(audit: int, numbers: Mapping[str, int], among: Mapping[str, Sequence[Condition]]) -> bytes:
    """The filter as an array of struct sock_filter.

    :param audit: the number of the architecture.
    :param numbers: of the allowed calls.
    :param among: their conditions.
    """
    program: list[Instruction] = [
        (LOAD_WORD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, audit),
        (RETURN, 0, 0, KILL),
        (LOAD_WORD, 0, 0, NUMBER),
    ]
    for name, number in numbers.items():
        body = [step for condition in among.get(name, ()) for step in checked(condition)]
        body.append((RETURN, 0, 0, ALLOW))
        program += [(JUMP_EQUAL, 0, len(body), number), *body]
    program.append((RETURN, 0, 0, REFUSE))
    return b"".join(struct.pack("=HBBI", *step) for step in program)


def checked(condition: Condition) -> list[Instruction]:
    """Refuse where a condition does not hold, else fall through."""
    steps: list[Instruction] = [
        (LOAD_WORD, 0, 0, ARGUMENTS + 4 * condition.word),
        (AND, 0, 0, condition.mask),
    ]
    for left, value in reversed(
        list(enumerate(reversed(condition.values)))
    ):  # left: comparisons behind this one
        if condition.among:
            steps.append((JUMP_EQUAL, left + 1, 0, value))  # over the refusal
        else:
            steps.append((JUMP_EQUAL, left, 0 if left else 1, value))  # to it; the last one else over it
    return [*steps, (RETURN, 0, 0, REFUSE)]


def install(pid: int) -> None:
    """Filter this process from now on; nothing can take the filter off.

    :raises OSError: the kernel refuses it, or the architecture is not known.
    """
    audit, numbers = architecture()
    code = compiled(audit, numbers, conditions(pid))
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(held))  # struct sock_fprog
    pointer = ctypes.cast(ctypes.c_char_p(program), ctypes.c_void_p).value or 0
    control(PR_SET_NO_NEW_PRIVS, 1)
    control(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, pointer)


def control(operation: int, *arguments: int) -> None:
    """prctl(2).

    :raises OSError: it failed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    words = [*arguments, *[0] * (4 - len(arguments))]
    if libc.prctl(operation, *map(ctypes.c_ulong, words)):
        raise OSError(ctypes.get_errno(), f"prctl {operation} failed")
