"""Mutated requests: pipelines, executor inputs, overrides, profiles, request files, names, cache entries, options."""

from __future__ import annotations

import functools
import json
import os
import random
import string
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from components.shared.runtime.code import CONFIGS
from components.shared.runtime.config.compose import compose, compose_all
from components.shared.runtime.errors import ForgeError
from components.shared.runtime.executor import main
from components.shared.runtime.store import sealed_json
from pipelines import cli, request_file
from pipelines.api import request
from pipelines.ir.documents import LOADER
from pipelines.local.plan import RunRequest
from pipelines.local.prepare import prepare as planned
from pipelines.phases import COMPILED, PHASES
from pipelines.settings import composed
from tests import mutations
from tests.attack.attempt import Bench, Loss
from tests.attack.classes import kill, runner
from tests.contract import toy_phase

COUNT = 190
LIMIT = 60.0
prepare = kill.prepare
RECORDED = Path(__file__).parents[2] / "fixtures" / "executor_inputs"
DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
NAMES = (
    "..",
    ".",
    "/abs",
    "../x",
    "cache",
    "a\nb",
    "a" * 300,
    "",
    "\0",
    "mlartifacts",
    "x/../../y",
    "-",
    "--help",
    "ä",
    "\ud800",
)


def attempt(bench: Bench) -> str:
    kinds = (
        pipeline,
        pipeline,
        executor_input,
        executor_input,
        overrides,
        overrides,
        profile,
        file,
        options,
        entry,
    )
    return bench.rng.choice(kinds)(bench)


def dumped(*documents: Any) -> str:
    """As YAML; libyaml cannot write half of a surrogate pair."""
    try:
        return yaml.dump_all(documents, Dumper=DUMPER, allow_unicode=True)
    except UnicodeEncodeError:
        return yaml.dump_all(documents, Dumper=yaml.SafeDumper)


def pipeline(bench: Bench) -> str:
    """A compiled pipeline, ours or a toy: read, and planned."""
    source = COMPILED if bench.rng.random() < 0.3 else bench.shared / runner.PIPELINE
    content = source.read_text()
    if bench.rng.random() < 0.25:
        content = mutations.text(content, bench.rng)
    else:
        documents = [mutations.tree(document, bench.rng) for document in yaml.load_all(content, LOADER)]
        content = dumped(*documents)
    path = bench.inside / "mutated.yaml"
    path.write_bytes(content.encode(errors="surrogatepass"))
    planned(RunRequest(runs=bench.inside / "runs", pipeline=path))
    return f"a mutated {source.name} is planned"


def executor_input(bench: Bench) -> str:
    """What KFP passes, to a phase that would run with it."""
    content = json.loads(bench.rng.choice(sorted(RECORDED.glob("*.json"))).read_text())["executor_input"]
    content = _below(content, bench.inside)
    if bench.rng.random() < 0.8:
        config = compose("toy", toy_phase.Settings, overrides=["toy.steps=2"], configs=toy_phase.CONFIGS)
        content["inputs"] = {"parameterValues": {"settings": json.dumps(config.tree), "seed": 3}}
    text = json.dumps(mutations.tree(content, bench.rng))
    if bench.rng.random() < 0.15:
        text = mutations.text(text, bench.rng)
    if bench.rng.random() < 0.03:
        text = "[" * 100_000
    return f"exit code {main(toy_phase.Toy, ['--executor-input', text], configs=toy_phase.CONFIGS)}"


def _below(content: Any, folder: Path) -> Any:
    """The same with all of its places in this folder."""
    text = json.dumps(content)
    for place in ("minio://", "/tmp/", "/gcs/", "s3://", "/minio/"):
        text = text.replace(f'"{place}', f'"{folder}/{place.strip("/:")}/')
    return json.loads(text)


@functools.cache
def keys() -> list[str]:
    """Every setting of every phase: `phase.key`, at any depth."""
    tree = {name: config.tree[name] for name, config in compose_all(PHASES, profile="micro").items()}
    found: list[str] = []

    def walk(content: Any, above: str) -> None:
        for key, value in content.items() if isinstance(content, dict) else ():
            found.append(f"{above}{key}")
            walk(value, f"{above}{key}.")

    walk(tree, "")
    return found


def override(rng: random.Random) -> str:
    """`phase.key=value`, or something that was meant to be it."""
    key = rng.choice(keys())
    given = rng.choice(
        (
            lambda: json.dumps(mutations.value(rng)),
            lambda: str(mutations.value(rng)),
            lambda: "[" * rng.choice((3, 300)),
            lambda: "{a:" * rng.choice((3, 300)),
            lambda: rng.choice(
                (
                    "${oc.env:HOME}",
                    "${no.such}",
                    "${seed}",
                    "9" * 5000,
                    "1e400",
                    "'",
                    "\\",
                    "!!python/x",
                    "null",
                )
            ),
            lambda: "".join(rng.choices(string.printable, k=rng.randint(0, 12))),
        )
    )()
    text = f"{rng.choice(('', '', '', '+', '++', '~'))}{key}={given}"
    if rng.random() < 0.15:
        text = mutations.text(text, rng)
    return ".".join(["a"] * 3000) + "=1" if rng.random() < 0.02 else text


