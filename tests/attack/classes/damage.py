"""Damaged artifacts, checkpoints, caches, manifests and run folders: never a wrong byte accepted, never a traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from components.shared.runtime.artifact import artifact, manifest
from components.shared.runtime.errors import ForgeError
from components.shared.runtime.executor import main
from pipelines.local.cache_key import content_digest
from pipelines.report import page
from pipelines.runs import folder as run_folders
from pipelines.runs import prune
from pipelines.runs.log import EventReader
from pipelines.runs.state import read_state
from tests import mutations
from tests.attack.attempt import Bench, Loss, refusal
from tests.attack.classes import kill, runner
from tests.attack.classes.processes import CONFIGS, Toy, resumed

COUNT = 320
LIMIT = 20.0
prepare = kill.prepare


def attempt(bench: Bench) -> str:
    kinds = (
        whole_artifact,
        whole_artifact,
        text_of_a_manifest,
        checkpoints,
        checkpoints,
        cached,
        folder_of_a_run,
        resumption,
    )
    return bench.rng.choice(kinds)(bench)


def whole_artifact(bench: Bench) -> str:
    """An artifact with one to three damages is refused, or is what it was."""
    place = bench.copy("out")
    done = [mutations.folder(place, bench.rng) for _ in range(bench.rng.choice((1, 1, 1, 3)))]
    try:
        read = artifact.read(place)
    except ForgeError as error:
        main_says = main(
            Toy,
            ["--input", str(place), "--output", str(bench.inside / "next"), "toy.steps=2"],
            configs=CONFIGS,
        )
        if not main_says:
            raise Loss(f"a phase takes as input what is damaged: {done}") from error
        return f"{done}: {error}"
    expected = (bench.shared / "digest").read_text()
    same = all(
        (place / name).read_bytes() == (bench.shared / "out" / name).read_bytes()
        for name in read.manifest.files
    )
    if read.digest != expected or not same:
        raise Loss(f"{done} was accepted")
    return f"{done} changes nothing"


def text_of_a_manifest(bench: Bench) -> str:
    """Other bytes in forge.json are refused, whatever they are."""
    data = (bench.shared / "out" / artifact.MANIFEST).read_bytes()
    if bench.rng.random() < 0.5:
        changed = mutations.damaged(data, bench.rng)
    else:
        content = mutations.tree(json.loads(data), bench.rng)
        changed = json.dumps(content, indent=bench.rng.choice((None, 1))).encode()
    if changed == data:
        return "the same bytes"
    manifest.decode(changed, "forge.json")
    raise Loss("a damaged manifest was accepted")


def checkpoints(bench: Bench) -> str:
    """A phase goes on from the checkpoint before the damaged one, or from its beginning, to the same result."""
    place = bench.copy("stopped")
    found = next(path for path in (place / "out.checkpoints").iterdir() if path.suffix != ".work")
    newest = max(path for path in found.iterdir() if path.is_dir())
    below = bench.rng.choice((newest, newest, found))
    if below == newest and bench.rng.random() < 0.5:
        state = newest / "state.json"
        content = mutations.tree(json.loads(state.read_text()), bench.rng)
        state.write_bytes(json.dumps(content).encode(errors="surrogatepass"))
        done = "mutated state.json"
    else:
        done = mutations.folder(below, bench.rng)
    resumed(bench, place / "out", (bench.shared / "digest").read_text(), *kill.STOPPED)
    return done


def cached(bench: Bench) -> str:
    """What an earlier run has left in the cache is damaged: a new run makes it again, or finds it whole."""
    runs = mutations.unlinked(bench.shared / "runs", bench.inside / "runs")
    places = [*runs.glob("first/artifacts/*/out"), runs / "cache", runs / "cache"]
    place = bench.rng.choice(places)
    if place.is_dir():
        done = mutations.folder(place, bench.rng)
    else:
        mutations.replace(place, mutations.damaged(place.read_bytes(), bench.rng))
        done = f"bytes of {place.relative_to(runs)}"
    if code := runner.run(bench.shared / runner.PIPELINE, runs, name="run"):
        raise Loss(f"exit code {code} in place of work that is done again: {done}")
    runner.complete(bench, runs)
    return done


def folder_of_a_run(bench: Bench) -> str:
    """What looks at a damaged run says what is wrong with it, and removes nothing that is another's."""
    runs = mutations.unlinked(bench.shared / "runs", bench.inside / "runs")
    shutil.copytree(runs / "first", runs / "other")
    done = [mutations.folder(runs / "first", bench.rng) for _ in range(bench.rng.choice((1, 2)))]
    looks = {
        "state": lambda: read_state(run_folders.find(runs, "first")),
        "tasks": lambda: list(run_folders.find(runs, "first").tasks()),
        "latest": lambda: run_folders.find(runs),
        "events": lambda: EventReader(runs / "first" / "events.jsonl").read(),
        "report": lambda: page.write(run_folders.find(runs, "first").path),
        "prune": lambda: prune.plan(runs, keep=1),
    }
    said = []
    for name, look in looks.items():
        try:
            look()
        except Exception as error:
            if (ours := refusal(error)) is None:
                raise
            said.append(f"{name}: {ours.what}")
    if not run_folders.RunFolder(runs / "other").exists():
        raise Loss("another run has gone")
    return f"{done}: {said}"


def resumption(bench: Bench) -> str:
    """A finished run is damaged and gone on with: its results are what they were, or it is refused."""
    runs = mutations.unlinked(bench.shared / "runs", bench.inside / "runs")
    done = mutations.folder(runs / "first", bench.rng)
    code = runner.run(Path(), runs, resume="first")
    if code == 0 and (found := _results(runs)) != runner.expected(bench):
        raise Loss(f"{done}: resumed, and says that it succeeded with {found}")
    return f"{done}: exit code {code}"


def _results(runs: Path) -> dict[str, str]:
    return {
        path.parent.name: content_digest(path, verify=True)
        for path in sorted((runs / "first").glob("artifacts/*/out"))
    }
