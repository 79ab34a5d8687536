"""`forge clean`: what old runs do not need goes, and nothing that is newer, or that somebody needs."""

import os

import pytest

from components.shared.runtime.errors import StoreError
from pipelines.kubeflow.clean import age, objects, remove, stale

DAY = 86400
NOW = 1_700_000_000.0
OLD, NEW = (f"{number}1db5f79-d1b0-4594-95fb-5f0c48db45d5" for number in "89")


@pytest.fixture
def store(tmp_path):
    """A folder with a run of 40 days and one of 2, under the names that KFP gives."""
    for run, days in ((OLD, 40), (NEW, 2)):
        root = tmp_path / "agent-forge" / run
        for name in (
            "checkpoints/bitnet/abc/000001-step/state.json", "progress/bitnet.json",
            "bitnet/c1/model/forge.json", "bitnet/c1/model/model.safetensors", "bitnet/c1/executor-logs-0",
        ):  # fmt: skip
            write(root / name, days)
    write(tmp_path / "checkpoints" / "mine.json", 400)  # of nobody's run
    write(tmp_path / "agent-forge" / "notes.txt", 400)
    return tmp_path


def write(path, days):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("12345")
    os.utime(path, (NOW - days * DAY, NOW - days * DAY))


def names(store):
    return {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()}


def cleaned(address, **options):
    opened, runs = stale(str(address), **{"older_than": 30 * DAY, "artifacts": False, "now": NOW, **options})
    for run in runs:
        assert remove(opened, run)
    return runs


def test_checkpoints_and_progress_of_an_old_run_go_and_all_else_stays(store):
    before = names(store)
    [run] = cleaned(store)
    assert (run.run, run.bytes, run.touched) == (f"agent-forge/{OLD}", 10, NOW - 40 * DAY)
    gone = before - names(store)
    assert gone == {
        f"agent-forge/{OLD}/checkpoints/bitnet/abc/000001-step/state.json",
        f"agent-forge/{OLD}/progress/bitnet.json",
    }


def test_with_artifacts_the_whole_run_goes_and_no_other(store):
    cleaned(store, artifacts=True)
    left = names(store)
    assert not [name for name in left if OLD in name]
    assert len([name for name in left if NEW in name]) == 5
    assert {"checkpoints/mine.json", "agent-forge/notes.txt"} <= left


def test_one_new_object_keeps_all_of_a_run(store):
    write(store / "agent-forge" / OLD / "training" / "c1" / "executor-logs-1", 29)
    before = names(store)
    assert cleaned(store, artifacts=True) == [] and names(store) == before


def test_a_run_that_is_written_to_between_looking_and_removing_stays(store):
    opened, [run] = stale(str(store), older_than=30 * DAY, artifacts=True, now=NOW)
    write(store / "agent-forge" / OLD / "progress" / "bitnet.json", 0)
    before = names(store)
    assert not remove(opened, run) and names(store) == before


@pytest.mark.parametrize("below", ["agent-forge", f"agent-forge/{OLD}"])
def test_the_address_may_be_a_pipelines_or_a_runs(store, below):
    [run] = cleaned(store / below)
    assert OLD in run.run
    assert not [name for name in names(store) if OLD in name and "/checkpoints/" in name]
    assert [name for name in names(store) if NEW in name and "/checkpoints/" in name]


def test_a_bucket_is_cleaned_alike(s3_uri):
    from components.shared.runtime.store.uri import open_store

    root = f"{s3_uri}/v2"
    opened = open_store(root)
    opened.put(f"agent-forge/{OLD}/checkpoints/x", b"123")
    opened.put(f"agent-forge/{OLD}/bitnet/c1/model/forge.json", b"{}")
    [(_, touched, _), _] = list(objects(opened))
    assert cleaned(root, now=touched + 29 * DAY) == []
    [run] = cleaned(root, now=touched + 31 * DAY)
    assert run.keys == [f"agent-forge/{OLD}/checkpoints/x"]
    assert [entry.key for entry in opened.list()] == [f"agent-forge/{OLD}/bitnet/c1/model/forge.json"]