def overrides(bench: Bench) -> str:
    """Settings of a run, all phases together; a secret of the environment must not be shown."""
    os.environ["ATTACK_SECRET"] = secret = "correct-horse-battery-staple"
    given = [override(bench.rng) for _ in range(bench.rng.choice((1, 1, 2)))]
    if bench.rng.random() < 0.1:
        given.append(f"{bench.rng.choice(keys())}=${{oc.env:ATTACK_SECRET}}")
    try:
        tree = {
            name: config.tree for name, config in composed(PHASES, profile="micro", overrides=given).items()
        }
        said = json.dumps(tree)
    except ForgeError as error:
        said = str(error)
    if secret in said:
        raise Loss(f"a secret of the environment is shown: {given}")
    return f"{given}: {said:.80}"


def profile(bench: Bench) -> str:
    """The files of configs, mutated."""
    configs = mutations.unlinked(CONFIGS, bench.inside / "configs")
    phase = bench.rng.choice(PHASES)
    file = bench.rng.choice(
        (configs / "profile" / "micro.yaml", configs / "phase" / f"{phase}.yaml", configs / "config.yaml")
    )
    content = file.read_text()
    if bench.rng.random() < 0.5:
        content = mutations.text(content, bench.rng)
    else:
        content = dumped(mutations.tree(yaml.safe_load(content), bench.rng))
    data = content.encode(errors="surrogatepass")
    file.write_bytes(mutations.damaged(data, bench.rng) if bench.rng.random() < 0.2 else data)
    compose_all([phase], profile="micro", configs=configs)
    return f"{file.name} for {phase} is taken"


def file(bench: Bench) -> str:
    """A request as a file."""
    content: dict[str, Any] = {
        "profile": "micro", "seed": 3, "base_models": ["standard"], "enable_compression": False, "generations": 2,
        "bitnet": {"steps": 10, "lr": 0.002}, "evaluation": {"items": 64}, "name": "x", "from": "cognate", "to": "bitnet",
        "rounds": 2, "workers": 2, "parameters": {}, "overrides": ["bitnet.steps=3"], "store": "", "slots": 1,
    }  # fmt: skip
    path = bench.inside / f"run.{bench.rng.choice(('json', 'yaml'))}"
    mutated = mutations.tree(content, bench.rng)
    text = json.dumps(mutated) if path.suffix == ".json" else dumped(mutated)
    path.write_bytes(text.encode(errors="surrogatepass"))
    asked = request_file.read(path)
    if int(asked.get("rounds", 1)) * int(asked.get("workers", 1)) > 100:
        return "a graph of that size is compiled for minutes"
    planned(request(**asked | {"runs": bench.inside / "runs"}))
    return f"{path.name} is taken"


def options(bench: Bench) -> str:
    """Options of the forge command, in this process."""
    rng = bench.rng
    runs = str(mutations.unlinked(bench.shared / "runs", bench.inside / "runs"))
    name = mutations.text("first", rng) if rng.random() < 0.4 else rng.choice(NAMES)
    number = str(rng.choice((-1, 0, 10**30, "1e400", "x", "NaN", "", "9" * 5000)))
    place = rng.choice(("/proc/x", "/etc/passwd/x", "a" * 300, "\0", "/dev/null/x", "\ud800", "/"))
    planning = ["run-pipeline", "--dry-run", "--pipeline", str(bench.shared / runner.PIPELINE)]
    words = rng.choice(
        (
            [*planning, "--runs", runs, "--name", name],
            [*planning, "--runs", runs, "--slots", number],
            [*planning, "--runs", runs, "--set", f"number={number}"],
            [*planning, "--runs", runs, "--set", mutations.text("text=a", rng)],
            [*planning, "--runs", place],
            ["run-pipeline", "--dry-run", "--runs", runs, "--resume", name],
            ["status", name, "--runs", runs],
            ["status", "first", "--runs", place],
            ["logs", "first", "--runs", runs, "--task", name],
            ["logs", "first", "--runs", runs, "--lines", number],
            ["events", name, "--runs", runs],
            ["report", name, "--runs", runs],
            ["cancel", name, "--runs", runs],
            ["prune", "--runs", rng.choice((runs, "/proc/x", "/etc/passwd")), "--keep", number],
            ["compile", "-o", place if place != "/" else "/proc/x"],
            ["generate", name, "--runs", runs, "--prompt", "a", "--tokens", number],
            ["validate", place],
        )
    )
    result = CliRunner().invoke(cli.app, words)
    print(result.output)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return f"{words}: exit code {result.exit_code}"


def entry(bench: Bench) -> str:
    """An entry of the cache, as somebody else who writes to the store may leave it: with ways out of the folder."""
    rng = bench.rng
    runs = mutations.unlinked(bench.shared / "runs", bench.inside / "runs")
    ways = (
        "../../../outside",
        str(bench.outside / "file"),
        "../outside/file",
        "..",
        "",
        "/",
        "a/../../..",
        "\0",
        "x" * 300,
    )
    for path in sorted((runs / "cache").glob("*.json")):
        content = sealed_json.decode(path.read_bytes(), indent=1)
        for key in rng.sample(sorted(content), rng.randint(1, 2)):
            if key == "parameters":
                content[key] = {rng.choice(ways): "text", "size": content[key].get("size", "1")}
            elif isinstance(content[key], str):
                content[key] = rng.choice(ways)
            else:
                content[key] = mutations.value(rng)
        if rng.random() < 0.7:
            path.write_bytes(sealed_json.encode({**content, "key": path.stem}, indent=1))
        else:
            text = json.dumps(mutations.tree(content, rng))
            path.write_bytes(text.encode(errors="surrogatepass"))
    code = runner.run(bench.shared / runner.PIPELINE, runs, name="run")
    if code:
        raise Loss(f"a damaged entry of the cache ends the run with {code}, where its tasks would run again")
    runner.complete(bench, runs)
    return "foreign entries of the cache are left alone"
