"""The dashboards that lie here are those that the code makes, and whole."""

from __future__ import annotations

import json
from pathlib import Path

from scripts.dashboards.__main__ import FOLDER
from scripts.dashboards.boards import BOARDS
from scripts.dashboards.panels import to_json


def test_the_files_are_what_the_code_makes() -> None:
    made = {f"{board.name}.json": to_json(board) for board in BOARDS}
    there = {path.name: path.read_text() for path in Path(FOLDER).iterdir()}
    assert made == there, "run: make monitoring"


def test_every_panel_has_a_title_a_unit_a_place_and_a_query_to_the_chosen_prometheus() -> None:
    for board in BOARDS:
        shown = json.loads(to_json(board))
        assert shown["uid"] == f"agent-forge-{board.name}" and shown["title"].startswith("Agent Forge: ")
        panels = [panel for panel in shown["panels"] if panel["type"] != "row"]
        assert len({panel["title"] for panel in panels}) == len(panels) > 2 or board.name == "resources"
        for panel in panels:
            assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
            assert panel["fieldConfig"]["defaults"]["unit"] and panel["targets"] and panel["options"]
            assert [target["refId"] for target in panel["targets"]] == list("ABC")[: len(panel["targets"])]
        places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in shown["panels"]}
        assert len(places) == len(shown["panels"])
        assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in shown["panels"])
