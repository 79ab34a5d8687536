"""The same documents in each format; what is wrong with a row is said with its number."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.shared.data import formats
from components.shared.data.formats import documents_in, is_known
from components.shared.runtime.errors import InputError

DOCUMENTS = ["eins zwei", "drei\nvier – fünf", "six"]


def lines(documents):
    return "".join(json.dumps({"text": text}) + "\n" for text in documents)


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.arrow", "a.jsonl", "a.jsonl.gz", "a.txt", "a.txt.gz", "A.TXT"]
)
def test_every_format_gives_the_same_documents(tmp_path, name):
    path, table = tmp_path / name, pa.table({"other": [1, 2, 3], "text": DOCUMENTS})
    if name == "a.parquet":
        pq.write_table(table, path, row_group_size=2)
    elif name == "a.arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    else:
        text = lines(DOCUMENTS) if ".jsonl" in name else "\r\n\r\n\r\n".join(["", *DOCUMENTS, "  "])
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    assert is_known(name)
    assert [document.decode() for document in documents_in(path, name, "text")] == DOCUMENTS


def test_text_is_read_in_blocks_wherever_they_end(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_bytes("\r\n\r\n".join(DOCUMENTS).encode())
    for size in range(1, 12):
        monkeypatch.setattr(formats, "SIZE", size)
        assert [document.decode() for document in documents_in(path, "a.txt", "text")] == DOCUMENTS


def test_a_long_document_is_cut_at_white_space_and_never_inside_of_a_letter(monkeypatch):
    monkeypatch.setattr(formats, "LONGEST", 10)
    assert list(formats.pieces(b"one two three four")) == [b"one two", b"three four"]
    pieces = list(formats.pieces("ü".encode() * 12))
    assert "".join(piece.decode() for piece in pieces) == "ü" * 12
    assert max(map(len, pieces)) <= 10


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"text": "a"}\n\n{"text": 3}\n', "has no text"),
        ('{"text": "a"}\n\n{"body": "b"}\n', "has no text"),
        ('{"text": "a"}\n\n[1]\n', "has no text"),
        ('{"text": "a"}\n\n{"text\n', "not JSON"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, content, what):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=what) as failure:
        list(documents_in(path, "a.jsonl", "text"))
    assert failure.value.where == "a.jsonl:3"


def test_a_missing_column_and_a_damaged_file_are_named(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": ["x"]}), path)
    with pytest.raises(InputError, match=r"no column 'text'.*body.*column=NAME"):
        list(documents_in(path, "a.parquet", "text"))
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="cannot be read"):
        list(documents_in(path, "a.parquet", "text"))
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        list(documents_in(tmp_path / "a.txt", "a.txt", "text"))