def test_the_command_says_what_would_go_and_removes_nothing_when_dry(store, forge, monkeypatch):
    before = names(store)
    code, text = forge("clean", store, "--older-than", "1h", "--dry-run")
    assert code == 0 and f"agent-forge/{OLD}" in text and "would be removed: " in text
    assert names(store) == before
    code, text = forge("clean", store, "--older-than", "1h")
    assert code == 0 and "removed: 20 bytes" in text
    assert not [name for name in names(store) if "/progress/" in name]


@pytest.mark.parametrize(("text", "seconds"), [("12h", 43200), ("30d", 30 * DAY), ("4w", 28 * DAY)])
def test_ages_are_hours_days_or_weeks(text, seconds):
    assert age(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-1d", "1.5d", "30 days"])
def test_what_is_no_age_removes_nothing(store, forge, text):
    before = names(store)
    assert forge("clean", store, f"--older-than={text}")[0] == 2
    assert names(store) == before


def test_a_manifest_goes_before_what_it_says_is_whole(store, monkeypatch):
    opened, [run] = stale(str(store), older_than=30 * DAY, artifacts=True, now=NOW)
    order = []
    monkeypatch.setattr(opened, "delete", order.append)
    assert remove(opened, run) and order[0].endswith("/forge.json") and len(order) == 5


def test_a_task_may_be_called_as_what_the_phases_keep_for_themselves(store):
    root = store / "other" / OLD
    kept = [root / "checkpoints" / NEW / "model" / "w", root / "progress" / NEW / "model" / "w"]
    for path in (*kept, root / "progress" / "checkpoints.json"):
        write(path, 40)
    cleaned(store)
    assert all(path.is_file() for path in kept) and not (root / "progress" / "checkpoints.json").exists()


@pytest.mark.parametrize("below", ["bitnet", f"bitnet/{OLD}"])
def test_a_tasks_folder_in_a_run_that_still_writes_is_no_run(store, below):
    output = store / "agent-forge" / NEW / "bitnet" / OLD / "model" / "forge.json"
    write(output, 40)
    assert cleaned(store / "agent-forge" / NEW / below, artifacts=True) == [] and output.is_file()


def test_a_folder_that_is_called_like_a_run_and_holds_none_stays(store):
    write(store / "datasets" / OLD / "train.parquet", 400)
    cleaned(store, artifacts=True)
    assert (store / "datasets" / OLD / "train.parquet").is_file()


def test_a_link_to_nothing_is_passed_over(store):
    (store / "link").symlink_to("/nothing/is/here")
    assert len(cleaned(store)) == 1


@pytest.mark.parametrize("address", ["", " "])
def test_no_address_is_not_the_folder_that_one_is_in(store, forge, monkeypatch, address):
    monkeypatch.chdir(store)
    before = names(store)
    assert forge("clean", address)[0] == 2 and names(store) == before


def test_a_bucket_may_be_called_like_a_run(s3_uri):
    from components.shared.runtime.store.uri import open_store

    client = open_store(s3_uri).client
    client.create_bucket(Bucket=NEW)
    open_store(f"s3://{NEW}").put(f"agent-forge/{OLD}/checkpoints/x", b"123")
    [run] = cleaned(f"s3://{NEW}", now=2 * NOW)
    assert run.run == f"agent-forge/{OLD}" and open_store(f"s3://{NEW}").list() == []
    client.delete_bucket(Bucket=NEW)


def test_a_store_that_refuses_to_list_is_explained(s3_uri):
    from components.shared.runtime.store.uri import open_store

    store = open_store(s3_uri)
    store.client.delete_bucket(Bucket=store.bucket)
    with pytest.raises(StoreError, match="the bucket does not exist"):
        list(objects(store))
