"""The same documents from a folder, a file, a bucket and a hub."""

import gzip
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

from components.shared.data.sources import open_source
from components.shared.runtime.errors import ConfigError, InputError
from components.shared.runtime.store.uri import open_store
from components.shared.tasks.corpora import CorpusAddress, corpora_of, corpus_address, tasks_of

DOCUMENTS = ["eins", "zwei", "drei"]


def read(name, work):
    return [document.decode() for document in open_source(corpus_address(name)).documents(work)]


def fill(folder):
    (folder / "inner").mkdir(parents=True)
    (folder / "a.txt").write_text("eins\n\nzwei")
    (folder / "inner/b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "drei"}\n'))
    (folder / "README.html").write_text("not a document")
    return folder


def test_a_folder_and_a_single_file(tmp_path):
    folder = fill(tmp_path / "corpus")
    assert read(f"corpus:{folder}", tmp_path) == DOCUMENTS
    assert read(f"corpus:{folder}/a.txt", tmp_path) == DOCUMENTS[:2]
    before = open_source(corpus_address(f"corpus:{folder}")).listing()
    (folder / "a.txt").write_text("eins und mehr")
    assert open_source(corpus_address(f"corpus:{folder}")).listing() != before


def test_a_bucket_is_read_through_the_store_and_leaves_nothing_here(tmp_path, s3_uri):
    open_store(f"{s3_uri}/text").upload(fill(tmp_path / "corpus"))
    (tmp_path / "work").mkdir()
    assert read(f"corpus:{s3_uri}/text", tmp_path / "work") == DOCUMENTS
    assert not list((tmp_path / "work").iterdir())


def test_where_nothing_is_the_address_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    for place, what in (("empty", "no corpus here"), ("nowhere/at/all", "no such folder")):
        with pytest.raises(InputError, match=what) as failure:
            open_source(corpus_address(f"corpus:{tmp_path}/{place}"))
        assert str(tmp_path) in failure.value.where


def test_addresses(tmp_path):
    assert corpus_address("corpus:owner/name@v1?column=body&split=test&config=en") == CorpusAddress(
        "hub", "owner/name", "v1", "body", "test", "en"
    )
    assert corpus_address("corpus:s3://bucket/a/").place == "s3://bucket/a"
    assert corpus_address(f"corpus:{tmp_path}").kind == "folder"
    with pytest.raises(ConfigError, match="no option 'colum'"):
        corpus_address("corpus:owner/name?colum=body")
    weights = {"chain": 3, "corpus:a/b": 1, "corpus:c/d": 0}
    assert tasks_of(weights) == {"chain": 3}
    assert corpora_of(weights) == {"corpus:a/b": 0.25}


class _Hub(BaseHTTPRequestHandler):
    """What `datasets` asks a hub for when it streams."""

    commit = "a" * 40
    content = "".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS).encode()

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        path = unquote(urlsplit(self.path).path)
        name = path.rpartition("/")[2]
        if path.startswith("/api/datasets/owner/name/tree"):
            files = [
                {"type": "file", "path": n, "size": len(c), "oid": "0" * 40}
                for n, c in [("train.jsonl", self.content)]
            ]
            self.say(200, json.dumps(files).encode())
        elif path.startswith("/api/datasets/owner/name"):
            self.say(200, json.dumps({"id": "owner/name", "sha": self.commit, "siblings": []}).encode())
        elif path.startswith(f"/datasets/owner/name/resolve/{self.commit}/") and name == "train.jsonl":
            self.say(200, self.content, ETag='"0"', **{"X-Repo-Commit": self.commit})
        else:
            code = "EntryNotFound" if "owner/name" in path else "RepoNotFound"
            self.say(404, b"", **{"X-Error-Code": code})

    do_GET = do_POST = do_HEAD

    def say(self, status, content, **headers):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


ASK = """
import sys
from pathlib import Path
from components.shared.data.hub import HubDataset
from components.shared.runtime.errors import InputError
from components.shared.tasks.corpora import corpus_address
source = HubDataset(corpus_address("corpus:owner/name"))
print(source.listing()[0])
print([text.decode() for text in source.documents(Path("."))])
for wrong in ("corpus:owner/other", "corpus:owner/name?split=dev", "corpus:owner/name?column=body"):
    try:
        list(HubDataset(corpus_address(wrong)).documents(Path(".")))
    except InputError as error:
        print(error.what)
"""


def test_a_data_set_of_the_hub_is_streamed_from_where_hf_endpoint_says(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "0",
    }
    try:  # a process of its own: `datasets` reads HF_ENDPOINT when it is imported
        said = subprocess.run(
            [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True
        )
    finally:
        server.shutdown()
        server.server_close()
    assert said.stdout.splitlines() == [
        f"owner/name@{'a' * 40}",
        str(DOCUMENTS),
        "the hub has no data set 'owner/other' that we may see",
        "the data set cannot be read as it was asked for",
        "a row has no text in 'body'",
    ]
