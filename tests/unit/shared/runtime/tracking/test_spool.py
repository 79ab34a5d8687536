"""What waits to be told is bounded, and what is given up is what matters least."""

from __future__ import annotations

import json

import pytest

from components.shared.runtime.tracking import chunks
from components.shared.runtime.tracking.chunks import DamagedChunk
from components.shared.runtime.tracking.spool import LINE, Spool

ALL = 1 << 30


def test_of_progress_the_newest_line_of_each_stage_is_told() -> None:
    spool = Spool()
    for step in range(100):
        spool.put("progress", {"stage": "fit", "step": step})
    spool.put("progress", {"stage": "measure", "step": 1})
    assert [item.data["step"] for item in spool.take(ALL)] == [99, 1]


def test_states_and_errors_outlive_any_number_of_lines() -> None:
    spool = Spool(log_bytes=1000)
    spool.put("state", {"state": "running"})
    for number in range(10_000):
        spool.log(f"line {number}")
    spool.put("error", {"what": "no"})
    assert spool.bytes < 2000
    items = spool.take(ALL)
    assert [item.kind for item in items if item.kind != "log"] == ["state", "error"]
    lines = [line for item in items if item.kind == "log" for line in item.data["lines"]]
    assert lines[-1] == "line 9999"
    told = sum(line.startswith("line ") for line in lines)
    assert f"{10_000 - told:,} lines were given up" in lines[0]


def test_old_measurements_are_given_up_and_counted() -> None:
    spool = Spool(metrics=5)
    for step in range(8):
        spool.put("metric", {"values": {"loss": 1.0}, "step": step})
    first, *kept = spool.take(ALL)
    assert "3 measurements were given up" in first.data["lines"][0]
    assert [item.data["step"] for item in kept] == [3, 4, 5, 6, 7]


def test_lines_are_put_together_but_not_over_an_error() -> None:
    spool = Spool()
    spool.log("one")
    spool.put("metric", {"values": {}})
    spool.log("two")
    spool.put("error", {"what": "no"})
    spool.log("three")
    told = [item.data.get("lines", item.kind) for item in spool.take(ALL)]
    assert told == [["one", "two"], "metric", "error", ["three"]]


def test_what_is_taken_is_bounded_and_nothing_comes_twice() -> None:
    spool = Spool()
    for number in range(300):
        spool.put("metric", {"step": number})
    taken = []
    while items := spool.take(1000):
        assert sum(item.bytes for item in items) <= 1000
        taken += [item.data["step"] for item in items]
    assert taken == list(range(300))
    assert spool.bytes == 0


def test_a_very_long_line_is_cut_and_says_so() -> None:
    spool = Spool()
    spool.log("x" * (LINE + 7))
    assert spool.take(ALL)[0].data["lines"][0].endswith("(7 characters more)")


def test_what_is_no_text_to_a_database_is_told_as_what_it_takes() -> None:
    spool = Spool()
    spool.log("a\0b\ud800c")
    spool.put("error", {"what": "no\0", "why": "\udcff"})
    spool.put("metric", {"values": {"lo\0ss": 1.0}, "stage": "fit"})
    assert [item.data for item in spool.take(ALL)] == [
        {"lines": ["a\ufffdb?c"]},
        {"what": "no\ufffd", "why": "?"},
        {"values": {"lo\ufffdss": 1.0}, "stage": "fit"},
    ]


def test_lines_put_together_are_below_what_a_reader_takes_also_as_json() -> None:
    spool = Spool()
    for _ in range(2000):
        spool.log('"\x1b[31m"' + "\u20ac" * 20)
    items = spool.take(ALL)
    assert sum(len(item.data["lines"]) for item in items) == 2000
    assert max(len(json.dumps(item.data["lines"])) for item in items) <= 50 << 10


def test_a_chunk_is_what_it_was() -> None:
    lines = [
        {"n": 1, "time": 1.5, "kind": "log", "attempt": 1, "data": {"lines": ["ä\ud800", "\x1b[31mred"]}}
    ]
    assert chunks.decode(chunks.encode(lines)) == lines
    assert chunks.encode(lines) == chunks.encode(lines)


@pytest.mark.parametrize("cut", [0, 1, 9, 20, -1])
def test_a_chunk_that_is_cut_off_is_damaged(cut: int) -> None:
    whole = chunks.encode([{"n": 1, "data": {"lines": ["some text"]}}])
    with pytest.raises(DamagedChunk):
        chunks.decode(whole[:cut])


def test_a_chunk_that_unpacks_to_too_much_is_refused() -> None:
    import gzip

    with pytest.raises(DamagedChunk, match="unpacks"):
        chunks.decode(gzip.compress(b"0" * (chunks.LARGEST + 10)))


@pytest.mark.parametrize(
    "line", ["[1]", '{"n": 0, "data": {}}', '{"n": "1", "data": {}}', '{"n": 1}', "not json", "[" * 100_000]
)
def test_a_line_without_number_or_data_damages_its_chunk(line: str) -> None:
    import gzip

    with pytest.raises(DamagedChunk):
        chunks.decode(gzip.compress(line.encode()))


def test_the_name_of_a_chunk_says_whose_it_is() -> None:
    assert chunks.parts(chunks.key("outer/2/inner", "pod-1", 7)) == ("outer/2/inner", "pod-1", 7)
    assert chunks.parts("cognate/x/notes.txt") is None
