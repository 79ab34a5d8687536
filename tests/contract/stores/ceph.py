"""Ceph's radosgw on this machine: an S3 server of three daemons, which checks credentials.

One monitor, one OSD that keeps its data in memory, one gateway; started in about 13 s, all below one folder.
Debian: `apt-get install radosgw ceph-mon ceph-osd`.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.contract.stores.s3_servers import ACCESS_KEY, SECRET_KEY, free_port, wait_for

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")

# ms_mon_client_mode: radosgw's own default is "secure", which needs the authentication that is off inside.
CONFIGURATION = """
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{monitor}
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
osd_objectstore = memstore
memstore_device_bytes = 536870912
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
ms_bind_ipv6 = false
rgw_frontends = beast endpoint=127.0.0.1:{gateway} tcp_nodelay=1
rgw_rados_pool_pg_num_min = 1
run_dir = {root}
log_file = {root}/$name.log
admin_socket = {root}/$name.asok
mon_data = {root}/mon
osd_data = {root}/osd
rgw_data = {root}/rgw
pid_file =
"""


def installed() -> bool:
    return all(shutil.which(program) for program in PROGRAMS)


@contextlib.contextmanager
def radosgw(root: Path) -> Iterator[str]:
    """Run the three daemons below `root` and yield the gateway's address."""
    monitor, gateway = free_port(), free_port()
    fsid = str(uuid.uuid4())
    settings = root / "ceph.conf"
    settings.write_text(CONFIGURATION.format(fsid=fsid, monitor=monitor, gateway=gateway, root=root))
    for folder in ("mon", "osd", "rgw"):
        (root / folder).mkdir()
    log = (root / "output.log").open("wb")
    daemons: list[subprocess.Popen[bytes]] = []

    def command(program: str, *arguments: str) -> list[str]:
        return [program, "--conf", str(settings), *arguments]

    def call(program: str, *arguments: str) -> None:
        subprocess.run(command(program, *arguments), check=True, stdout=log, stderr=log, timeout=120)

    def start(program: str, *arguments: str) -> None:
        daemons.append(subprocess.Popen(command(program, "--foreground", *arguments), stdout=log, stderr=log))

    try:
        monmap = str(root / "monmap")
        address = f"[v2:127.0.0.1:{monitor}]"
        call(
            "monmaptool",
            "--create",
            "--fsid",
            fsid,
            "--addv",
            "a",
            address,
            "--set-min-mon-release",
            "16",
            monmap,
        )
        call("ceph-mon", "--mkfs", "--id", "a", "--monmap", monmap)
        start("ceph-mon", "--id", "a")
        call("ceph", "--connect-timeout", "60", "osd", "new", fsid)
        call("ceph-osd", "--mkfs", "--id", "0", "--osd-uuid", fsid)
        start("ceph-osd", "--id", "0")
        start("radosgw", "--name", "client.admin")
        endpoint = f"http://127.0.0.1:{gateway}"
        wait_for(endpoint, daemons)
        call("radosgw-admin", "user", "create", "--uid", "forge", "--display-name", "forge",
             "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)  # fmt: skip
        yield endpoint
    finally:
        for daemon in reversed(daemons):
            daemon.kill()
            daemon.wait()
        log.close()
