"""python -m scripts.dashboards"""

from __future__ import annotations

from pathlib import Path

from scripts.dashboards.boards import BOARDS
from scripts.dashboards.panels import to_json

FOLDER = Path(__file__).resolve().parents[2] / "pipelines" / "control" / "monitoring" / "dashboards"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for board in BOARDS:
        (FOLDER / f"{board.name}.json").write_text(to_json(board), encoding="utf-8")
    print(f"{len(BOARDS)} dashboards in {FOLDER}")


if __name__ == "__main__":
    main()
