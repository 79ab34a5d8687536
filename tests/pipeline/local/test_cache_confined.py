"""Whoever can write into a shared store decides what its entries say, and nothing else: a bad one is none."""

import json
import os

import pytest
from kfp import dsl

from components.shared.runtime.errors import ArtifactError
from components.shared.runtime.store import sealed_json
from pipelines.ir.spec import ArtifactSlot, Component, Container, Parameter
from pipelines.local.cache import read_entry
from pipelines.runs.folder import DamagedRun, RunFolder
from tests.pipeline.local.toy_pipelines import append, write

ENTRY = {
    "key": "k",
    "run": "one",
    "task": "count",
    "outputs": {"out": "d"},
    "parameters": {"number": "7"},
    "metadata": None,
}

COMPONENT = Component(
    "count",
    {},
    {},
    {"number": Parameter("NUMBER_INTEGER")},
    {"out": ArtifactSlot("system.Artifact")},
    Container(("true",), (), {}),
)


def sealed(entry):
    return sealed_json.encode(entry, indent=1)


def test_an_entry_as_it_is_written_is_read():
    assert read_entry(sealed(ENTRY), COMPONENT, "k", "here").parameters == {"number": "7"}


def test_no_changed_byte_of_an_entry_and_no_other_key_is_taken():
    content = sealed(ENTRY)
    for place in range(len(content)):
        changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        with pytest.raises(ArtifactError, match="the entry of the cache is damaged"):
            read_entry(changed, COMPONENT, "k", "here")
    with pytest.raises(ArtifactError, match="another key"):
        read_entry(content, COMPONENT, "another", "here")


@pytest.mark.parametrize(
    "changed",
    [
        {"parameters": {"number": "7", "/tmp/forge-written": "x"}},
        {"parameters": {"../../../written": "x"}},
        {"parameters": {}},
        {"parameters": {"number": 7}},
        {"parameters": {"number": "seven"}},
        {"parameters": {"number": "9" * 5000}},
        {"parameters": None},
        {"run": ".."},
        {"run": "../elsewhere"},
        {"run": "/etc"},
        {"run": ""},
        {"run": 1},
        {"task": "../../etc"},
        {"task": "/etc"},
        {"task": ""},
        {"task": None},
        {"outputs": {}},
        {"outputs": {"out": "d", "../../x": "d"}},
        {"outputs": {"out": 1}},
        {"outputs": ["out"]},
        {"metadata": []},
        {"metadata": {"artifacts": [1]}},
        {"metadata": {"artifacts": {"out": {"artifacts": []}}}},
        {"metadata": {"artifacts": {"out": {"artifacts": [{"metadata": 3}]}}}},
    ],
    ids=str,
)
def test_an_entry_that_leads_elsewhere_or_holds_something_else_is_refused(changed):
    with pytest.raises(ArtifactError, match="the entry of the cache"):
        read_entry(sealed({**ENTRY, **changed}), COMPONENT, "k", "here")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'"x"', b"{}"])
def test_what_is_no_entry_at_all_is_refused(content):
    with pytest.raises(ArtifactError, match="the entry of the cache is damaged"):
        read_entry(content, COMPONENT, "k", "here")


@dsl.pipeline
def chain(text: str = "a", mark: str = "!"):
    append(before=write(text=text).output, text=mark)


def states(bench, name):
    return {task: status.status for task, status in bench.statuses(name).items()}


def test_a_bad_entry_makes_the_task_run_again_and_that_is_said(bench, tmp_path):
    bench.run(chain, "one")
    for path in (bench.runs / "cache").iterdir():
        entry = sealed_json.decode(path.read_bytes(), indent=1)
        parameters = {str(tmp_path / "written"): "x", "../../out": "x"}
        path.write_bytes(sealed({**entry, "parameters": parameters}))
    assert bench.run(chain, "two") == "succeeded"
    assert states(bench, "two") == {"write": "succeeded", "append": "succeeded"}
    assert not (tmp_path / "written").exists()
    assert any("write: its cached result cannot be used" in line for line in bench.said("two"))
    bench.run(chain, "three")
    assert set(states(bench, "three").values()) == {"cached"}  # the entries are right again


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path.name)], ids=["pipe", "loop"])
def test_what_is_no_file_in_place_of_a_cached_result_is_not_waited_for(make, bench):
    bench.run(chain, "one")
    output = bench.runs / "one" / "artifacts" / "write" / "out"
    output.unlink()
    make(output)
    assert bench.run(chain, "two") == "succeeded"
    assert states(bench, "two")["write"] == "succeeded"


def test_what_a_killed_phase_had_begun_is_gone_when_its_result_comes_from_the_cache(bench):
    bench.run(chain, "one")
    draft = bench.runs / "two" / "artifacts" / "write" / ".out.0123456789abcdef"
    draft.mkdir(parents=True)
    (draft / "half").write_text("x")
    bench.run(chain, "two")
    assert states(bench, "two")["write"] == "cached"
    assert [path.name for path in draft.parent.iterdir()] == ["out"]


def test_a_file_that_two_runs_share_cannot_be_written_in_place(bench):
    bench.run(chain, "one")
    bench.run(chain, "two")
    one, two = (bench.runs / name / "artifacts" / "write" / "out" for name in ("one", "two"))
    if os.path.samefile(one, two):  # else the file system has copied it, or will when one is written
        assert not one.stat().st_mode & 0o222


def test_a_finished_task_whose_result_has_been_damaged_since_runs_again(bench):
    bench.run(chain)
    for task, now in (("append", "a?"), ("write", "b")):
        path = bench.runs / "run" / "artifacts" / task / "out"
        path.unlink()
        path.write_text(now)
    before = bench.statuses()["append"].started
    assert bench.run(chain, resume=True) == "succeeded"
    assert (bench.text("write"), bench.text("append")) == ("a", "a!")
    assert bench.statuses()["append"].started > before
    assert sum("its result is damaged" in line for line in bench.said()) == 2


def test_a_finished_task_whose_inputs_have_changed_since_runs_again(bench):
    bench.run(chain)
    folder = RunFolder(bench.runs / "run").task("append")
    status = folder.read()
    status.input_digests = {"before": ["another"]}
    folder.write(status)
    assert bench.run(chain, resume=True, cache=False) == "succeeded"
    assert any("append: its inputs are not those" in line for line in bench.said())


def test_a_status_says_nothing_of_where_it_is_and_names_no_place_outside(tmp_path):
    task = RunFolder(tmp_path).task("outer/inner")
    task.path.mkdir(parents=True)
    status = {"task": "../../../x", "phase": "", "component": "c"}
    (task.path / "status.json").write_text(json.dumps(status))
    assert task.read().task == "outer/inner"
    assert [one.task for one in RunFolder(tmp_path).tasks()] == ["outer/inner"]
    (task.path / "status.json").write_text(json.dumps({**status, "outputs": {"out": "../../x"}}))
    with pytest.raises(DamagedRun, match="leads out of the run"):
        task.read()


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"status": "odd"}', '{"started": "x"}', '{"outputs": null}', '{"inputs": []}', "[" * 9999],
)
def test_a_damaged_status_is_said_to_be_one(content, tmp_path):
    task = RunFolder(tmp_path).task("t")
    task.path.mkdir(parents=True)
    (task.path / "status.json").write_text(content)
    with pytest.raises(DamagedRun):
        task.read()
    (tmp_path / "run.json").write_text(content.replace("outputs", "parameters").replace("inputs", "host"))
    with pytest.raises(DamagedRun):
        RunFolder(tmp_path).read()
