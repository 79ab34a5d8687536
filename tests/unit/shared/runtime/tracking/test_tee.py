"""A stream is told line by line to somebody else, and stays what it is."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator

from components.shared.runtime.tracking import tee
from components.shared.runtime.tracking.tee import Tee


@contextlib.contextmanager
def streams() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """In place of this process' own."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


def test_lines_are_told_and_the_stream_has_them_as_they_were() -> None:
    lines: list[str] = []
    with streams() as (out, err):
        with tee.told(lines.append):
            print("one")
            print("two, ", end="", file=sys.stderr)
            print("three", file=sys.stderr)
            print("without an end", end="")
        print("afterwards")
    assert lines == ["one", "two, three", "without an end"]
    assert out.getvalue() == "one\nwithout an endafterwards\n"
    assert err.getvalue() == "two, three\n"


def test_whoever_holds_the_stream_already_is_heard_too() -> None:
    lines: list[str] = []
    with streams() as (_, err):
        handler = logging.StreamHandler(err)
        with tee.told(lines.append):
            handler.emit(logging.LogRecord("x", logging.WARNING, "", 0, "a warning", None, None))
    assert lines == ["a warning"]


def test_a_bar_that_is_drawn_over_and_over_is_its_last_picture() -> None:
    lines: list[str] = []
    stream = io.StringIO()
    one = Tee(stream, lines.append)
    one.install()
    for share in range(101):
        stream.write(f"\r{share} %")
    stream.write("\n\x1b[2K\x1b[31mred\x1b[0m\r\n")
    one.remove()
    assert lines == ["100 %", "\x1b[31mred\x1b[0m"]


def test_a_terminal_is_left_alone() -> None:
    lines: list[str] = []
    with streams() as (_, err):
        err.isatty = lambda: True  # type: ignore[method-assign]
        with tee.told(lines.append):
            print("a bar", file=sys.stderr)
    assert lines == []


def test_what_is_written_while_a_line_is_told_is_not_told_again() -> None:
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        print("telling", file=sys.stderr)

    with streams(), tee.told(tell):
        print("one")
    assert lines == ["one"]
