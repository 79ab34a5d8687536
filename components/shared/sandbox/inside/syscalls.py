"""The system calls that a Python program of one process and one thread needs: all others are refused.

A list of what is allowed and not of what is denied: a call that a newer kernel brings is refused until it stands here.
Not among them, on purpose: sockets of any kind, new processes, threads and programs (clone, fork, execve), other
processes' memory (ptrace, process_vm_*, pidfd_*), mounts and namespaces, keys, bpf, io_uring, ioctl, devices, and what
changes files by name without opening them, which Landlock does not look at (truncate, chmod, chown, utime, xattr).

Numbers: Linux, arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import platform

NUMBERS: dict[str, tuple[int, int | None]] = {
    # name: (x86-64, aarch64); None where an architecture has it under a newer name alone
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "stat": (4, None),
    "lstat": (6, None),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "readv": (19, 65),
    "writev": (20, 66),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "select": (23, None),
    "pselect6": (270, 72),
    "poll": (7, None),
    "ppoll": (271, 73),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "alarm": (37, None),
    "pause": (34, None),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getgroups": (115, 158),
    "getpgrp": (111, None),
    "uname": (63, 160),
    "fcntl": (72, 25),
    "flock": (73, 32),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "open": (2, None),
    "openat": (257, 56),
    "ftruncate": (77, 46),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "link": (86, None),
    "linkat": (265, 37),
    "umask": (95, 166),
    "getrlimit": (97, 163),
    "prlimit64": (302, 261),
    "getrusage": (98, 165),
    "sched_getaffinity": (204, 123),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "futex": (202, 98),
    "getrandom": (318, 278),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "statx": (332, 291),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "restart_syscall": (219, 128),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "copy_file_range": (326, 285),
    "sendfile": (40, 71),
}
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Name → column of NUMBERS, and AUDIT_ARCH_* of linux/audit.h."""


def architecture() -> tuple[int, dict[str, int]]:
    """The audit number of this machine's architecture, and its numbers of the allowed calls.

    :raises OSError: their numbers are not known for it.
    """
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise OSError(f"no list of system calls for {machine}")
    column, audit = ARCHITECTURES[machine]
    numbers = {name: number for name, row in NUMBERS.items() if (number := row[column]) is not None}
    return audit, numbers
