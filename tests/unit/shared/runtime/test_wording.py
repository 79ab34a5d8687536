"""Numbers and names as a person reads them, and files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.shared.runtime.atomic import write_atomically
from components.shared.runtime.wording import close_matches, count, did_you_mean, duration, size


def test_durations_round_and_carry_into_the_next_unit() -> None:
    assert [duration(s) for s in (0, 0.4, 59.4, 59.6, 272, 3599.6, 11_100)] == [
        "0 s", "0 s", "59 s", "1 min 00 s", "4 min 32 s", "1 h 00 min", "3 h 05 min",
    ]  # fmt: skip


def test_sizes_and_counts_take_the_largest_unit_that_fits() -> None:
    assert [size(n) for n in (0, 999, 1234, 5e6, 7.25e12)] == ["0 B", "999 B", "1.2 kB", "5.0 MB", "7.2 TB"]
    assert [count(n) for n in (999, 651_264, 25.08e6, 7e9)] == ["999", "651k", "25.08M", "7.00B"]


def test_a_name_is_likened_to_what_there_is_or_all_of_it_is_said() -> None:
    assert did_you_mean("traning", ["training", "cognate"]) == "did you mean training?"
    assert did_you_mean("xyz", ["training", "baking"]) == "allowed: training, baking"
    assert did_you_mean("xyz", [], none="no keys") == "allowed: no keys"
    assert close_matches("steps", ["bitnet.steps", "seed"])[0] == "bitnet.steps"


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "state.json"
    write_atomically(path, "first")
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"second")
    assert path.read_text() == "first"
    assert os.listdir(path.parent) == ["state.json"]
