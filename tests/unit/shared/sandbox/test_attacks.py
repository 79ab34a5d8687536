"""Programs that try to break out: each attempt is refused, and nothing outside has changed."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from .holds import every_way, held

TRY = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)

def call(*words):
    if libc.syscall(*(ctypes.c_long(w) if isinstance(w, int) else w for w in words)) < 0:
        raise OSError(ctypes.get_errno(), "refused")

def attempt(**ways):
    for name, way in ways.items():
        try:
            way()
        except (OSError, RuntimeError, ValueError):
            continue
        print(name, "got through")
"""


def got_through(way: str, attempts: str, before: str = "") -> str:
    """Which of the attempts of a program were not refused."""
    program = f"{TRY}\n{textwrap.dedent(before)}\nattempt(\n{textwrap.dedent(attempts)}\n)"
    outcome = held(way, program)
    assert outcome.ending == "end", outcome
    return outcome.stdout


@every_way
def test_there_is_no_network(way: str) -> None:
    attempts = """
        internet=lambda: socket.socket(socket.AF_INET),
        datagrams=lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        local=lambda: socket.socket(socket.AF_UNIX),
        pair=socket.socketpair,
        raw=lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        page=lambda: urllib.request.urlopen("http://127.0.0.1:80"),
        name=lambda: socket.getaddrinfo("example.com", 80),
        by_ctypes=lambda: call(41, 2, 1, 0),
        io_uring=lambda: call(425, 8, ctypes.create_string_buffer(120)),
    """
    assert got_through(way, attempts, "import socket, urllib.request") == ""


@every_way
def test_there_are_no_other_processes_and_no_threads(way: str) -> None:
    attempts = """
        fork=lambda: os.fork() or os._exit(0),
        system=lambda: os.system("true") and refused(),
        run=lambda: subprocess.run(["/bin/true"], check=True),
        spawn=lambda: os.posix_spawn(sys.executable, ["python"], {}),
        exec=lambda: os.execv(sys.executable, ["python", "-c", "print('exec got through')"]),
        thread=lambda: threading.Thread(target=print, args=("thread",)).start(),
        clone=lambda: call(56, 17, 0, 0, 0, 0),
        clone3=lambda: call(435, ctypes.create_string_buffer(88), 88),
        vfork=lambda: call(58),
    """
    assert got_through(way, attempts, "import subprocess, threading\ndef refused(): raise OSError") == ""


@every_way
def test_a_fork_bomb_is_a_refused_fork(way: str) -> None:
    outcome = held(way, "import os\nwhile True:\n    os.fork()")
    assert outcome.ending == "error" and "PermissionError" in outcome.stderr


