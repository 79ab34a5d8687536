"""What each phase holds in memory, writes to disk and computes: a function a phase, of the model's shape and its settings.

A phase that is not known here is taken to train like the phase training with all of its model, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from components.shared.runtime.malloc import LARGE
from components.shared.tasks.corpora import is_corpus
from components.shared.training.settings import EngineSettings

from .memory import Terms, activations, adapters, bytes_of, casts, inference, learner, logits
from .shape import ModelShape

HELD = 1 << 30
"""Bytes of Gram matrices that are summed in memory (shared/models/gram_file.py)."""
SUITES = 5
LONG = 1 << 14
"""Characters of items that pass the network together (evaluation/answers.CHARACTERS): a token has one at least."""
PACKED = 8192
"""Tokens of packed rows of text that pass the network together, but for a single row (shared/data/texts.py)."""
ANSWER = 4
"""Tokens of a suite's answer, and the one that ends it."""
BAKED = 16
"""Rows of trajectories or of anchors that pass together (baking/bake.ROWS)."""
PARTS = 2
"""Parts of a batch, which recovery takes one after another (compression/recovery.PARTS)."""
LEARNING = 3
"""Forward passes that a step of learning costs: a backward pass costs two forward passes."""
FACTORS = 5
"""Matrices of a matrix's size while it is put together: U, V, U with its factors, what comes of them, and its gradient."""
MERGED = 480 << 20
"""Bytes of what TIES and DARE make of a piece of a tensor on its way (evomerge's README has the measurement)."""
ENCODERS = "processes that encode"
ROW_COPIES = 5
"""Of a row's logits, at most at once: themselves, their probabilities, p (1 − p), log-softmax and gradient after these."""
CODER, SLAB, PER_WEIGHT = 70 << 20, 1 << 22, 100
"""Bytes of a process that encodes before it does, weights of a piece that it codes, bytes that it takes for each."""
ENCODED = 250_000
"""Weights that a core codes in a second, of one candidate."""


@dataclass(frozen=True)
class Given:
    """What a phase starts from.

    :param shape: its `stored` is what the phase finds, float32 once a phase before it has learnt.
    :param tokens: of the longest row.
    :param parents: models that are merged.
    :param gpus: of the machine; 0: the CPU computes.
    :param fresh: cognates are trained from nothing.
    :param varied: all variants stand on one given model.
    :param ternary: its projections are BitLinears where they learn.
    """

    shape: ModelShape
    tokens: int
    evaluation: Any
    parents: int = 3
    gpus: int = 0
    fresh: bool = False
    varied: bool = False
    ternary: bool = False

    @property
    def gpu(self) -> bool:
        """A GPU computes."""
        return self.gpus > 0

    def together(self, rows: int) -> int:
        """Tokens of items that pass the network together, `rows` of them at most."""
        return min(rows * self.tokens, max(LONG, self.tokens))

    @property
    def scoring(self) -> float:
        """Operations of scoring all suites once."""
        text = self.evaluation.text_tokens if self.evaluation.text else 0
        return float((SUITES * self.evaluation.items * 0.5 * self.tokens + text) * self.shape.flops)


@dataclass
class Demand:
    """What a phase takes.

    :param flops: operations, those of all its tasks together.
    :param seconds: beside them, of work that is no product of matrices.
    :param disk: bytes that its artifacts and checkpoints take at once.
    """

    terms: Terms = field(default_factory=Terms)
    flops: float = 0.0
    seconds: float = 0.0
    disk: float = 0.0


def tokens_at_once(settings: Any, given: Given, mixed: Iterable[str]) -> int:
    """Tokens that pass the network together: rows of items, or the packed rows of a corpus in the mixture."""
    of_items = given.together(min(settings.rows, settings.batch))
    if not any(map(is_corpus, mixed)):
        return of_items
    return max(of_items, min(settings.batch * settings.row_tokens, max(PACKED, settings.row_tokens)))


def engine_of(settings: Any) -> EngineSettings:
    """The phase's engine; the default where it has none."""
    engine: EngineSettings | None = getattr(settings, "engine", None)
    return engine or EngineSettings()


