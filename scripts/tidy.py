"""Mends what a text should not have: spaces at the ends of lines, no newline at its own end, or several.

python scripts/tidy.py FILE …      exits with 1 where it has changed a file, or where a merge's conflict is left
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CONFLICT = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)


def tidied(text: str) -> str:
    """The text without spaces at the end of lines, and with one newline at its end; an empty text stays empty."""
    body = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).rstrip("\n")
    return f"{body}\n" if body else ""


def main(paths: list[Path]) -> int:
    """Mend the files in place."""
    failed = False
    for path in paths:
        text = path.read_bytes().decode()
        if CONFLICT.search(text):
            print(f"{path}: a conflict is left")
            failed = True
        elif (mended := tidied(text)) != text:
            path.write_bytes(mended.encode())
            print(f"{path}: mended")
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
