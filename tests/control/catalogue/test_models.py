"""The catalogue: models are found, said in full, tagged, pinned, and removed where nobody needs them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from components.shared.runtime.errors import ArtifactError, MissingKey
from pipelines.control.context import Control
from pipelines.control.errors import Refused
from pipelines.control.services import catalogue, importing, model_detail, models, removal, tensors
from pipelines.control.services.catalogue import Search, search
from pipelines.control.services.lineage import lineage, references_to_run
from pipelines.control.services.paging import cursor_of
from pipelines.control.services.projection import record
from pipelines.control.store.tables import run
from pipelines.runs.folder import RunStatus
from tests.control.catalogue.made import ADMIN, ALICE, BOB, EVE, artifact, catalogued
from tests.control.log.made import make_run
from tests.control.runs.made import task, told


async def found(control: Control, **wanted: object) -> list[str]:
    page = await search(control.database, Search(**wanted), 50, "")  # type: ignore[arg-type]
    return [model.digest for model in page.models]


async def test_models_are_found_by_what_is_known_of_them(control: Control, tmp_path: Path) -> None:
    runs = control.settings.runs
    old = await catalogued(
        control, runs / "old", "first", "bitnet", mark=1, score=0.2, finished=1000, tensors=4,
        extra={"variant": "Memory"},
    )  # fmt: skip
    new = await catalogued(
        control, runs / "new", "second", "training", mark=2, score=0.8, finished=2000, phase="training"
    )
    bare = await catalogued(
        control, runs / "bare", "second", "adas", mark=3, score=None, finished=1500, phase="adas"
    )
    await catalogue.tag(control.database, new.digest, "champion", ADMIN)
    everything = [new.digest, bare.digest, old.digest]
    assert await found(control) == everything
    assert await found(control, phase="bitnet") == [old.digest]
    assert await found(control, run="second") == [new.digest, bare.digest]
    assert await found(control, min_score=0.5) == [new.digest]
    assert await found(control, order="score") == [new.digest, old.digest]
    assert await found(control, digest=old.digest[:9]) == [old.digest]
    assert await found(control, text=bare.digest[:9].upper()) == [bare.digest]
    assert await found(control, tag="champion") == [new.digest]
    assert await found(control, text="champ") == [new.digest]
    assert await found(control, text="FIRST bit") == [old.digest]
    assert await found(control, text="memory") == [old.digest]
    assert await found(control, text="%") == []
    assert await found(control, after=1400, before=1600) == [bare.digest]
    assert await found(control, min_bytes=old.bytes + 1) == []
    assert await found(control, max_bytes=old.bytes - 1) == [new.digest, bare.digest]


@pytest.mark.parametrize("order", ["finished", "score", "bytes"])
async def test_pages_have_each_model_once(control: Control, order: catalogue.Order) -> None:
    for number in range(7):  # some with the same time and score
        await catalogued(
            control, control.settings.runs / f"{number}", mark=number, finished=1000 + number // 3
        )
    seen, cursor = [], ""
    while True:
        page = await search(control.database, Search(order=order), 2, cursor)
        seen += [model.digest for model in page.models]
        if page.next is None:
            break
        cursor = page.next
    assert len(seen) == len(set(seen)) == 7


OF_RUNS = cursor_of("runs", 1.0, "a-run")


@pytest.mark.parametrize("cursor", ["x", "W10", "WzEsMl0", "!!", "WyJhIiwgIlx1MDAwMCJd", "[" * 900, OF_RUNS])
async def test_a_cursor_of_somebody_else_is_refused(control: Control, cursor: str) -> None:
    with pytest.raises(Refused, match="none of ours"):
        await search(control.database, Search(), 2, cursor)


async def test_two_runs_that_have_made_the_same_have_one_row_and_its_owner_is_the_firsts(
    control: Control,
) -> None:
    await make_run(control.database, "one", owner="alice")
    await make_run(control.database, "two", owner="bob")
    one, two = (control.settings.runs / name / "model" for name in ("one", "two"))
    manifest = artifact(one)
    shutil.copytree(one, two)
    for name, place in (("one", one), ("two", two), ("one", one)):
        async with control.database.write() as connection:
            await models.register(connection, manifest, str(place), name, "bitnet")
    [model] = (await search(control.database, Search(), 9, "")).models
    assert (model.run, model.owner, model.address) == ("one", "alice", str(one))
    async with control.database.write() as connection:
        assert await models.forget_run(connection, "one") == []
    [model] = (await search(control.database, Search(text="two"), 9, "")).models
    assert (model.run, model.address) == ("two", str(two))
    async with control.database.write() as connection:
        assert await models.forget_run(connection, "two") == [manifest.digest]
    assert await found(control) == []


async def test_the_detail_has_scores_with_intervals_gates_claims_and_what_may_be_done(
    control: Control,
) -> None:
    claim = {"claim": "better", "value": 0.5, "low": 0.4, "high": 0.6, "holds": True}
    manifest = await catalogued(
        control,
        control.settings.runs / "m",
        owner="alice",
        extra={"controls": [claim], "sizes": {"stored": {"int8": 9}}},
    )
    detail = await model_detail.detail(control, manifest.digest, EVE)
    assert detail.results["memory"] == {"score": 0.5, "low": 0.4, "high": 0.6, "n": 24, "chance": 0.1}
    assert detail.overall and detail.overall.suites == 2
    assert detail.overall.score == pytest.approx(0.4 / 0.9)
    assert detail.overall.low < detail.overall.score < detail.overall.high
    assert detail.gates[0]["passed"] is True
    assert (detail.claims, detail.sizes) == ([claim], {"stored": {"int8": 9}})
    assert (detail.tensor_count, detail.tensor_bits) == (3, 8 * (16 + 32) / (64 + 8))
    assert [file.name for file in detail.files] == ["config.json", "model.safetensors"]
    assert not detail.actions["delete"].allowed and "may not" in detail.actions["delete"].why
    theirs = await model_detail.detail(control, manifest.digest, ALICE)
    assert all(action.allowed for action in theirs.actions.values())
    assert not (await model_detail.detail(control, manifest.digest, BOB)).actions["pin"].allowed


async def test_a_model_that_has_changed_or_gone_is_not_shown_as_it_was(control: Control) -> None:
    place = control.settings.runs / "m"
    manifest = await catalogued(control, place)
    shutil.rmtree(place)
    with pytest.raises(MissingKey):
        await model_detail.detail(control, manifest.digest, ADMIN)
    artifact(place, mark=5)
    with pytest.raises(ArtifactError, match="another model"):
        await model_detail.detail(control, manifest.digest, ADMIN)


async def test_tensors_have_their_shape_codec_bits_and_error(control: Control) -> None:
    sizes = {"per_tensor": [{"tensor": "model.layers.0.mlp.up_proj", "error": 0.25}, "damaged"]}
    manifest = await catalogued(control, control.settings.runs / "m", tensors=5, extra={"sizes": sizes})
    place = str(control.settings.runs / "m")
    [coded, *rest] = (
        await tensors.page(control, manifest.digest, place, limit=9, cursor="", text="")
    ).tensors
    assert coded.model_dump() == {
        "name": "model.layers.0.mlp.up_proj.code", "shape": [8, 8], "stored_shape": [16], "dtype": "U8",
        "codec": "scalar", "bytes": 16, "bits": 2.0, "error": 0.25,
    }  # fmt: skip
    assert (rest[0].bits, rest[0].error, rest[0].codec) == (32.0, None, "")
    seen, cursor = [], ""
    while True:
        page = await tensors.page(control, manifest.digest, place, limit=2, cursor=cursor, text="NORM")
        seen += [tensor.name for tensor in page.tensors]
        if page.next is None:
            break
        cursor = page.next
    assert seen == [f"model.layers.{number}.norm.weight" for number in range(4)]
    assert page.count == 4


async def test_many_tensors_come_in_the_same_pages(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = await catalogued(control, control.settings.runs / "m", tensors=9)
    place = str(control.settings.runs / "m")
    whole = await tensors.page(control, manifest.digest, place, limit=4, cursor="", text="norm")
    await control.cache.forget(manifest.digest)
    monkeypatch.setattr(tensors, "WHOLE", 2)
    assert await tensors.page(control, manifest.digest, place, limit=4, cursor="", text="norm") == whole


async def test_lineage_goes_both_ways_and_names_what_is_not_known(control: Control) -> None:
    runs = control.settings.runs
    base = "b" * 64
    parent = await catalogued(control, runs / "p", mark=1, parents=[base])
    child = await catalogued(control, runs / "c", mark=2, parents=[parent.digest])
    grandchild = await catalogued(control, runs / "g", mark=3, parents=[child.digest, parent.digest])
    other = await catalogued(control, runs / "o", mark=4, parents=[base])
    shown = await lineage(control.database, child.digest, 32)
    assert {node.digest: (node.distance, node.known) for node in shown.nodes} == {
        child.digest: (0, True), parent.digest: (-1, True), base: (-2, False), grandchild.digest: (1, True),
    }  # fmt: skip
    assert {(edge.parent, edge.child) for edge in shown.edges} == {
        (base, parent.digest), (parent.digest, child.digest), (child.digest, grandchild.digest),
    }  # fmt: skip
    assert other.digest not in {node.digest for node in shown.nodes}


async def test_a_model_to_which_something_refers_is_not_removed(control: Control) -> None:
    runs = control.settings.runs
    await make_run(control.database, "reader", state="succeeded")
    parent = await catalogued(control, runs / "p", "maker", "bitnet", mark=1, owner="alice")
    child = await catalogued(control, runs / "c", mark=2, parents=[parent.digest], owner="alice")
    async with control.database.write() as connection:
        await models.read_by(connection, "reader", "training", [child.digest])
    await catalogue.pin(control.database, child.digest, True, ALICE)
    for digest, why in (
        (parent.digest, "was made from it"),
        (child.digest, "pinned; the run reader reads it"),
    ):
        with pytest.raises(Refused) as refused:
            await removal.remove(control, digest, ALICE)
        assert refused.value.status == 409
        assert why in refused.value.why
    assert (runs / "p" / "forge.json").exists()


async def test_a_run_goes_with_all_its_models_but_not_from_under_others(control: Control) -> None:
    runs = control.settings.runs
    for name in ("maker", "heir"):
        await make_run(control.database, name, state="succeeded")
    parent = await catalogued(control, runs / "p", "maker", "bitnet", mark=1)
    child = await catalogued(control, runs / "c", "maker", "training", mark=2, parents=[parent.digest])
    async with control.database.read() as connection:
        assert await references_to_run(connection, "maker") == []
    await catalogued(control, runs / "h", "heir", "training", mark=3, parents=[child.digest])
    async with control.database.read() as connection:
        assert len(await references_to_run(connection, "maker")) == 1
    async with control.database.write() as connection:  # which had a copy of its own, out of the cache
        for copied in (parent, child):
            await models.register(connection, copied, str(runs / "copy"), "heir", "adas")
    async with control.database.read() as connection:
        assert await references_to_run(connection, "maker") == []


async def test_a_model_that_a_run_under_way_was_given_is_not_removed(control: Control) -> None:
    place = control.settings.runs / "m"
    manifest = await catalogued(control, place)
    async with control.database.write() as connection:
        await connection.execute(
            insert(run).values(id="busy", state="queued", created=1.0, request={"artifacts": [str(place)]})
        )
    with pytest.raises(Refused, match="busy was started with it"):
        await removal.remove(control, manifest.digest, ADMIN)
    async with control.database.write() as connection:
        await connection.execute(update(run).values(state="succeeded"))
    removed = await removal.remove(control, manifest.digest, ADMIN)
    assert (removed.kept, place.exists(), await found(control)) == ([], False, [])
    with pytest.raises(Refused, match="no such model"):
        await model_detail.detail(control, manifest.digest, ADMIN)


async def test_anothers_model_is_as_if_it_were_not_there(control: Control) -> None:
    manifest = await catalogued(control, control.settings.runs / "m", owner="alice")
    database = control.database
    for change in (
        catalogue.tag(database, manifest.digest, "x", BOB),
        catalogue.pin(database, manifest.digest, True, BOB),
        removal.remove(control, manifest.digest, BOB),
    ):
        with pytest.raises(Refused) as refused:
            await change
        assert refused.value.status == 404


async def test_files_outside_of_our_places_stay_when_a_model_is_removed(
    control: Control, tmp_path: Path
) -> None:
    manifest = await catalogued(control, tmp_path / "elsewhere")
    removed = await removal.remove(control, manifest.digest, ADMIN)
    assert removed.kept and (tmp_path / "elsewhere" / "forge.json").exists()


async def test_an_import_takes_what_lies_below_a_place_of_ours(control: Control, tmp_path: Path) -> None:
    runs = control.settings.runs
    one = artifact(runs / "demo" / "artifacts" / "bitnet" / "model", mark=1)
    artifact(runs / "demo" / "artifacts" / "training" / "model", mark=2)
    damaged = runs / "demo" / "artifacts" / "adas" / "model"
    artifact(damaged, mark=3)
    (damaged / "forge.json").write_text("{}")
    taken = await importing.import_models(control, str(runs), ALICE)
    assert len(taken.models) == 2 and len(taken.damaged) == 1 and not taken.cut
    [model] = [model for model in taken.models if model.digest == one.digest]
    assert (model.run, model.task, model.owner) == ("demo", "bitnet", "alice")
    artifact(tmp_path / "outside")
    (runs / "link").symlink_to(tmp_path / "outside")
    for place in (
        tmp_path / "outside",
        runs / ".." / "outside",
        runs / "link",
        "file:///etc",
        "s3://bucket/x",
        "http://x",
    ):
        with pytest.raises(Refused):
            await importing.import_models(control, str(place), ALICE)


async def test_a_model_has_only_so_many_tags(control: Control) -> None:
    manifest = await catalogued(control, control.settings.runs / "m")
    for number in range(catalogue.MOST_TAGS):
        await catalogue.tag(control.database, manifest.digest, f"t{number}", ADMIN)
    await catalogue.tag(control.database, manifest.digest, "t0", ADMIN)
    with pytest.raises(Refused, match="at most"):
        await catalogue.tag(control.database, manifest.digest, "one-more", ADMIN)
    await catalogue.untag(control.database, manifest.digest, "t0", ADMIN)
    assert len((await catalogue.find(control.database, manifest.digest)).tags) == catalogue.MOST_TAGS - 1


async def test_what_a_task_reads_is_known_while_it_runs(control: Control) -> None:
    manifest = await catalogued(control, control.settings.runs / "m", "maker", "bitnet")
    await make_run(control.database, "demo", state="starting")
    given = {"input_model": [manifest.digest]}
    reading = task("training", "training", "running", attempts=1, input_digests=given)
    cached = task("baking", "baking", "cached", input_digests={"input_model": ["c" * 64]})
    events = [
        told(1, RunStatus("demo", "running")),
        told(2, reading, "training", 1),
        told(3, cached, "baking"),
    ]
    await record(control, "demo", events)
    uses = (await lineage(control.database, manifest.digest, 1)).uses
    assert [(use.run, use.task, use.role, use.state) for use in uses if use.role == "read"] == [
        ("demo", "training", "read", "running")
    ]
    with pytest.raises(Refused, match="the run demo reads it"):
        await removal.remove(control, manifest.digest, ADMIN)


async def test_many_who_register_the_same_at_once_make_one_row(control: Control) -> None:
    manifest = artifact(control.settings.runs / "m")

    async def one(name: str) -> None:
        async with control.database.write() as connection:
            await models.register(connection, manifest, f"/{name}", name, "bitnet", owner="")

    await asyncio.gather(*(one(f"r{number}") for number in range(8)))
    assert await found(control) == [manifest.digest]
