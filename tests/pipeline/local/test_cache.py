"""Results that need not be computed again: in a run that goes on, in another run, and from a store."""

import json
import shutil

import pytest
from kfp import dsl
from kfp.dsl import Artifact, Collected, Input, Output, ParallelFor

from components.shared.runtime import code
from components.shared.runtime.errors import InputError
from components.shared.runtime.store.uri import open_store
from pipelines.ir import reader
from pipelines.ir.values import Values
from pipelines.local import cache_key
from pipelines.phases import COMPILED
from pipelines.settings import as_parameters, composed, parameter_of
from tests.pipeline.local.toy_pipelines import append, join, toy, write


@dsl.pipeline
def chain(text: str = "a", mark: str = "!"):
    first = write(text=text)
    append(before=first.output, text=mark)


def states(bench, name):
    return {task: one.status for task, one in bench.statuses(name).items()}


def test_the_same_task_on_the_same_inputs_is_taken_from_the_run_before(bench):
    bench.run(chain, "one")
    bench.run(chain, "two")
    assert states(bench, "two") == {"write": "cached", "append": "cached"}
    assert bench.text("append", "two") == "a!"
    shutil.rmtree(bench.runs / "one")
    assert bench.text("append", "two") == "a!"  # a run needs no other run


def test_another_parameter_makes_the_task_and_what_takes_another_result_run_again(bench):
    bench.run(chain, "one")
    bench.run(chain, "two", parameters={"mark": "?"})
    assert states(bench, "two") == {"write": "cached", "append": "succeeded"}
    bench.run(chain, "three", parameters={"text": "b"})
    assert states(bench, "three") == {"write": "succeeded", "append": "succeeded"}


def test_an_input_that_comes_out_the_same_does_not_make_the_next_task_run_again(bench):
    @dsl.container_component
    def first_letter(text: str, out: Output[Artifact]):
        return toy("say(values['text'][0])")

    @dsl.pipeline
    def letters(text: str):
        append(before=first_letter(text=text).output, text="!")

    bench.run(letters, "one", parameters={"text": "abc"})
    bench.run(letters, "two", parameters={"text": "axy"})
    assert states(bench, "two") == {"first-letter": "succeeded", "append": "cached"}


def test_other_code_makes_the_task_run_again(bench):
    def pipeline(code):
        @dsl.container_component
        def change(out: Output[Artifact]):
            return toy(code)

        @dsl.pipeline(name="changing")
        def changing():
            append(before=change().output, text="!")

        return changing

    bench.run(pipeline("say('1')"), "one")
    bench.run(pipeline("say('2')"), "two")
    assert states(bench, "two") == {"change": "succeeded", "append": "succeeded"}


def test_a_cached_result_that_was_changed_on_disk_is_not_used_and_that_is_said(bench):
    bench.run(chain, "one")
    path = bench.runs / "one" / "artifacts" / "write" / "out"
    path.unlink()
    path.write_text("tampered")
    bench.run(chain, "two")
    assert states(bench, "two") == {"write": "succeeded", "append": "cached"}
    assert any("write: its cached result" in line and "gone or changed" in line for line in bench.said("two"))


def test_caching_can_be_switched_off_for_a_run_and_for_a_task(bench):
    @dsl.pipeline
    def uncached():
        write(text="a").set_caching_options(False)

    bench.run(chain, "one")
    bench.run(chain, "two", cache=False)
    assert set(states(bench, "two").values()) == {"succeeded"}
    bench.run(uncached, "three")
    assert states(bench, "three") == {"write": "succeeded"}


def test_output_parameters_and_metadata_come_from_the_cache_too(bench):
    @dsl.container_component
    def count(out: Output[Artifact], number: dsl.OutputPath(int)):
        return toy(
            "say('x'); pathlib.Path(given['outputs']['parameters']['number']['outputFile']).write_text('7')\n"
            "pathlib.Path(given['outputs']['outputFile']).write_text("
            "json.dumps({'artifacts': {'out': {'artifacts': [{'metadata': {'score': 2}}]}}}))"
        )

    @dsl.container_component
    def show(number: int, before: Input[Artifact], extra: str, out: Output[Artifact]):
        return toy(
            "say(json.dumps([values['number'], given['inputs']['artifacts']['before']['artifacts'][0]['metadata']]))"
        )

    @dsl.pipeline
    def counted(extra: str):
        made = count()
        show(number=made.outputs["number"], before=made.outputs["out"], extra=extra)

    bench.run(counted, "one", parameters={"extra": "a"})
    bench.run(counted, "two", parameters={"extra": "b"})
    assert states(bench, "two") == {"count": "cached", "show": "succeeded"}
    assert json.loads(bench.text("show", "two")) == [7, {"score": 2}]


