"""How fast a store is encrypted and decrypted on one core, and how many bytes more it holds.

    python tests/performance/encryption.py [--mebibytes 512]

Each figure is the best of five. "stream": the format alone, in memory. "file": a file through an encrypted folder store
(read, encrypt, write, fsync; fetch and decrypt in place). "plain": the same file through the folder store without
encryption. sha256 is what publishing and reading an artifact cost anyway.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from components.shared.runtime.store.encryption import streaming
from components.shared.runtime.store.encryption.encrypted import PREAMBLE, EncryptedStore
from components.shared.runtime.store.encryption.key_ring import configured
from components.shared.runtime.store.folder import FolderStore


def best(work: Callable[[], object], times: int = 5) -> float:
    """Seconds of the quickest of several."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def main(mebibytes: int) -> None:
    """Measure, and print one line a figure."""
    size, key, name = mebibytes * 2**20, os.urandom(32), b"model.safetensors"
    plain = os.urandom(2**20) * mebibytes
    sealed = streaming.encrypted(key, name, plain)
    print(f"{mebibytes} MiB; {len(sealed) - size:,} bytes more, and {PREAMBLE} before them")

    def through(seconds: float) -> str:
        return f"{size / 1e9 / seconds:.2f} GB/s"

    def drain() -> None:
        for _ in streaming.decrypt(key, name, io.BytesIO(sealed)):
            pass

    class Sink(io.RawIOBase):
        def write(self, data: object) -> int:
            return len(data)  # type: ignore[arg-type]

    print("stream  encrypt", through(best(lambda: streaming.encrypt(key, name, io.BytesIO(plain), Sink()))))  # type: ignore[arg-type]
    print("stream  decrypt", through(best(drain)))
    print("stream  sha256 ", through(best(lambda: hashlib.sha256(plain).digest())))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "key").write_bytes(key)
        (Path(folder) / "file").write_bytes(plain)
        ring = configured({"FORGE_ENCRYPTION_KEY_FILE": f"{folder}/key"})
        assert ring is not None
        bare = FolderStore(Path(folder) / "bare")
        for label, store in (
            ("file    ", EncryptedStore(FolderStore(Path(folder) / "store"), ring)),
            ("plain   ", bare),
        ):

            def put(store: FolderStore | EncryptedStore = store) -> None:
                store.put("m/file", Path(folder) / "file")

            def fetch(store: FolderStore | EncryptedStore = store) -> None:
                store.fetch("m/file", Path(folder) / "back")

            def digest(store: FolderStore | EncryptedStore = store) -> str:
                return store.sha256("m/file")

            print(f"{label}put   ", through(best(put)))
            print(f"{label}fetch ", through(best(fetch)))
            print(f"{label}sha256", through(best(digest)))
            at = [random.randrange(size - 4096) for _ in range(200)]
            began = time.perf_counter()
            for place in at:
                store.get_range("m/file", place, 4096)
            print(f"{label}4 KiB at random {(time.perf_counter() - began) / len(at) * 1e3:.2f} ms")
        assert hashlib.sha256(plain).hexdigest() == bare.sha256("m/file")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--mebibytes", type=int, default=512)
    main(arguments.parse_args().mebibytes)
