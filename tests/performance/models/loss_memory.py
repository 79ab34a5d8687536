"""Peak memory of one training or scoring step of each phase's losses, and what of it hangs on the vocabulary.

    OMP_NUM_THREADS=1 python tests/performance/models/loss_memory.py PATH [--what text,quietstar,…] [--rows 8 --width 256]
    OMP_NUM_THREADS=1 python tests/performance/models/loss_memory.py --made 49152,151936

PATH is a Hugging Face folder; --made builds a Llama of 2 layers of 256 at each vocabulary instead. Every figure is of a
fresh process: resident memory at its highest (VmHWM) in one forward and backward pass, less what was resident before, in
MiB. `plain` is the loss of transformers itself, which holds its logits at all places, three times and over.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import components.shared.runtime  # noqa: F401  before torch: how OpenMP waits
from components.shared.tasks.batches import IGNORED, Batch

WHAT = ("plain", "text", "answers", "quietstar", "bitnet", "baking", "adas")


def resident(name: str) -> float:
    """MiB of a line of /proc/self/status."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name))
    return int(line.split()[1]) / 1024


def made(vocabulary: int) -> Any:
    """A small Llama at a vocabulary."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
    )


def network(path: str) -> Any:
    """The model of a folder, or one that is made: made:VOCABULARY."""
    if path.startswith("made:"):
        return made(int(path.partition(":")[2]))
    from components.shared.models.loading import load

    return load(path, trainable=True)[0]


def batch(vocabulary: int, rows: int, width: int) -> Batch:
    """Random rows, of which the last eighth is learnt."""
    ids = torch.randint(10, vocabulary, (rows, width), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, : width - width // 8] = IGNORED
    return Batch(ids, labels, torch.ones_like(ids))


def step(model: Any, what: str, rows: Batch) -> Any:
    """The function to measure; what it needs is made before."""
    if what == "plain":
        return lambda: model(input_ids=rows.input_ids, labels=rows.labels).loss.backward()
    if what == "text":
        from components.cognate.course import token_loss

        return lambda: token_loss(model, rows)[0].backward()
    if what == "answers":
        from components.shared.evaluation.answers import token_outcomes

        def scored() -> None:
            with torch.no_grad():
                token_outcomes(model, rows)

        return scored
    if what == "quietstar":
        from components.quietstar.training_loss import thought_loss
        from components.quietstar.vocabulary import ThoughtTokens
        from components.shared.models.remote_code.thoughts import TalkHead

        model.talk_head = TalkHead(model.config.hidden_size)
        model.config.thoughts = {"length": 12, "mixing": True, "start": 3, "end": 4}

        def thought() -> None:
            thought_loss(
                model, rows, "thoughts", ThoughtTokens(3, 4, 5), torch.Generator().manual_seed(0), reinforce=True,
                positions=4, passes=2, length=12, talk=4, temperature=1.0, policy_temperature=1.0, policy_weight=1.0,
                clamp=True,
            ).loss.backward()  # fmt: skip

        return thought
    if what == "bitnet":
        import copy

        from components.bitnet.qat import answer_and_kl

        teacher = copy.deepcopy(model).eval().requires_grad_(False)
        return lambda: sum(answer_and_kl(model, teacher, rows, 1.0)).backward()
    if what == "baking":
        from components.baking.distillation_set import DistillationSet, Rows, answer_predictions, divergence

        predicts = torch.nn.functional.pad(rows.labels[:, 1:] != IGNORED, (0, 1))
        said = Rows(rows.input_ids, predicts)

        def bake() -> None:
            teacher = answer_predictions(model, said, 64)
            divergence(model, DistillationSet(said, teacher)).backward()

        return bake
    from components.adas import svf

    predicts = torch.nn.functional.pad(rows.labels[:, 1:] != IGNORED, (0, 1))
    said = svf.Rows(rows.input_ids, rows.attention_mask, predicts, rows.input_ids.roll(-1, 1))

    def expert() -> None:
        with torch.no_grad():
            base, _ = svf.answer_states(model, said)
        hidden, head = svf.answer_states(model, said)
        log_p, apart = svf.against_base(hidden, head, base, said.targets[said.predicts])
        (log_p.mean() + apart.mean()).backward()

    return expert


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("path", nargs="?")
    parser.add_argument("--made", default="")
    parser.add_argument("--what", default=",".join(WHAT))
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--one", action="store_true", help="measure in this process")
    chosen = parser.parse_args()
    if chosen.one:
        model = network(chosen.path).train()
        rows = batch(model.config.vocab_size, chosen.rows, chosen.width)
        for what in chosen.what.split(","):
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            run = step(model, what, rows)
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
            before = resident("VmRSS")
            run()
            print(f"{resident('VmHWM') - before:.0f}", flush=True)
        return
    paths = [f"made:{vocabulary}" for vocabulary in chosen.made.split(",") if vocabulary]
    paths += [chosen.path] if chosen.path else []
    print(f"{'MiB':12}" + "".join(f"{path[-24:]:>26}" for path in paths))
    options = ["--rows", str(chosen.rows), "--width", str(chosen.width), "--one"]
    for what in chosen.what.split(","):
        line = f"{what:12}"
        for path in paths:
            command = [sys.executable, __file__, path, "--what", what, *options]
            ended = subprocess.run(command, check=False, capture_output=True, text=True)
            line += f"{ended.stdout.strip() or ended.stderr.strip().splitlines()[-1][-24:]:>26}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
