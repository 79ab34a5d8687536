"""The local runner does with a compiled pipeline what the backend does: order, loops, nesting, values, failures."""

import json

import pytest
from kfp import dsl
from kfp.dsl import Artifact, Collected, Input, Output, ParallelFor

from components.shared.runtime.errors import ConfigError
from tests.pipeline.local.toy_pipelines import append, fail, join, run_code, toy, write


def test_a_fan_out_is_collected_in_the_order_of_the_items_and_not_of_their_ends(bench, tmp_path):
    @dsl.pipeline
    def fan(codes: list[str]):
        with ParallelFor(codes) as code:
            part = run_code(code=code)
        join(parts=Collected(part.output))

    def after(name: str) -> str:
        """Code that waits until a part has said so in a file: each of them needs the others beside it."""
        return f"[time.sleep(.01) for _ in iter(__import__('pathlib').Path({str(tmp_path / name)!r}).exists, True)]"

    def done(name: str) -> str:
        return f"say({name!r}); __import__('pathlib').Path({str(tmp_path / name)!r}).touch()"

    codes = [f"{after('middle')}; {done('slow')}", f"{after('quick')}; {done('middle')}", done("quick")]
    assert bench.run(fan, parameters={"codes": codes}) == "succeeded"
    assert bench.text("join") == "slow+middle+quick"
    found = bench.statuses()
    assert found["join"].depends_on == ["for-loop-1", *(f"for-loop-1/{i}/run-code" for i in range(3))]
    assert [found[f"for-loop-1/{i}/run-code"].iteration for i in range(3)] == [0, 1, 2]


def test_an_empty_loop_collects_an_empty_list(bench):
    @dsl.pipeline
    def nothing(texts: list[str] = []):  # noqa: B006
        with ParallelFor(texts) as text:
            part = write(text=text)
        join(parts=Collected(part.output))

    assert bench.run(nothing) == "succeeded"
    assert bench.text("join") == ""


def test_a_loop_over_written_out_items_runs_no_more_at_once_than_it_may(bench, tmp_path):
    code = f"""
p = pathlib.Path({str(tmp_path)!r})
me = p / ('busy' + str(os.getpid())); me.touch()
seen = len(list(p.glob('busy*'))); time.sleep(.1); me.unlink(); say(str(seen))
"""

    @dsl.container_component
    def write_busy(item: str, out: Output[Artifact]):
        return toy(code)

    @dsl.pipeline
    def limited():
        with ParallelFor(["a", "b", "c", "d"], parallelism=2) as item:
            part = write_busy(item=item)
        join(parts=Collected(part.output))

    assert bench.run(limited, slots=8) == "succeeded"
    assert set(bench.text("join").split("+")) <= {"1", "2"}


def test_a_loop_over_the_output_of_a_task_takes_the_tasks_items(bench):
    @dsl.container_component
    def choose(items: dsl.OutputPath(list)):
        code = (
            "pathlib.Path(given['outputs']['parameters']['items']['outputFile']).write_text('[\"x\", \"y\"]')"
        )
        return toy(code)

    @dsl.pipeline
    def chosen():
        with ParallelFor(choose().output) as item:
            part = write(text=item)
        join(parts=Collected(part.output))

    assert bench.run(chosen) == "succeeded"
    assert bench.text("join") == "x+y"


def test_nested_pipelines_hand_values_down_and_artifacts_up(bench):
    @dsl.pipeline
    def inner(text: str, before: Input[Artifact], mark: str = "!") -> Artifact:
        first = append(before=before, text=text)
        return append(before=first.output, text=mark).output

    @dsl.pipeline
    def outer(text: str = "b"):
        start = write(text="a")
        with ParallelFor(["1", "2"]) as item:
            middle = inner(text=item, before=start.output)
        join(parts=Collected(middle.output))
        append(before=inner(text=text, before=start.output, mark="?").output, text="end")

    assert bench.run(outer) == "succeeded"
    assert bench.text("join") == "a1!+a2!"
    assert bench.text("append") == "ab?end"


def test_values_are_typed_as_the_backend_types_them(bench):
    @dsl.container_component
    def show(
        number: int,
        share: float,
        flag: bool,
        words: list,
        table: dict,
        text: str,
        out: Output[Artifact],
        kept: str = "default",
    ):
        return toy("say(json.dumps(values, sort_keys=True))")

    @dsl.pipeline
    def typed(number: int = 3, words: list = [1, 2]):  # noqa: B006
        show(number=number, share=2.0, flag=True, words=words, table={"a": 1.5}, text="7")

    assert bench.run(typed) == "succeeded"
    text = '{"flag": true, "kept": "default", "number": 3, "share": 2, "table": {"a": 1.5}, "text": "7", "words": [1, 2]}'
    assert bench.text("show") == text
    with pytest.raises(ConfigError, match="NUMBER_INTEGER"):
        bench.runner(typed, parameters={"number": "three"})