@every_way
def test_nothing_of_the_machine_can_be_read(way: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("A_SECRET", "of the environment")
    secret = tmp_path / "credentials"
    secret.write_text("a secret of the folder")
    attempts = f"""
        secret=lambda: open({str(secret)!r}).read(),
        link=lambda: (os.symlink({str(secret)!r}, "link"), open("link").read()),
        folder_link=lambda: (os.symlink("/", "all"), os.listdir("all/root")),
        hard_link=lambda: (os.link({str(secret)!r}, "same"), open("same").read()),
        up=lambda: open("../" * 20 + {str(secret)[1:]!r}).read(),
        home=lambda: os.listdir({str(Path.home())!r}),
        users=lambda: open("/etc/passwd").read(),
        shadow=lambda: open("/etc/shadow").read(),
        root=lambda: os.scandir("/var").__next__(),
        others=lambda: os.listdir("/tmp/.."+"/proc"),
        parent=lambda: open(f"/proc/{{os.getppid()}}/environ", "rb").read(),
        parent_folder=lambda: os.listdir(f"/proc/{{os.getppid()}}/cwd/"),
        own=lambda: open("/proc/self/environ").read(),
        memory=lambda: open("/proc/self/mem", "r+b"),
        project=lambda: open({str(Path(__file__))!r}).read(),
        disk=lambda: open("/dev/sda", "rb"),
        terminal=lambda: open("/dev/tty"),
        peek=lambda: call(310, os.getppid(), 0, 0, 0, 0, 0),
    """
    assert got_through(way, attempts) == ""
    shown = held(way, "import os, sys\nprint(os.environ, sys.argv, sys.stdin.read())").stdout
    assert "SECRET" not in shown and os.getcwd() not in shown


@every_way
def test_nothing_can_be_written_or_changed_outside_its_folder(way: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    victim.chmod(0o644)
    os.utime(victim, (1e9, 1e9))
    before = victim.stat()
    attempts = f"""
        write=lambda: open(victim, "w"),
        append=lambda: open(victim, "a").write("more"),
        empty=lambda: os.truncate(victim, 0),
        empty_reading=lambda: os.open(victim, os.O_RDONLY | os.O_TRUNC),
        empty_library=lambda: os.open(os.__file__, os.O_RDONLY | os.O_TRUNC),
        library=lambda: open(os.__file__, "a"),
        mode=lambda: os.chmod(victim, 0o777),
        owner=lambda: os.chown(victim, 1, 1),
        time=lambda: os.utime(victim, (1, 1)),
        attribute=lambda: os.setxattr(victim, "user.a", b"b"),
        remove=lambda: os.remove(victim),
        rename=lambda: os.rename(victim, victim + "2"),
        take=lambda: os.rename(victim, "mine"),
        give=lambda: (open("own", "w").close(), os.rename("own", victim)),
        through_link=lambda: (os.symlink(victim, "v"), open("v", "w")),
        new=lambda: open({str(tmp_path / "new")!r}, "w"),
        folder=lambda: os.mkdir({str(tmp_path / "folder")!r}),
        temporary=lambda: open("/var/tmp/forge-attack", "w"),
        shared=lambda: open("/dev/shm/forge-attack", "w"),
        device=lambda: os.mknod("disk", 0o060600, os.makedev(8, 0)),
        pipe=lambda: os.mkfifo("pipe"),
        root=lambda: open("/forge-attack", "w"),
        memory_file=lambda: os.memfd_create("a"),
    """
    assert got_through(way, attempts, f"victim = {str(victim)!r}") == ""
    after = victim.stat()
    assert victim.read_text() == "whole" and [path.name for path in tmp_path.iterdir()] == ["victim"]
    assert (after.st_mode, after.st_mtime, after.st_uid, after.st_nlink) == (
        before.st_mode,
        before.st_mtime,
        before.st_uid,
        1,
    )


@every_way
def test_nobody_is_signalled_or_limited(way: str) -> None:
    attempts = """
        parent=lambda: os.kill(os.getppid(), 9),
        asked=lambda: os.kill(os.getppid(), 0),
        everybody=lambda: os.kill(-1, 0),
        group=lambda: os.killpg(os.getpgid(os.getppid()), 9),
        own_group=lambda: os.kill(0, 0),
        thread=lambda: call(234, os.getppid(), os.getppid(), 9),
        any_thread=lambda: call(200, os.getppid(), 9),
        queued=lambda: call(129, os.getppid(), 9, ctypes.create_string_buffer(128)),
        descriptor=lambda: os.pidfd_open(os.getppid()),
        by_pipe=lambda: fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid()),
        which=lambda: fcntl.fcntl(os.pipe()[0], 10, 9),
        limits=lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1)),
        see_limits=lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU),
        priority=lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19),
        cpus=lambda: os.sched_setaffinity(os.getppid(), {0}),
        typed=lambda: fcntl.ioctl(1, 0x5412, b"x"),
    """
    assert got_through(way, attempts, "import fcntl, resource") == ""
    assert held(way, "import os\nos.kill(os.getpid(), 9)").ending == "killed", "itself it may kill"


@every_way
def test_ctypes_leads_to_the_same_walls(way: str) -> None:
    attempts = """
        trace=lambda: call(101, 16, os.getppid(), 0, 0),
        mount=lambda: call(165, b"none", b"/tmp", b"tmpfs", 0, 0),
        tree=lambda: call(428, -100, b"/", 1),
        unshare=lambda: call(272, 0x10000000),
        enter=lambda: call(308, 0, 0),
        jail=lambda: os.chroot("."),
        pivot=lambda: call(155, b".", b"."),
        keys=lambda: call(250, 0, -3, 0),
        programs=lambda: call(321, 0, ctypes.create_string_buffer(128), 128),
        faults=lambda: call(323, 0),
        handle=lambda: call(304, -100, ctypes.create_string_buffer(64), 0),
        open2=lambda: call(437, -100, b"/etc/passwd", ctypes.create_string_buffer(24), 24),
        filter=lambda: call(317, 1, 0, ctypes.create_string_buffer(16)),
        control=lambda: call(157, 4, 1, 0, 0, 0),
        more_files=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (9999, 9999)),
        more_memory=lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)),
        user=lambda: os.setuid(0),
        host=lambda: call(170, b"mine", 4),
        other_numbers=lambda: call(0x40000000 + 41, 2, 1, 0),
    """
    assert got_through(way, attempts, "import resource") == ""
