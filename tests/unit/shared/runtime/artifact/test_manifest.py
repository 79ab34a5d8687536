"""The manifest: what enters the digest, and that no changed byte of it goes unseen."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.runtime.artifact.artifact import (
    MANIFEST,
    digest_of,
    read,
    seal,
)
from components.shared.runtime.artifact.manifest import STYLE, decode
from components.shared.runtime.errors import ArtifactError
from components.shared.runtime.store import sealed_json
from tests import mutations
from tests.unit.shared.runtime.artifact.cases import make, rewrite, write_model


def test_the_digest_is_the_content_alone(tmp_path: Path) -> None:
    one = make(tmp_path / "one", seed=1, timing={"seconds": 1})
    two = make(tmp_path / "two", seed=2, metrics={"loss": 0.1}, parents=["x"])
    other = make(tmp_path / "other", value=2.0)
    assert one.digest == two.digest != other.digest


@given(st.permutations(["a", "b/c", "B", "é", "a.b"]))
def test_the_digest_does_not_depend_on_the_order_of_files(names: list[str]) -> None:
    files = {name: {"sha256": name * 3, "bytes": len(name)} for name in names}
    assert digest_of(files) == digest_of(dict(sorted(files.items())))  # type: ignore[arg-type]


def test_names_sizes_and_content_all_enter_the_digest() -> None:
    plain = {"a": {"sha256": "0", "bytes": 1}}
    changed = [
        {},
        {"b": {"sha256": "0", "bytes": 1}},
        {"a": {"sha256": "1", "bytes": 1}},
        {"a": {"sha256": "0", "bytes": 2}},
        {"a": {"sha256": "0", "bytes": 1}, "b": {"sha256": "0", "bytes": 1}},
    ]
    assert len({digest_of(files) for files in [plain, *changed]}) == 6  # type: ignore[arg-type]


def test_an_unknown_format_is_refused_as_such(artifact: Path) -> None:
    text = (artifact / MANIFEST).read_text()
    (artifact / MANIFEST).write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(ArtifactError, match=r"format 2.*this version reads format 1"):
        read(artifact)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\x00",
        "\xff",
        '{"format": 1}',
        '{"format": 1, "seal": NaN}',
        pytest.param("[" * 100_000, id="lists in lists"),
        pytest.param('{"format": ' * 50_000, id="objects in objects"),
    ],
)
def test_a_damaged_manifest_is_refused(artifact: Path, text: str) -> None:
    (artifact / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"the manifest.*forge\.json"):
        read(artifact)


@pytest.mark.parametrize(
    "change", [(b" ", b"  "), (b" ", b"\t"), (b"\n", b""), (b"cognate", b"cogn\\u0061te")]
)
def test_a_manifest_that_says_the_same_in_other_bytes_is_refused(
    artifact: Path, change: tuple[bytes, bytes]
) -> None:
    text = (artifact / MANIFEST).read_bytes()
    (artifact / MANIFEST).write_bytes(text.replace(*change, 1))
    assert json.loads((artifact / MANIFEST).read_bytes()) == json.loads(text)
    with pytest.raises(ArtifactError, match="does not match its own seal"):
        read(artifact)


def test_of_five_hundred_mutations_of_a_manifest_none_is_read(artifact: Path) -> None:
    before = (artifact / MANIFEST).read_bytes()
    content = decode(before, "")
    for text in mutations.texts(json.loads(before), seed=3, count=250):
        for changed in (text.encode(errors="surrogatepass"), _resealed(text)):
            try:
                assert decode(changed, "x") != content or changed == before
            except ArtifactError as error:
                assert error.where == "x"


def _resealed(text: str) -> bytes:
    """The same by somebody who knows how to seal."""
    try:
        content = json.loads(text)
        content.pop("seal", None)
        return sealed_json.encode(content, **STYLE)
    except (ValueError, TypeError, AttributeError):  # no JSON object, or none that may be sealed
        return text.encode(errors="surrogatepass")


@pytest.mark.parametrize("field", ["seed", "files", "kind"])
def test_a_sealed_manifest_with_a_missing_or_wrong_field_is_refused(artifact: Path, field: str) -> None:
    for change in ("missing", "wrong"):
        content = json.loads((artifact / MANIFEST).read_text())
        del content["seal"]
        if change == "missing":
            del content[field]
        else:
            content[field] = "wrong"
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        content["seal"] = hashlib.sha256(text.encode()).hexdigest()
        path = artifact.parent / "manifest"
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        with pytest.raises(ArtifactError, match=field):
            decode(path.read_bytes(), "here")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "a\\b", "a//b", "a\nb", MANIFEST])
def test_a_name_that_leaves_the_folder_is_refused(artifact: Path, name: str) -> None:
    rewrite(artifact, lambda manifest: manifest["files"].update({name: {"sha256": "0", "bytes": 0}}))
    with pytest.raises(ArtifactError, match="unsafe file name"):
        read(artifact)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, np.int64(3), Path("x")])
def test_what_is_not_json_is_refused_with_its_place(tmp_path: Path, value: object) -> None:
    folder = write_model(tmp_path / "model")
    with pytest.raises(ArtifactError, match=r"extra\.curves\[1\]\.y is"):
        seal(folder, kind="model", phase="cognate", extra={"curves": [{"y": 1}, {"y": value}]})
    assert not (folder / MANIFEST).exists()
