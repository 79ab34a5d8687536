"""The runs that strategies are compared by: a small Llama, twenty steps on parts of unequal numbers of tokens."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.optim.grokfast import Grokfast
from components.shared.optim.optimizer import build_optimizer
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.tasks.batches import IGNORED, Batch
from components.shared.training.adapters import put_on
from components.shared.training.loop import TrainingLoop, token_shares
from components.shared.training.settings import EngineSettings
from components.training.weight_copies import WeightAverage

STEPS = 20
VOCABULARY = 61


def model():
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=VOCABULARY, tie_word_embeddings=True, attn_implementation="eager", **shape)
    )


def draw(step: int, parts: int = 3) -> list[Batch]:
    """Parts of a step; an odd number, so that two ranks do not come out even."""
    generator = torch.Generator().manual_seed(step)
    made = []
    for part in range(parts):
        rows, width = 2 + part, 6 + 2 * part
        ids = torch.randint(VOCABULARY, (rows, width), generator=generator)
        made.append(
            Batch(ids, ids.masked_fill(torch.arange(width) < 2 + part, IGNORED), torch.ones_like(ids))
        )
    return made


def train(
    engine: EngineSettings,
    optimizer: str = "adamw",
    grokfast: bool = False,
    average: bool = False,
    *,
    folder: str = "",
    keep_at: int = 0,
    diverge_at: int = STEPS,
):
    """Losses and norms of the steps, and the weights that come of it.

    :param average: the weights are their average over the steps.
    :param folder: of checkpoints; restored where there is one.
    :param keep_at: write a checkpoint when so many steps are taken, and go on.
    :param diverge_at: the step whose first part has a loss that is no number.
    """
    network = model()
    merge = put_on(network, engine, torch.Generator().manual_seed(1))
    slow = Grokfast(alpha=0.9, strength=0.5) if grokfast else None
    optimizers = {"model": build_optimizer(network, optimizer, 5e-3, 0.01, slow)}
    modules = {"model": network}
    if average:
        modules["average"] = averaged = WeightAverage(network, 0.9)
    snapshot = Snapshot(modules, optimizers)
    loop = TrainingLoop(
        network, snapshot.optimizers, engine=engine, clip=0.5, where="toy", fix="", snapshot=snapshot
    )
    checkpoints = Checkpoints(folder, "0" * 64, say=lambda text: None) if folder else None
    if checkpoints is not None:
        snapshot.restore(checkpoints)
        loop.step = snapshot.step

    def loss_of(batch: Batch):
        out = network(input_ids=batch.input_ids, labels=batch.labels)
        loss = out.loss * float("nan") if batch is broken else out.loss
        return loss, {"loss": loss.detach()}

    losses, norms, broken = [], [], None
    network.train()
    for step in range(loop.step, STEPS):
        parts = draw(step)
        broken = parts[0] if step == diverge_at else None
        update = loop.update(parts, loss_of, rate=1 - step / STEPS, weights=token_shares(parts))
        losses.append(update.loss)
        norms.append(update.gradient_norm)
        assert abs(update.metrics["loss"] - update.loss) < 1e-5
        if average:
            with loop.whole():
                averaged.update(network)
        if checkpoints is not None and loop.step == keep_at:
            snapshot.save(checkpoints, loop.step)
    loop.finish()
    if average:
        averaged.put_into(network)
    if merge is not None:
        merge(network)
    assert all(type(p) is torch.nn.Parameter for p in network.parameters())
    with torch.no_grad():  # plain and whole again, outside of any loop
        network.eval()(input_ids=draw(0)[0].input_ids)
    return losses, norms, {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
