"""images/.env from images/.env.example: what is empty becomes a random secret. A file that is there stays as it is."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(example: Path = HERE / ".env.example", target: Path = HERE / ".env") -> None:
    """Write `target`, readable by its owner only, unless there is one."""
    lines = [
        f"{line}{secrets.token_hex(16)}" if line.endswith("=") and not line.startswith("#") else line
        for line in example.read_text().splitlines()
    ]
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