def test_a_folder_named_by_a_parameter_counts_with_its_content(bench, tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "file").write_text("1")
    bench.run(chain, "one", parameters={"text": str(folder)})
    bench.run(chain, "two", parameters={"text": str(folder)})
    assert states(bench, "two")["write"] == "cached"
    (folder / "file").write_text("2")
    bench.run(chain, "three", parameters={"text": str(folder)})
    assert states(bench, "three")["write"] == "succeeded"


def imported(uri_default=None):
    @dsl.pipeline(name="imported")
    def pipeline(uri: str):
        artifact = dsl.importer(artifact_uri=uri, artifact_class=Artifact)

        @dsl.container_component
        def listing(before: Input[Artifact], out: Output[Artifact]):
            return toy("say(' '.join(sorted(p.name for p in inputs['before'][0].iterdir())))")

        listing(before=artifact.output)

    return pipeline


def test_an_importer_takes_a_folder_where_it_is(bench, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("w")
    assert bench.run(imported(), parameters={"uri": str(tmp_path / "model")}) == "succeeded"
    assert bench.text("listing") == "weights"
    assert bench.statuses()["importer"].outputs == {"artifact": str(tmp_path / "model")}


def test_an_importer_of_nothing_fails_with_the_address(bench, tmp_path):
    assert bench.run(imported(), parameters={"uri": str(tmp_path / "none")}) == "failed"
    assert str(tmp_path / "none") in bench.statuses()["importer"].error


@dsl.container_component
def quietstar(before: Input[Artifact], out: Output[Artifact]):
    return toy("say(inputs['before'][0].read_text() + 'q')")


@dsl.container_component
def bitnet(before: Input[Artifact], out: Output[Artifact]):
    return toy("say(inputs['before'][0].read_text() + 'b')")


@dsl.container_component
def training(before: Input[Artifact], out: Output[Artifact]):
    return toy("say(inputs['before'][0].read_text() + 't')")


@dsl.pipeline
def phases():
    training(before=bitnet(before=quietstar(before=write(text="-").output).output).output)


def test_a_run_ends_after_the_phase_asked_for_and_goes_on_later(bench):
    assert bench.run(phases, last="bitnet") == "succeeded"
    assert states(bench, "run") == {
        "write": "succeeded",
        "quietstar": "succeeded",
        "bitnet": "succeeded",
        "training": "pending",
    }
    assert bench.run(phases, resume=True) == "succeeded"
    assert bench.text("training") == "-qbt"


def test_a_run_goes_on_from_the_phase_asked_for_with_the_artifacts_that_it_has(bench):
    bench.run(phases)
    first = {task: one.finished for task, one in bench.statuses().items()}
    assert bench.run(phases, resume=True, first="bitnet", cache=False) == "succeeded"
    again = {task for task, one in bench.statuses().items() if one.finished != first[task]}
    assert again == {"bitnet", "training"}


def test_a_run_cannot_start_at_a_phase_whose_input_it_does_not_have(bench):
    assert bench.run(phases, first="bitnet") == "failed"
    assert "quietstar is not done in this run" in bench.statuses()["quietstar"].error


def test_outputs_lie_in_the_store_under_the_same_names(bench, s3_uri):
    @dsl.pipeline
    def fan():
        with ParallelFor(["x", "y"], name="texts") as text:
            part = write(text=text)
        join(parts=Collected(part.output))

    assert bench.run(fan, store=f"{s3_uri}/forge") == "succeeded"
    store = open_store(f"{s3_uri}/forge")
    keys = [entry.key for entry in store.list("run/")]
    assert keys == [f"run/artifacts/{task}/out" for task in ("join", "texts/0/write", "texts/1/write")]
    assert store.get("run/artifacts/join/out") == b"x+y"


def test_another_machine_goes_on_from_what_is_in_the_store(bench, s3_uri):
    bench.run(chain, "one", store=s3_uri)
    shutil.rmtree(bench.runs / "one")
    assert bench.run(chain, "two", store=s3_uri, parameters={"mark": "?"}) == "succeeded"
    assert states(bench, "two") == {"write": "cached", "append": "succeeded"}
    assert bench.text("append", "two") == "a?"


def test_an_importer_fetches_from_s3(bench, s3_uri):
    store = open_store(s3_uri)
    store.put("model/weights", b"w")
    store.put("model/config", b"c")
    assert bench.run(imported(), parameters={"uri": f"{s3_uri}/model"}) == "succeeded"
    assert bench.text("listing") == "config weights"


def test_a_store_that_is_away_fails_the_task_and_says_so(bench, s3_uri, monkeypatch):
    runner = []

    async def whole():
        runner.append(bench.runner(chain, store=s3_uri))
        monkeypatch.setattr(runner[0].tasks.cache.store, "put", refuse)
        return await runner[0].run()

    def refuse(key, data):
        raise InputError("the bucket is full", where=key)

    import asyncio

    assert asyncio.run(whole()) == "failed"
    assert "the bucket is full" in bench.statuses()["write"].error


def test_a_run_that_needs_an_artifact_that_was_removed_makes_it_again(bench):
    bench.run(chain)
    shutil.rmtree(bench.runs / "run" / "artifacts" / "write")
    assert bench.run(chain, resume=True, cache=False) == "succeeded"
    assert bench.text("write") == "a"


@pytest.mark.parametrize("phase", ["cognate", "compression"])
def test_every_settings_digest_follows_its_own_settings_only(phase):
    def digest(*overrides, seed=0):
        given = as_parameters(composed(overrides=overrides))
        return cache_key.settings_digest(phase, given[parameter_of(phase)], seed)

    other = "compression" if phase == "cognate" else "cognate"
    assert digest(f"{other}.threads=1") == digest() == digest(f"{phase}.checkpoint_seconds=1")
    assert digest(f"{phase}.threads=1") != digest() != digest(seed=1)


def test_the_local_key_knows_settings_and_code_of_its_own_phase(monkeypatch, tmp_path):
    """What KFP's key is made of (tests/pipeline/test_pipeline_wired.py), and in the same way."""
    pipeline = reader.load(COMPILED)
    components = {one.name: one for _, one in pipeline.containers(pipeline.root.body)}

    def keys(**given):
        defaults = {name: parameter.default for name, parameter in pipeline.root.parameters.items()} | given
        own = {"code_version": "", "checkpoint_root": "", "seed": int(defaults["seed"])}
        return {
            phase: cache_key.cache_key(
                components[f"comp-{phase}"], Values({**own, "settings": defaults[parameter_of(phase)]})
            )
            for phase in ("training", "compression")
        }

    def changed(before, after):
        return {phase for phase in before if before[phase] != after[phase]}

    before = keys()
    assert changed(
        before,
        keys(
            compression_settings=as_parameters(composed(overrides=["compression.retention=0.98"]))[
                "compression_settings"
            ]
        ),
    ) == {"compression"}
    assert changed(before, keys(seed=1)) == {"training", "compression"}
    file = tmp_path / "mine.jsonl"
    asked = as_parameters(composed(["training"], overrides=[f"training.target=[file:{file}]"]))
    file.write_text('{"prompt": "a", "answer": "b"}')
    asking = keys(training_settings=asked["training_settings"])
    file.write_text('{"prompt": "a", "answer": "other"}')
    assert changed(asking, keys(training_settings=asked["training_settings"])) == {"training"}
    shutil.copytree(cache_key.ROOT / "components", tmp_path / "components")
    original = code.code_digest.__wrapped__
    monkeypatch.setattr(code, "code_digest", lambda names: original(names, tmp_path / "components"))
    (tmp_path / "components" / "compression" / "recovery.py").write_text("# changed")
    assert changed(before, keys()) == {"compression"}
    (tmp_path / "components" / "shared" / "optim" / "schedule.py").write_text("# changed")
    assert changed(before, keys()) == {"training", "compression"}
