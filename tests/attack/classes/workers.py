"""The processes that help are killed: the fork server, the phases that it forks, and the encoders of compression.

An attempt takes half a minute: these are the real ones, with phases of ours. Whoever they help has to notice, end with an
error and no later than it would have, and be able to go on to the same result.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from components.compression.phase import Compression
from components.shared.runtime.errors import Interrupted, PhaseFailed
from components.shared.runtime.executor import main
from pipelines.local.plan import RunRequest
from tests.attack.attempt import Bench, Loss
from tests.attack.classes import runner
from tests.attack.classes.processes import Process, digest_of

COUNT = 8
LIMIT = 300.0
PATIENCE = 200.0
"""Seconds in which a real phase ends, on a machine that does four other things."""
ENDINGS = (0, PhaseFailed.exit_code, Interrupted.exit_code)


def prepare(bench: Bench) -> str:
    """The first phase as a run, and the last one by hand, undisturbed."""
    if code := cognates(bench.inside / "runs", "first"):
        raise Loss(f"exit code {code} undisturbed")
    model = sorted((bench.inside / "runs").glob("first/artifacts/cognate*/model"))[0]
    (bench.inside / "model").symlink_to(model)
    compressed(bench, model, bench.inside / "compressed").checked(0, patience=PATIENCE)
    return "ready"


def attempt(bench: Bench) -> str:
    number = bench.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
    return bench.rng.choice((of_a_run, of_a_run, of_compression))(bench, number)


def cognates(runs: Path, name: str) -> int:
    """A run of the first phase, or the rest of it."""
    if (runs / name / "run.json").is_file():
        return runner.run(Path(), runs, resume=name, last="cognate", cache=False)
    request = RunRequest(
        runs=runs, name=name, profile="micro", last="cognate", slots=2, grace=5.0, cache=False
    )
    return runner.carried_out(request)


def compressed(bench: Bench, model: Path, output: Path) -> Process:
    """The last phase, with two encoders."""
    words = ["--input", str(model), "--output", str(output), "--profile", "micro", "compression.threads=2"]
    return Process(lambda: main(Compression, words), bench.inside / "compression.txt")


def of_a_run(bench: Bench, number: signal.Signals) -> str:
    """The fork server, or a phase that it has forked."""
    runs = bench.inside / "runs"
    process = Process(lambda: cognates(runs, "first"), bench.inside / "run.txt")
    said = _one_is_hit(process, number, bench.rng, _forked)
    code = process.checked(*ENDINGS, patience=PATIENCE)
    for _ in range(3):
        again = Process(lambda: cognates(runs, "first"), bench.inside / "again.txt")
        if again.checked(*ENDINGS, patience=PATIENCE) == 0:
            break
    else:
        raise Loss("the run cannot be gone on with")
    if (found := runner.outputs(runs, "first")) != runner.outputs(bench.shared / "runs", "first"):
        raise Loss(f"other results: {found}")
    return f"{said}: exit code {code}"


def of_compression(bench: Bench, number: signal.Signals) -> str:
    """An encoder."""
    model, output = (bench.shared / "model").resolve(), bench.inside / "compressed"
    process = compressed(bench, model, output)
    said = _one_is_hit(process, number, bench.rng, _encoders)
    code = process.checked(*ENDINGS, patience=PATIENCE)
    compressed(bench, model, output).checked(0, patience=PATIENCE)
    if digest_of(output) != digest_of(bench.shared / "compressed"):
        raise Loss("another artifact after an encoder was killed")
    return f"{said}: exit code {code}"


def _forked(parent: psutil.Process) -> list[psutil.Process]:
    return parent.children(recursive=True)


def _encoders(parent: psutil.Process) -> list[psutil.Process]:
    return [child for child in parent.children() if "worker" in " ".join(child.cmdline())]


def _one_is_hit(
    process: Process,
    number: signal.Signals,
    rng: random.Random,
    helpers: Callable[[psutil.Process], list[psutil.Process]],
) -> str:
    """Send a signal to one of the helpers at a random moment; which one."""
    delay, parent = rng.uniform(0, 12), psutil.Process(process.pid)
    time.sleep(delay)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if parent.status() == psutil.STATUS_ZOMBIE:
                return "it was through before"
            if found := sorted(helpers(parent), key=lambda child: child.pid):
                chosen = rng.choice(found)
                name = " ".join(chosen.cmdline()[1:4])
                chosen.send_signal(number)
                return f"{number.name} to {name} after {delay:.1f} s"
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.01)
    raise Loss("no helper was seen")