def cognate(settings: Any, given: Given) -> Demand:
    """Variants that learn, then Gram matrices; a model that is taken as it is has the second alone."""
    shape, engine = given.shape, engine_of(settings)
    demand = Demand(disk=4 * shape.parameters * 4 + given.parents * 4 * shape.inputs)
    names = ("standard", "memory", "reasoning")
    if given.fresh:
        learner(demand.terms, shape, engine, settings.optimizer, given.gpus)
        casts(demand.terms, shape, engine, gpu=given.gpu)
        mixed = {task for name in ("trunk", *names) for task in getattr(settings, name).tasks}
        tokens = tokens_at_once(settings, given, mixed)
        activations(demand.terms, shape, engine, 1, tokens, gpu=given.gpu)
        logits(demand.terms, shape, tokens // 2)
        steps = settings.trunk.steps + sum(getattr(settings, name).steps for name in names)
        demand.flops = steps * settings.batch * 0.5 * given.tokens * LEARNING * shape.flops
    else:
        moments = [_grams(settings, given)]
        if given.varied:
            moments += [_vary(settings, given), _beside_the_start(given)]
            if settings.given.trains != "nothing":
                steps = len(names) * settings.given.steps * settings.given.batch
                demand.flops = steps * 0.5 * given.tokens * LEARNING * shape.flops
        demand.terms = max(moments, key=lambda terms: sum(terms.device.values()) + sum(terms.host.values()))
    demand.flops += 3 * (settings.gram_items * 0.5 * given.tokens * 3 * shape.flops + given.scoring)
    return demand


def _grams(settings: Any, given: Given) -> Terms:
    """While the Gram matrices are summed: all of them in memory, or in their file and those of a layer in memory."""
    shape, terms = given.shape, Terms()
    terms.put("weights", shape.stored * shape.parameters)
    in_memory = 8 * shape.layer_inputs <= HELD
    terms.put("Gram matrices", 8 * shape.inputs if in_memory else 8 * shape.inputs / shape.layers)
    inference(terms, shape, given.together(settings.batch))
    return terms


def _vary(settings: Any, given: Given) -> Terms:
    """While a variant of a given model learns: adapters, the added modules alone, or all its weights."""
    shape, engine, own, terms = given.shape, engine_of(settings), settings.given, Terms()
    if own.trains == "all":
        learner(terms, shape, engine, "adamw", given.gpus)
        casts(terms, shape, engine, gpu=given.gpu)
    else:  # on a CPU all of it is float32
        terms.put("weights", (shape.stored if given.gpu else 4) * shape.parameters)
        if own.trains == "lora":
            terms.put("adapters, their gradients and states", 16 * adapters(shape, own.rank))
            layers = shape.layers if engine.gradient_checkpointing else 1
            terms.put("changed weights", (shape.stored if given.gpu else 4) * shape.matrices / layers)
    rows = min(settings.rows, own.batch)
    activations(terms, shape, engine, rows, given.tokens, gpu=given.gpu)
    logits(terms, shape, rows * given.tokens // 2)
    return terms


def _beside_the_start(given: Given) -> Terms:
    """While a variant is compared with the model that it was."""
    shape, terms = given.shape, Terms()
    terms.put("weights", shape.stored * shape.parameters)
    terms.put("the model as it was given", shape.stored * shape.parameters)
    inference(terms, shape, given.together(given.evaluation.batch))
    return terms


def evomerge(settings: Any, given: Given) -> Demand:
    """The model that is merged, its parents and their base, and what RegMean fits it with.

    On a CPU parents, base and Gram matrices are pages of mapped files, which the system takes back: they are not counted.
    """
    shape = given.shape
    demand = Demand(disk=2 * 4 * shape.parameters)
    demand.terms.put("merged model", shape.stored * shape.parameters)
    if given.gpu:
        demand.terms.put("parents", given.parents * shape.stored * shape.parameters)
        demand.terms.put("base", shape.stored * shape.parameters)
    else:
        demand.terms.put("pieces that are merged in float32", MERGED)
    if "regmean" in settings.methods:
        _regmean(demand.terms, shape, given)
    inference(demand.terms, shape, given.together(given.evaluation.batch))
    evaluations = (
        8 + 3 * len(settings.methods) + settings.generations * settings.population * settings.islands
    )
    each = len(settings.suites) * settings.items * 0.5 * given.tokens * shape.flops
    chosen = settings.finalists * SUITES * settings.select_items * 0.5 * given.tokens * shape.flops
    demand.flops = evaluations * (each + 200 * shape.parameters) + chosen + 4 * given.scoring
    return demand


def _regmean(terms: Terms, shape: ModelShape, given: Given) -> None:
    """While the widest layer is fitted: one sum of Gram matrices and one target in float64, all else in float32."""
    wide, narrow = max(shape.inner, shape.hidden), min(shape.inner, shape.hidden)
    fitted = 8 * (wide**2 + narrow * wide + 2 * 1024 * wide)
    terms.put("RegMean's widest layer", fitted + 4 * (given.parents + 2) * narrow * wide)
    terms.put("Gram matrices of a tensor", given.parents * 4 * wide**2 if given.gpu else 0, host=True)


def quietstar(settings: Any, given: Given) -> Demand:
    """A model that learns from thoughts at several positions of a question at once."""
    shape, engine, mix = given.shape, engine_of(settings), settings.questions
    demand = Demand(disk=2 * 4 * shape.parameters)
    thought = settings.positions * settings.passes * (settings.length + settings.talk + 2)
    learner(demand.terms, shape, engine, settings.optimizer, given.gpus)
    casts(demand.terms, shape, engine, gpu=given.gpu)
    rows = max(mix.batch * (given.tokens + thought), settings.text.batch * given.tokens)
    activations(demand.terms, shape, engine, 1, rows, gpu=given.gpu)
    thought_rows = mix.batch * settings.positions * settings.passes * (settings.talk + settings.length)
    logits(demand.terms, shape, max(thought_rows, settings.text.batch * given.tokens // 2))
    # thoughts, what follows them and the text each give the embedding a gradient: one comes while those before are a sum
    demand.terms.put("gradients of the embedding on their way", 2 * 4 * shape.vocabulary * shape.hidden)
    step = mix.batch * (0.5 * given.tokens + 2 * thought) + settings.text.batch * 0.5 * given.tokens
    exam = 6 * settings.items * (0.5 * given.tokens + settings.length)
    demand.flops = (2 * settings.steps * step * LEARNING + exam) * shape.flops + 2 * given.scoring
    return demand


def bitnet(settings: Any, given: Given) -> Demand:
    """The student, its teacher, and each layer's ternary weights, which the backward pass needs."""
    shape, engine = given.shape, engine_of(settings)
    demand = Demand(disk=2 * 4 * shape.parameters + shape.matrices)
    learner(demand.terms, shape, engine, settings.optimizer, given.gpus)
    half = 2 if engine.precision == "bfloat16" else 4  # of the teacher once it has been measured
    teacher = half * shape.parameters
    if not given.gpu and teacher >= LARGE:
        # In a file, a module at a time in memory (shared/training/paged.py).
        demand.disk += teacher
        teacher = half * max(shape.matrices // shape.layers, shape.vocabulary * shape.hidden)
    demand.terms.put("teacher", teacher)
    ternary = 4 * shape.matrices / (shape.layers if engine.gradient_checkpointing else 1)
    demand.terms.put("ternary weights", ternary)
    tokens = tokens_at_once(settings, given, settings.tasks)
    activations(demand.terms, shape, engine, 1, tokens, gpu=given.gpu)
    logits(demand.terms, shape, tokens // 2, copies=5)
    demand.terms.at_least("teacher and student, whole, before and after", 8 * shape.parameters)
    each = settings.batch * 0.5 * given.tokens * shape.flops
    held_out = 4 * settings.held_out_items * 0.5 * given.tokens * shape.flops
    demand.flops = (
        settings.steps * each * (LEARNING + bool(settings.distillation)) + held_out + 2 * given.scoring
    )
    return demand


def training(settings: Any, given: Given) -> Demand:
    """A model that learns, the one from before the stage, to which it may have to go back, and its weight average."""
    shape, engine = given.shape, engine_of(settings)
    demand = Demand(disk=3 * 4 * shape.parameters)
    learner(demand.terms, shape, engine, settings.optimizer, given.gpus)
    casts(demand.terms, shape, engine, gpu=given.gpu, learns=engine.adapter == "none")
    _changed(demand.terms, given, engine, changed=engine.adapter == "lora")
    # with lora it lies beneath the change; shards of an adapted model say nothing of it
    beneath = engine.adapter == "lora" and engine.strategy in ("single", "ddp")
    demand.terms.put("model before the stage", 0 if beneath else 4 * shape.parameters, host=True)
    learnt = shape.parameters if engine.adapter == "none" else adapters(shape, engine.adapter_rank)
    averaged = any(stage.kind == "stabilisation" for stage in settings.stages)
    demand.terms.put("weight average of stabilisation", 4 * learnt if averaged else 0)
    mixed = {task for stage in settings.stages for task in stage.tasks or settings.tasks}
    tokens = tokens_at_once(settings, given, mixed)
    activations(demand.terms, shape, engine, 1, tokens, gpu=given.gpu)
    logits(demand.terms, shape, tokens // 2)
    if given.ternary:  # what is asked without gradients keeps its ternary weights
        demand.terms.at_least(
            "ternary weights of the model that dreams", 4 * (shape.parameters + shape.matrices)
        )
    steps = sum(stage.steps for stage in settings.stages)
    dreams = 2 * settings.dreams * (0.5 * given.tokens + 24)
    looks = len(settings.stages) * (2 * settings.held_out + settings.probe_items) * 0.5 * given.tokens
    passes = steps * settings.batch * 0.5 * given.tokens * LEARNING
    demand.flops = (passes + dreams + looks) * shape.flops + 2 * given.scoring
    return demand


def baking(settings: Any, given: Given) -> Demand:
    """The model, changes of its projections, each changed weight while a step lasts, and what the teacher predicts."""
    shape, engine = given.shape, engine_of(settings)
    demand = Demand(disk=2 * 4 * shape.parameters)
    low = shape.matrices if settings.rank is None else adapters(shape, settings.rank)
    demand.terms.put("weights", 4 * shape.parameters)
    demand.terms.put("changes, their gradients and states", 16 * low)
    casts(demand.terms, shape, engine, gpu=given.gpu, learns=False)
    _changed(demand.terms, given, engine, changed=True)
    # trajectories and anchors pass one after another
    activations(demand.terms, shape, engine, min(settings.batch, BAKED), given.tokens, gpu=given.gpu)
    logits(demand.terms, shape, settings.batch * settings.answer_tokens)
    kept = 4 * (shape.parameters + shape.matrices)  # made once, and not for every token
    demand.terms.at_least("changed or ternary weights of the model that is asked", kept)
    steps, count = sum(bake.steps for bake in settings.bakes), len(settings.bakes)
    sets = settings.questions * settings.trajectories * (given.tokens + settings.answer_tokens)
    sets += 5 * settings.questions * 0.5 * given.tokens
    gates = 16 * settings.held_out * (0.5 * given.tokens + settings.answer_tokens)
    learnt = steps * 2 * settings.batch * 0.5 * given.tokens * LEARNING
    demand.flops = (learnt + count * (sets + gates)) * shape.flops + 4 * given.scoring
    return demand


def _changed(terms: Terms, given: Given, engine: EngineSettings, *, changed: bool) -> None:
    """Weights with their low-rank change, and what a quantiser makes of them: of one layer with checkpointing."""
    each = 4 * given.shape.matrices / (given.shape.layers if engine.gradient_checkpointing else 1)
    terms.put("changed weights", each if changed else 0)
    terms.put("ternary weights", each if given.ternary else 0)


def adas(settings: Any, given: Given) -> Demand:
    """The model, weights put together from singular vectors, and these, which a GPU sees of one matrix at a time."""
    shape, svf, engine = given.shape, settings.svf, engine_of(settings)
    demand = Demand(disk=2 * 2 * shape.parameters)
    rows = svf.questions * svf.samples
    tokens = given.tokens + settings.answer_tokens
    learns, searches = Terms(), Terms()
    size = bytes_of(engine, gpu=False)  # in bfloat16 where that is asked for, never by itself
    learns.put("weights put together", size * shape.matrices)
    activations(learns, shape, engine, rows, tokens, gpu=False)
    logits(learns, shape, rows * settings.answer_tokens)
    searches.put("weights put together", shape.stored * shape.matrices)
    inference(searches, shape, given.evaluation.batch * tokens)
    demand.terms = max((learns, searches), key=lambda terms: sum(terms.device.values()))
    demand.terms.put("weights", shape.stored * shape.parameters)
    demand.terms.put(
        "factors of a matrix, their product and its gradient", FACTORS * 4 * shape.hidden * shape.inner
    )
    demand.terms.put("singular vectors", 4 * shape.singular, host=True)
    if given.gpu:  # they are kept while the model goes by way of host memory
        demand.terms.put("the model, written and read again", shape.stored * shape.parameters, host=True)
    learnt = len(settings.families) * svf.steps * rows * (0.5 * tokens) * (LEARNING + 2)
    gates = sum(len(family.levels) for family in settings.families) * svf.gate_items * 0.5 * tokens
    designs = 12 + settings.search.generations * settings.search.children
    searched = SUITES * (designs * settings.search.items + 10 * settings.search.select_items) * 0.5 * tokens
    demand.flops = (learnt + gates + searched) * shape.flops + 3 * given.scoring
    demand.seconds = shape.layers * 7 * (shape.hidden / 1024) ** 3 * 2.4
    return demand


def compression(settings: Any, given: Given) -> Demand:
    """The model, weights that are tried in their place, and in processes of their own the pieces that are coded.

    On a CPU weights are pages of mapped files: those that a pass reads are there, the others the system takes back.
    """
    shape = given.shape
    demand = Demand(disk=4 * shape.parameters + shape.parameters)
    demand.terms.put("weights that a pass reads", shape.stored * shape.parameters)
    demand.terms.put("weights that they stand in for", shape.stored * shape.parameters if given.gpu else 0)
    widest = max(shape.inner, shape.hidden, shape.heads * shape.head)
    demand.terms.put("Hessians of a layer", 4 * widest**2)
    coder = CODER + PER_WEIGHT * min(SLAB, shape.largest)
    demand.terms.put(ENCODERS, settings.threads * coder, host=True)
    if settings.calibration.text is not None:
        _calibrated_by_text(demand.terms, shape, settings.calibration.row, gpu=given.gpu)
    items = SUITES * max(settings.search_items, settings.calibration_items)
    inference(demand.terms, shape, given.together(min(items, given.evaluation.batch)))
    learns = bool(settings.recovery.steps)
    references = SUITES * (settings.search_items + learns * settings.recovery.items)
    demand.terms.put("what the model predicted", 4 * shape.vocabulary * ANSWER * references)
    if learns:
        rows = min(SUITES * settings.recovery.items, -(-given.evaluation.batch // PARTS))
        activations(demand.terms, shape, engine_of(settings), 1, given.together(rows), gpu=given.gpu)
    coded = (
        shape.parameters * (2 + len(settings.controls))
        + len(settings.candidates) * settings.sample * shape.layers * 7
    )
    demand.seconds = coded / ENCODED / 2
    looks = len(settings.candidates) * 4 + settings.curve + len(settings.controls)
    looks_tokens = SUITES * (settings.search_items * looks + settings.select_items * 8) * 0.5 * given.tokens
    learnt = settings.recovery.steps * SUITES * settings.recovery.items * 0.5 * given.tokens * LEARNING
    demand.flops = (looks_tokens + learnt) * shape.flops + 3 * given.scoring
    return demand


def _calibrated_by_text(terms: Terms, shape: ModelShape, row: int, *, gpu: bool) -> None:
    """One row of a text, forward and backward through the whole model (compression/allocation/fisher.py).

    All layers' activations are there, all logits of the row, the Hessians, pages that are written at each row, and
    pages of the weights, which have just been written to files.
    """
    activations(terms, shape, EngineSettings(), 1, row, gpu=gpu, name="activations of a row of text")
    terms.put("logits of a row of text", ROW_COPIES * 4 * row * shape.vocabulary)
    terms.put("Hessians of all layers", 4 * shape.inputs, host=True)
    terms.put("weights, just written to files", 4 * shape.parameters, host=True)


DEMANDS: dict[str, Callable[[Any, Given], Demand]] = {
    "cognate": cognate, "evomerge": evomerge, "quietstar": quietstar, "bitnet": bitnet,
    "training": training, "baking": baking, "adas": adas, "compression": compression,
}  # fmt: skip
