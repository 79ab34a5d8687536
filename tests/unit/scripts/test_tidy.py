"""What git's hook mends in a text."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "tidy.py"
SPECIFICATION = importlib.util.spec_from_file_location("tidy", SCRIPT)
tidy = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(tidy)


@pytest.mark.parametrize(
    ("text", "mended"),
    [("a  \nb\t\n", "a\nb\n"), ("a", "a\n"), ("a\n\n\n", "a\n"), ("", ""), ("a\n\n b\n", "a\n\n b\n")],
)
def test_lines_end_with_no_space_and_files_with_one_newline(tmp_path, text, mended):
    path = tmp_path / "file"
    path.write_text(text)
    assert tidy.main([path]) == (text != mended)
    assert path.read_text() == mended


def test_a_conflict_that_is_left_is_named_and_not_touched(tmp_path, capsys):
    path = tmp_path / "file"
    path.write_text("a\n<<<<<<< ours\nb  \n=======\nc\n>>>>>>> theirs\n")
    assert tidy.main([path]) == 1
    assert "conflict" in capsys.readouterr().out and "b  " in path.read_text()
