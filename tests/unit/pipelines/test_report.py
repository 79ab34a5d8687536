"""The report is drawn from what a run leaves behind, and says plainly what is not there."""

import hashlib
import html.parser
import json
from dataclasses import replace

import pytest

from components.shared.runtime.artifact.manifest import FORMAT, FileEntry, Manifest, digest_of, encode
from components.shared.runtime.errors import ArtifactError, InputError
from pipelines.cli.rendering import report as terminal
from pipelines.report import formatting, page, records

SUITES = ("reasoning", "memory", "generalization", "efficiency", "safety")
SCORE = {"score": 0.61, "low": 0.52, "high": 0.69, "n": 100, "chance": 0.1}

COSTS = {"tokens_per_right": 29.24, "flops_per_right": 52.46e6, "bytes_per_right": 4.3e6}


def manifest(phase, name, parents, size, **extra):
    files = {name: FileEntry(sha256=hashlib.sha256(name.encode()).hexdigest(), bytes=size)}
    return Manifest(
        format=FORMAT,
        kind="model",
        phase=phase,
        digest=digest_of(files),
        parents=[parent.digest for parent in parents],
        config={"seed": 0, phase: {"steps": 3}},
        config_digest="c" * 64,
        seed=0,
        code_version="",
        metrics={},
        scores=dict.fromkeys(SUITES, SCORE) | {"efficiency": SCORE | {"detail": COSTS}},
        gates=[],
        bytes=size,
        parameters=651_264,
        files=files,
        tensors={},
        timing={"latency_seconds": 0.0123},
        extra=extra,
    )


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "first-run"
    (folder / "tasks").mkdir(parents=True)
    info = {
        "name": "first-run",
        "status": "succeeded",
        "profile": "tiny",
        "seed": 0,
        "started": 100.0,
        "finished": 372.0,
    }
    (folder / "run.json").write_text(json.dumps(info))

    def task(name, phase, started, finished, content):
        (folder / "tasks" / name).mkdir()
        (folder / "artifacts" / name / "model").mkdir(parents=True)
        (folder / "artifacts" / name / "model" / "forge.json").write_bytes(encode(content))
        status = {
            "task": name,
            "phase": phase,
            "component": phase,
            "status": "succeeded",
            "started": started,
            "finished": finished,
            "cpu_seconds": 9.0,
            "peak_memory_bytes": 5 * 10**8,
            "outputs": {"model": f"artifacts/{name}/model"},
        }
        (folder / "tasks" / name / "status.json").write_text(json.dumps(status))

    variants = [
        manifest("cognate", f"cog{i}", [], 2_700_000, variant=variant)
        for i, variant in enumerate(("standard", "memory", "reasoning"))
    ]
    for i, made in enumerate(variants):
        task(f"cognate-{i}", "cognate", 100 + i, 140, made)
    curve = {"loss": {"x": [0, 1], "series": {"train": [1.0, 0.5]}, "xlabel": "step", "ylabel": "nats"}}
    control = {
        "claim": "thoughts <beat> pauses",
        "arm": "thoughts",
        "control": "pauses",
        "value": 0.6,
        "low": 0.5,
        "high": 0.7,
        "control_value": 0.4,
        "control_low": 0.3,
        "control_high": 0.5,
        "difference": 0.2,
        "difference_low": 0.05,
        "difference_high": 0.35,
        "unit": "accuracy",
        "holds": True,
    }
    population = [
        {"generation": 0, "best": 0.4, "mean": 0.3, "members": [{"fitness": 0.4}, {"fitness": None}]}
    ]
    merged = manifest("evomerge", "evom", variants[:2], 2_800_000, population=population)
    task(
        "evomerge",
        "evomerge",
        150,
        170,
        merged,
    )
    last = manifest(
        "compression",
        "last",
        [merged],
        240_000,
        curves=curve,
        controls=[control],
        samples=[{"prompt": "<script>1+1=", "answer": "2", "expected": "2"}],
    )
    gate = {"metric": "retention", "op": ">=", "value": 0.97, "bound": 0.9, "passed": True, "on_fail": "stop"}
    last = replace(last, gates=[gate])
    task("compression", "compression", 340, 372, last)
    return folder


class Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.sources, self.scripts = [], 0

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.sources += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith("#")]


def test_the_page_stands_alone_and_escapes_what_a_model_said(run):
    text = page.write(run).read_text()
    links = Links()
    links.feed(text)
    assert links.scripts == 0
    assert all((run / source).is_file() for source in links.sources)  # nothing beyond the run's folder
    assert "&lt;script&gt;1+1=" in text and "thoughts &lt;beat&gt; pauses" in text


def test_the_page_shows_size_lineage_gates_and_claims(run):
    text = page.write(run).read_text()
    assert "240.0 kB" in text and "9.2% of its cognate" in text  # 240,000 / (4 × 651,264)
    assert "time of its phase" in text and text.count('<td class="n">27 s</td>') == 2, "what each gain cost"
    assert "1 of 1 claims held" in text and "retention" in text
    assert "+0.200 [+0.050, +0.350]" in text, "what decides whether a claim holds"
    digests = {
        task.name: task.manifest["digest"] for phase in records.read(run).phases for task in phase.tasks
    }
    assert digests["compression"][:12] in text and f"{digests['evomerge'][:8]} <span" in text
    assert text.count("<svg") == 7  # scores, plane, overall, controls, population, one curve, time


def test_the_page_shows_what_a_right_answer_costs_model_by_model(run):
    text = page.write(run).read_text()
    table = text.partition("What a right answer costs")[2].partition("</table>")[0]
    assert table.count('<td class="n">52.5 M</td>') == 5 and table.count("12.30 ms") == 5
    assert "29.2 tokens, 52.5\u00a0MFLOP, 4.3 MB of weights read, 12.3 ms for an answer alone" in text


def test_rates_are_shown_with_intervals():
    safety = SCORE | {"n": 128, "detail": {"refused": 0.5, "obeyed": 1.0}}
    assert formatting.beside(safety) == "refused 50 (38–62), obeyed 100 (94–100)"
    arc = SCORE | {"detail": {"pass_at_1": 0.25, "pass_at_1_low": 0.2, "pass_at_1_high": 0.3}}
    assert formatting.beside(arc) == "pass@1 25 (20–30)" and formatting.beside(SCORE) == ""


def test_a_claim_leads_to_the_manifest_that_it_was_measured_for(run):
    [(phase, task, claim)] = records.read(run).claims
    [path] = [path for what, path in task.data if what == "manifest"]
    assert claim in json.loads((run / path).read_text())["extra"]["controls"] and phase.name == "compression"
    text = page.write(run).read_text()
    assert (
        f'href="{path}"' in text and text.count(task.manifest["digest"][:12] + '"') >= 2
    )  # a link and its target


def test_parallel_tasks_overlap_in_a_phases_wall_time(run):
    cognate = records.read(run).phases[0]
    assert cognate.seconds == 40 and cognate.cpu_seconds == 27.0
    assert [t.label for t in cognate.models] == ["standard", "memory", "reasoning"]


def test_a_run_that_has_only_begun_gives_a_page_too(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"status": "running", "profile": "tiny", "seed": 0}))
    assert "published no model yet" in page.write(tmp_path).read_text()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no run\.json"):
        page.write(tmp_path)


def test_the_terminal_table_has_a_row_a_phase_and_one_a_variant(run):
    assert terminal.table(run).row_count == 8 + 3


def test_a_score_is_clear_of_chance_only_with_its_whole_interval():
    assert formatting.clear_of_chance(SCORE)
    assert not formatting.clear_of_chance(SCORE | {"chance": 0.55})


def test_a_damaged_manifest_is_named_and_not_drawn(run):
    path = run / "artifacts" / "cognate-0" / "model" / "forge.json"
    path.write_text(path.read_text().replace("0.61", "0.71", 1))
    with pytest.raises(ArtifactError, match=str(path)):
        records.read(run)
