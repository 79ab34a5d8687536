"""Old runs are removed, and newer ones lose nothing by it."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from kfp import dsl

from components.shared.runtime.errors import ConfigError, InputError
from pipelines.runs import prune
from pipelines.runs.folder import RunFolder, RunStatus, TaskStatus, checked_name, find
from tests.pipeline.local.toy_pipelines import append, write


@dsl.pipeline
def chain():
    append(before=write(text="a").output, text="!")


@dsl.pipeline
def other():
    write(text="something else")


def done(bench, pipeline, *names):
    """Runs with what the runner leaves in their folders, one second apart."""
    for name in names:
        started = 100.0 + len(list(bench.runs.glob("*/run.json")))
        RunFolder(bench.runs / name).write(RunStatus(name, "succeeded", started))
        bench.run(pipeline, name)


def names(uses):
    return [use.folder.name for use in uses]


def test_the_newest_stay_and_what_they_took_from_the_cache_stays_theirs(bench):
    done(bench, chain, "one", "two", "three")
    planned = prune.plan(bench.runs, keep=1)
    assert names(planned.kept) == ["three"] and names(planned.removed) == ["two", "one"]
    assert prune.remove(planned).freed == planned.freed
    assert sorted(path.name for path in bench.runs.iterdir()) == ["cache", "three"]
    assert bench.text("append", "three") == "a!"
    done(bench, chain, "four")
    assert {status.status for status in bench.statuses("four").values()} == {"cached"}


def test_a_result_that_no_kept_run_has_is_forgotten_by_the_cache_and_made_again(bench):
    done(bench, other, "one")
    done(bench, chain, "two")
    prune.remove(prune.plan(bench.runs, keep=1))
    entries = [json.loads(path.read_text())["run"] for path in (bench.runs / "cache").glob("*.json")]
    assert set(entries) == {"two"}
    done(bench, other, "three")
    assert {status.status for status in bench.statuses("three").values()} == {"succeeded"}
    assert not any("cached result" in line for line in bench.said("three"))


def test_what_is_freed_does_not_count_bytes_that_a_kept_run_has_too(bench):
    done(bench, chain, "one", "two")
    (bench.runs / "one" / "big").write_bytes(b"x" * 5000)
    os.link(bench.runs / "one" / "big", bench.runs / "two" / "big")
    [use] = prune.plan(bench.runs, keep=1).removed
    assert use.bytes > 5000 and use.freed < use.bytes - 5000
    (bench.runs / "two" / "big").unlink()
    assert prune.plan(bench.runs, keep=1).removed[0].freed > use.freed + 4999


def test_a_run_that_a_kept_one_was_started_with_stays_and_so_on_from_there(bench):
    done(bench, other, "base", "unused", "middle", "new")
    base = bench.runs / "base" / "artifacts" / "write" / "out"
    task = RunFolder(bench.runs / "middle").task("importer")
    task.write(TaskStatus("importer", "", "importer", status="succeeded", outputs={"artifact": str(base)}))
    new = RunFolder(bench.runs / "new")
    new.write(replace(new.read(), parameters={"base_model_1": "runs/middle/artifacts/write/out"}))
    planned = prune.plan(bench.runs, keep=1)
    assert names(planned.removed) == ["unused"]
    assert {use.folder.name: use.reason for use in planned.kept} == {
        "new": "one of the newest",
        "middle": "new reads from it",
        "base": "middle reads from it",
    }


def test_a_run_that_runs_is_never_touched(bench, forge):
    done(bench, chain, "old", "new")
    with RunFolder(bench.runs / "old").lock():
        assert {use.folder.name: use.reason for use in prune.plan(bench.runs, keep=1).kept} == {
            "new": "one of the newest",
            "old": "it is running",
        }
    planned = prune.plan(bench.runs, keep=1)
    hold = "import sys; from pathlib import Path; from pipelines.runs.folder import RunFolder\n"
    hold += "lock = RunFolder(Path(sys.argv[1])).lock(); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(bench.runs / "old")]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
    holder = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    result = prune.remove(planned)
    assert result.removed == [] and result.kept[-1].reason == "it has been started again"
    holder.communicate("")
    assert bench.text("append", "old") == "a!"


def test_only_folders_of_runs_are_touched(bench, tmp_path):
    with pytest.raises(InputError, match="no run in this folder"):
        prune.plan(tmp_path, keep=1)
    with pytest.raises(InputError, match="no such folder"):
        prune.plan(tmp_path / "none", keep=1)
    done(bench, other, "one", "two")
    with pytest.raises(InputError, match="folder of one run"):
        prune.plan(bench.runs / "one", keep=1)
    with pytest.raises(ConfigError, match="one or more"):
        prune.plan(bench.runs, keep=0)
    (bench.runs / "notes").mkdir()
    (bench.runs / "broken").mkdir()
    (bench.runs / "broken" / "run.json").write_text("{")
    outside = tmp_path / "outside"
    (bench.runs / "one").rename(outside)
    (bench.runs / "link").symlink_to(outside)
    planned = prune.plan(bench.runs, keep=1)
    assert planned.removed == [] and len(planned.skipped) == 2
    (bench.runs / ".gone.00000000000000000000000000000000.removed").mkdir()
    prune.remove(planned)
    assert {path.name for path in bench.runs.iterdir()} == {"two", "notes", "broken", "link", "cache"}
    assert (outside / "run.json").is_file()


def test_the_command_says_what_would_go_asks_and_removes(forge, bench):
    done(bench, chain, "one", "two")
    code, text = forge("prune", "--keep", 1, "--dry-run")
    assert code == 0 and "would go     one" in text and "would free" in text
    code, text = forge("prune", "--keep", 1)
    assert code == 2 and "nobody can be asked" in text and (bench.runs / "one").is_dir()
    code, text = forge("prune", "--keep", 1, "--dry-run", "--json")
    assert json.loads(text)["removed"][0]["run"] == "one" and (bench.runs / "one").is_dir()
    code, text = forge("prune", "--keep", 1, "--yes")
    assert code == 0 and "removed one, freed" in text and not (bench.runs / "one").exists()
    code, text = forge("prune", "--keep", 1)
    assert code == 0 and "nothing to remove" in text
    code, text = forge("prune", "--help")
    assert "\n  forge prune " in text


def test_a_folder_that_is_no_run_stays_whatever_its_run_json_says(bench):
    done(bench, chain, "old", "new")
    for name, content in (("mine", {"name": "other tool"}), ("cache", {"name": "cache", "started": 1})):
        (bench.runs / name).mkdir(exist_ok=True)
        (bench.runs / name / "run.json").write_text(json.dumps(content))
    (bench.runs / ".keep.removed" / "x").mkdir(parents=True)
    pruned = prune.remove(prune.plan(bench.runs, keep=1))
    assert names(pruned.removed) == ["old"] and len(pruned.skipped) == 2
    assert (bench.runs / ".keep.removed" / "x").is_dir()
    assert (bench.runs / "mine").is_dir() and list((bench.runs / "cache").glob("?" * 64 + ".json"))


def test_what_has_come_or_gone_since_the_plan_is_seen(bench):
    done(bench, other, "base", "gone", "new")
    planned = prune.plan(bench.runs, keep=1)
    assert names(planned.removed) == ["gone", "base"]
    (bench.runs / "gone").rename(bench.runs.parent / "elsewhere")
    base = bench.runs / "base" / "artifacts" / "write" / "out"
    late = RunFolder(bench.runs / "late")
    late.write(RunStatus("late", "running", 500.0, parameters={"base_model_1": str(base)}))
    (late.path / "tasks").mkdir()
    pruned = prune.remove(planned)
    assert not pruned.removed and base.exists()
    assert "late reads from it" in {use.reason for use in pruned.kept}


def test_a_damaged_run_is_named_and_hides_no_other(bench):
    done(bench, chain, "old", "new")
    for name, text in (("a", '{"name"'), ("b", "[]"), ("c", '{"name": "c", "started": "x"}')):
        (bench.runs / name).mkdir()
        (bench.runs / name / "run.json").write_text(text)
        with pytest.raises(InputError, match="damaged"):
            find(bench.runs, name).read()
    assert find(bench.runs).name == "new"
    status = next((bench.runs / "old").glob("tasks/**/status.json"))
    status.write_text('{"task"')
    with pytest.raises(InputError, match=str(status)):
        list(find(bench.runs, "old").tasks())
    assert len(prune.plan(bench.runs, keep=1).skipped) == 4


@pytest.mark.parametrize("name", ["../../x", "/tmp/zz", "cache", "a\0b", "", "."])
def test_a_run_is_called_as_a_folder_may_be(name):
    with pytest.raises(ConfigError, match="--name"):
        checked_name(name)


def test_a_task_that_is_damaged_in_one_run_keeps_no_other_from_being_removed(bench):
    done(bench, chain, "a", "b", "c")
    damaged = next((bench.runs / "b" / "tasks").glob("*/status.json"))
    damaged.write_text("{")
    removed = prune.remove(prune.plan_of_one(bench.runs, "a"))
    assert names(removed.removed) == ["a"] and (bench.runs / "b").exists()
