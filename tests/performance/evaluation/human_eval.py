"""HumanEval in the sandbox: whether its own solutions pass, and whether wrong ones fail; and a model's pass@k.

    python tests/performance/evaluation/human_eval.py HumanEval.jsonl.gz [--backend landlock]
    python tests/performance/evaluation/human_eval.py HumanEval.jsonl.gz --model FOLDER [--samples 10 --temperature 0.8]

Wrong ones: the body in place of which stands `return None`; and the solution with one operator, comparison or constant
changed, of which some are right all the same.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gzip
import json
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.shared.sandbox.backends import BACKENDS, Backend
from components.shared.sandbox.outcome import Outcome
from components.shared.sandbox.run import available, run_python
from components.shared.tasks.code_benchmarks import draft_of
from components.shared.tasks.item import Item
from components.shared.tasks.programs import MEMORY, SECONDS, program_of, with_tests

SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.Mod: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.And: ast.Or, ast.Or: ast.And, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


def items_of(path: Path) -> list[Item]:
    """The problems of a file."""
    text = (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8")
    with text as lines:
        drafts = [draft_of(json.loads(line)) for line in lines if line.strip()]
    return [draft.item(draft.family, 1, "report") for draft in drafts if draft is not None]


def mutants(program: str, entry_point: str) -> Iterator[str]:
    """The program with one thing changed inside the function that is asked for."""
    tree = ast.parse(program)
    function = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == entry_point][-1]
    count = sum(1 for _ in ast.walk(function))
    for place in range(count):
        twin = copy.deepcopy(tree)
        inside = [n for n in twin.body if isinstance(n, ast.FunctionDef) and n.name == entry_point][-1]
        node = list(ast.walk(inside))[place]
        if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS:
            node.op = SWAPS[type(node.op)]()
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            node.ops[0] = SWAPS[type(node.ops[0])]()
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            node.value += 1
        elif isinstance(node, ast.Return) and node.value is not None:
            node.value = ast.Constant(None)
        else:
            continue
        yield ast.unparse(twin)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("file", type=Path)
    asked.add_argument("--backend", choices=BACKENDS)
    asked.add_argument("--model", type=Path)
    asked.add_argument("--samples", type=int, default=1)
    asked.add_argument("--temperature", type=float, default=0.0)
    asked.add_argument("--k", type=int, nargs="*", default=[1])
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--limit", type=int)
    asked.add_argument("--mutants", type=int, default=2, help="of a problem")
    asked.add_argument("--threads", type=int, default=2)
    options = asked.parse_args()
    items = items_of(options.file)[: options.limit]
    if options.model is None:
        solutions(items, options)
    else:
        model(items, options)


def solutions(items: list[Item], options: argparse.Namespace) -> None:
    """Whether right solutions pass and wrong ones fail."""
    backend = options.backend or available()
    draw = random.Random(options.seed)
    programs: list[tuple[str, str, str]] = []
    for item in items:
        needs = json.loads(item.reference)
        right = program_of(item.answer, needs)
        programs.append(("canonical", item.task, with_tests(right, needs)))
        programs.append(("return None", item.task, with_tests(program_of("    return None\n", needs), needs)))
        every = list(mutants(right, needs["entry_point"]))
        for mutant in draw.sample(every, min(options.mutants, len(every))):
            programs.append(("mutant", item.task, with_tests(mutant, needs)))
    print(f"{backend}, {options.threads} programs at a time")
    for kind in dict.fromkeys(kind for kind, *_ in programs):
        these = [row for row in programs if row[0] == kind]
        began = time.monotonic()
        with ThreadPoolExecutor(options.threads) as pool:
            outcomes = list(pool.map(lambda row: run(row[2], options.backend), these))
        endings = Counter(outcome.ending for outcome in outcomes)
        seconds = time.monotonic() - began
        print(f"{kind}: {endings['end']} of {len(these)} pass, {seconds:.0f} s; {dict(endings)}", flush=True)
        for (_, task, _), outcome in zip(these, outcomes, strict=True):
            if kind != "mutant" and (kind == "canonical") != outcome.completed:
                print(kind, task, outcome.ending, outcome.stderr[-300:])


def run(program: str, backend: Backend | None) -> Outcome:
    """What becomes of a program within the grader's limits."""
    return run_python(program, seconds=SECONDS, memory=MEMORY, backend=backend)


def model(items: list[Item], options: argparse.Namespace) -> None:
    """A model's pass@k."""
    from components.shared.evaluation.pass_at_k import Sampling, code_scores
    from components.shared.models.loading import load

    network, tokenizer = load(options.model)
    began = time.monotonic()
    scores = code_scores(
        network, tokenizer, items,
        Sampling(options.samples, tuple(options.k), options.temperature), seed=options.seed,
    )  # fmt: skip
    used, clock = resource.getrusage(resource.RUSAGE_SELF).ru_utime, time.monotonic() - began
    print(
        f"{len(items)} problems, {options.samples} samples each: {clock:.0f} s of the clock, {used:.0f} CPU-s"
    )
    for k, (rate, low, high) in scores.items():
        print(f"pass@{k}: {rate:.4f} [{low:.4f}, {high:.4f}]")


if __name__ == "__main__":
    main()