def test_a_loops_items_that_are_texts_do_not_fit_a_number_as_on_the_backend(bench):
    @dsl.container_component
    def count(number: int, out: Output[Artifact]):
        return toy("say(str(values['number']))")

    @dsl.pipeline
    def untyped(numbers: list = [1, 2]):  # noqa: B006 - without its element's type the SDK calls the item a text
        with ParallelFor(numbers) as number:
            count(number=number)

    assert bench.run(untyped) == "failed"
    assert "NUMBER_INTEGER" in bench.statuses()["for-loop-1/0/count"].error


def test_placeholders_in_arguments_become_values_and_paths(bench):
    @dsl.container_component
    def show(before: Input[Artifact], text: str, out: Output[Artifact], extra: str = None, other: str = None):  # noqa: RUF013
        code = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('|'.join(sys.argv[2:]))"
        first = dsl.IfPresentPlaceholder("extra", then=["--extra", extra], else_=["none"])
        second = dsl.IfPresentPlaceholder("other", then=["--other", other], else_=["none"])
        arguments = ["-c", code, out.path, text, before.path, first, second]
        return dsl.ContainerSpec(image="toy", command=["python"], args=arguments)

    @dsl.pipeline
    def arguments():
        show(before=write(text="x").output, text="hello", extra="more")

    assert bench.run(arguments) == "succeeded"
    path = bench.runs / "run" / "artifacts" / "write" / "out"
    assert bench.text("show") == f"hello|{path}|--extra|more|none"


def test_the_metadata_that_a_task_writes_reaches_the_tasks_that_take_its_artifact(bench):
    @dsl.container_component
    def tell(out: Output[Artifact]):
        code = "say('x'); pathlib.Path(given['outputs']['outputFile']).write_text("
        return toy(
            code + "json.dumps({'artifacts': {'out': {'artifacts': [{'metadata': {'digest': 'abc'}}]}}}))"
        )

    @dsl.container_component
    def hear(before: Input[Artifact], out: Output[Artifact]):
        return toy("say(given['inputs']['artifacts']['before']['artifacts'][0]['metadata']['digest'])")

    @dsl.pipeline
    def told():
        hear(before=tell().output)

    assert bench.run(told) == "succeeded"
    assert bench.text("hear") == "abc"


def test_a_failure_cancels_what_depends_on_it_and_lets_the_rest_end(bench):
    @dsl.pipeline
    def inner(before: Input[Artifact]) -> Artifact:
        return append(before=before, text="x").output

    @dsl.pipeline
    def broken():
        bad = fail(text="")
        after = append(before=bad.output, text="y")
        append(before=after.output, text="z")
        inner(before=bad.output)
        slow = run_code(code="time.sleep(.5); say('whole')")
        append(before=slow.output, text="!")

    assert bench.run(broken) == "failed"
    found = bench.statuses()
    assert found["fail"].status == "failed"
    assert found["fail"].error == "exit code 3: it broke"
    cancelled = {name: one.error for name, one in found.items() if one.status == "cancelled"}
    assert cancelled == dict.fromkeys(["append", "append-2", "inner/append"], "fail failed")
    assert found["append-3"].status == "succeeded"
    assert bench.text("append-3") == "whole!"


def test_a_task_that_ends_well_without_its_output_has_failed(bench):
    @dsl.pipeline
    def lazy():
        run_code(code="print('done')")

    assert bench.run(lazy) == "failed"
    assert "without its output" in bench.statuses()["run-code"].error


def test_the_folder_of_a_task_holds_its_input_and_its_log(bench):
    @dsl.pipeline
    def one():
        run_code(code="print('a line'); say(os.environ['FORGE_TASK'] + os.environ['FORGE_PIPELINE_RUN'])")

    bench.run(one)
    folder = bench.runs / "run" / "tasks" / "run-code"
    assert (folder / "log.txt").read_text() == "a line\n"
    assert json.loads((folder / "executor_input.json").read_text())["outputs"]["outputFile"] == str(
        folder / "output_metadata.json"
    )
    assert bench.text("run-code") == "run-coderun"
    status = bench.statuses()["run-code"]
    assert (
        status.exit_code == 0 and status.attempts == 1 and status.outputs == {"out": "artifacts/run-code/out"}
    )
    assert status.seconds > 0 and status.cpu_seconds > 0 and status.peak_memory_bytes > 2**20
