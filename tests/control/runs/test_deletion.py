"""A run is deleted whole, and not while something refers to it."""

from pathlib import Path

import pytest

from components.shared.runtime.errors import StoreError
from components.shared.runtime.store.folder import FolderStore
from pipelines.control.context import Control
from pipelines.control.errors import Refused
from pipelines.control.services import actions, runs
from pipelines.control.services.deletion import deleted
from pipelines.control.services.projection import record
from pipelines.control.store.compaction import compact
from pipelines.runs.folder import RunFolder, RunStatus
from tests.control.log.made import lines, make_run
from tests.control.runs.made import ADMIN, BOB


def folder(control: Control, name: str, **parameters: str) -> RunFolder:
    made = RunFolder(control.settings.runs.absolute() / name)
    made.path.mkdir(parents=True)
    made.write(RunStatus(name, "succeeded", parameters=parameters))
    made.pipeline.write_text("")
    return made


async def test_a_run_goes_with_its_folder_and_its_events(control: Control) -> None:
    made = folder(control, "demo")
    await make_run(control.database, state="succeeded", owner="alice", folder=str(made.path))
    await record(control, "demo", lines(range(1, 4)))
    with pytest.raises(Refused) as refused:
        await deleted(control, BOB, "demo")
    assert refused.value.status == 404
    assert (await deleted(control, ADMIN, "demo")).bytes > 0
    assert not made.path.exists()
    with pytest.raises(Refused):
        await runs.got(control, "demo")


async def test_the_object_of_its_events_goes_with_a_run(
    control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    for name in ("demo", "other"):
        await make_run(control.database, name, state="succeeded")
        await record(control, name, lines(range(1, 4)))
        await compact(control.database, name, str(store))
    assert (await deleted(control, ADMIN, "demo")).kept == []
    [left] = (store / "event-log").iterdir()
    assert left.name.startswith("other-")

    def refuse(*_: object) -> None:
        raise StoreError("the store does not answer")

    monkeypatch.setattr(FolderStore, "delete", refuse)
    [kept] = (await deleted(control, ADMIN, "other")).kept
    assert left.name in kept and "the store does not answer" in kept


@pytest.mark.parametrize("state", ["queued", "running"])
async def test_a_run_that_goes_on_stays(control: Control, state: str) -> None:
    await make_run(control.database, state=state)
    with pytest.raises(Refused) as refused:
        await deleted(control, ADMIN, "demo")
    assert refused.value.status == 409 and "cancel it first" in refused.value.why


async def test_a_run_stays_that_is_pinned_or_that_another_reads_from(control: Control) -> None:
    made = folder(control, "demo")
    folder(control, "reader", base_model_1=str(Path(made.path, "artifacts", "bitnet", "model")))
    await make_run(control.database, state="succeeded", folder=str(made.path))
    await actions.pinned(control, ADMIN, "demo", pin=True)
    with pytest.raises(Refused) as refused:
        await deleted(control, ADMIN, "demo")
    assert refused.value.why == "it is pinned"
    await actions.pinned(control, ADMIN, "demo", pin=False)
    with pytest.raises(Refused) as refused:
        await deleted(control, ADMIN, "demo")
    assert "reader reads from it" in refused.value.why
    assert made.exists()
