"""What the operating system refuses, in whichever library's words."""

from __future__ import annotations

import errno

import pytest
from safetensors import SafetensorError

from components.shared.runtime import disk


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/out/model.safetensors"), "/out/model.*make room"),
        (OSError(errno.EROFS, "Read-only file system", "/out"), "Read-only.*can be written"),
        (PermissionError(errno.EACCES, "Permission denied", "/out"), "denied.*can be written"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/etc/passwd/x"), "is a file"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x"), "shorter"),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "make room",
        ),
        (Exception("Read-only file system (os error 30)"), "can be written"),
    ],
)
def test_a_refusal_says_what_and_what_to_do(error: Exception, words: str) -> None:
    refusal = disk.refusal(error)
    assert refusal is not None
    with pytest.raises(type(refusal), match=words):
        raise refusal


@pytest.mark.parametrize(
    "error", [KeyError("x"), ValueError("os error 28"), BrokenPipeError(errno.EPIPE, "gone")]
)
def test_any_other_error_is_not_explained_away(error: Exception) -> None:
    assert disk.refusal(error) is None
