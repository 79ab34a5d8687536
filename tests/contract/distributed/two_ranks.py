"""A group of two ranks on this machine, forked: torchrun's would each spend seconds on imports."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from tests.contract.forked import Forked


def start(module: str, arguments: Sequence[object], environment: Mapping[str, str]) -> list[Forked]:
    """Both ranks, started as torchrun starts them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    return [
        Forked(module, arguments, {**environment, **shared, "RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
