"""Lines of the log: one object each, whatever is in them, with the run, the phase and the request that they are about."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys

import pytest

from pipelines.control.about import about, said
from pipelines.control.monitoring.logs import JsonLines, PlainLines, configure


@pytest.fixture
def log() -> tuple[logging.Logger, io.StringIO]:
    out = io.StringIO()
    configure(out)
    return logging.getLogger("forge.control"), out


def test_lines_go_to_what_standard_error_is_when_they_are_written(
    log: tuple[logging.Logger, io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a command was called in another program, with a standard error of its own, which is closed by now."""
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", first)
    configure()
    first.close()
    monkeypatch.setattr(sys, "stderr", second)
    log[0].info("still heard")
    assert [line["message"] for line in lines(second)] == ["still heard"]


def lines(out: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_says_what_it_is_about(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, out = log
    with about(run="demo", request="r-1"):
        with about(phase="bitnet"):
            logger.info("resumed after %d s", 3)
        logger.warning("again")
    logger.info("alone", extra={"run": "other"})
    first, second, third = lines(out)
    assert first | {"time": ""} == {
        "time": "", "level": "info", "logger": "forge.control", "message": "resumed after 3 s",
        "run": "demo", "phase": "bitnet", "request": "r-1",
    }  # fmt: skip
    assert "phase" not in second and second["run"] == "demo"
    assert third["run"] == "other" and "request" not in third


def test_a_message_cannot_begin_a_line_nor_move_a_terminals_cursor(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, out = log
    evil = 'a\r\n{"level": "info", "message": "forged"}\x1b[2J\x9b1A\u2028end'
    logger.info("run %s", evil, extra={"run": evil})
    assert len(out.getvalue().split("\n")) == 2 and out.getvalue().isascii()
    assert lines(out)[0]["message"] == f"run {evil}"
    record = logging.makeLogRecord({"msg": "run %s", "args": (evil,), "run": evil, "levelname": "INFO"})
    plain = PlainLines().format(record)
    assert len(plain.splitlines()) == 1 and "\x1b" not in plain and "\x9b" not in plain


def test_a_traceback_is_part_of_its_line(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, out = log
    try:
        raise ValueError("no\nsuch")
    except ValueError:
        logger.exception("it has failed")
    (line,) = lines(out)
    assert "ValueError: no\nsuch" in line["exception"] and line["message"] == "it has failed"


async def test_what_is_said_around_follows_the_work_and_no_other() -> None:
    async def work(name: str) -> str:
        with about(run=name):
            await asyncio.sleep(0)
            return said()["run"]

    assert await asyncio.gather(work("a"), work("b")) == ["a", "b"] and not said()


def test_uvicorns_lines_are_of_the_same_form(log: tuple[logging.Logger, io.StringIO]) -> None:
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    assert lines(log[1])[0]["message"] == "Started server process [7]"


def test_a_message_without_end_is_cut() -> None:
    record = logging.makeLogRecord({"msg": "x" * 10**6, "levelname": "INFO"})
    assert len(JsonLines().format(record)) < 20_000
