"""What text of a request may be: databases and terminals have no NUL, and UTF-8 has no lone surrogates."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator

LONGEST = 400


def plain(text: str) -> str:
    """The text, where both databases can keep it.

    :raises ValueError: they cannot.
    """
    if "\x00" in text or not text.isprintable():
        raise ValueError("printable text on one line")
    return text


Plain = Annotated[str, AfterValidator(plain)]
Word = Annotated[str, Query(max_length=LONGEST), AfterValidator(plain)]
"""A text in the query."""

Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="sha256 of the model's content")]
Cursor = Annotated[str, Query(max_length=1000, description="`next` of the page before")]
Time = Annotated[float | None, Query(ge=0, le=1e11, allow_inf_nan=False, description="Unix seconds")]
