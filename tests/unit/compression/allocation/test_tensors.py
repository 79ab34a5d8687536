"""All codes of all tensors, made by processes, kept in files, and found again after a kill."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from components.compression.allocation import tensors
from components.compression.allocation.mapped import map_weights
from components.compression.allocation.tensors import Tensors
from components.compression.allocation.workers import Workers
from components.compression.codecs import slabs
from components.compression.codecs.codec import Chain, CodeFormat
from components.compression.codecs.encoding import decode_preset, encode
from components.compression.coding.hessian import weighted_error
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.errors import Interrupted, PhaseFailed
from components.shared.runtime.stopping import clear_stop_request, request_stop
from components.shared.runtime.tracking.progress import Progress

CODES = ["int4", "uniform 1", "hadamard ectcq 2", "vptq 2"]
CHAIN = Chain(("seedlm 4", "vptq 2", "hyper 1600"))
SHAPES = {"first": (48, 32), "second": (40, 64), "third": (64, 24)}


@pytest.fixture(scope="module")
def model() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {path: nn.Linear(columns, rows, bias=False) for path, (rows, columns) in SHAPES.items()}


@pytest.fixture(scope="module")
def two() -> Iterator[Workers]:
    with Workers(2) as workers:
        yield workers


def subject(model: dict[str, nn.Module], place: Path, workers: Workers, every: float = 1e9) -> Tensors:
    place.mkdir(exist_ok=True)
    hessians = {}
    for number, path in enumerate(["first", "second"]):
        x = np.random.default_rng(number).normal(size=(200, SHAPES[path][1])).astype(np.float32)
        hessians[path] = place / f"{path}.npy"
        np.save(hessians[path], x.T @ x / 200)
    weights = map_weights(model, place / "weights")
    checkpoints = Checkpoints(str(place / "checkpoints"), "0" * 16, every=every)
    return Tensors(weights, hessians, checkpoints, workers, Progress("test"), place / "codes", seed=3)


def everything(found: Tensors) -> tuple[object, ...]:
    codes = {key: found.stored_code(*key).tobytes() for key in sorted(found.encoded)}
    return codes, found.points, found.sensitivity, found.sampled


def test_one_process_and_two_find_the_same_bytes_and_errors(
    model: dict[str, nn.Module], two: Workers, tmp_path: Path
) -> None:
    results = []
    with Workers(1) as one:
        for workers, place in ((one, tmp_path / "one"), (two, tmp_path / "two")):
            found = subject(model, place, workers)
            found.measure(CODES, 1 << 22)
            results.append(everything(found))
    assert results[0] == results[1] and len(found.encoded) == len(CODES) * len(SHAPES)


def test_a_code_is_that_of_the_encoder_and_its_error_that_of_the_layers_output(
    model: dict[str, nn.Module], two: Workers, tmp_path: Path
) -> None:
    found = subject(model, tmp_path / "here", two)
    for path, module in model.items():
        w = module.weight.detach().numpy()
        file = found.hessians.get(path)
        hessian = None if file is None else np.load(file)
        code = encode("vptq 2", w, hessian, seed=3)
        assert found.stored_code(path, "vptq 2").tobytes() == code and found.format(
            path, "vptq 2"
        ) == CodeFormat("vptq", "hadamard")
        back = decode_preset("vptq 2", code, w.shape)
        assert found.error(path, "vptq 2") == pytest.approx(weighted_error(w, back, hessian), rel=1e-12)
        assert np.array_equal(found.decoded({path: "vptq 2"})[path].numpy(), back)


def test_a_chain_encodes_what_its_stages_before_decode_to(
    model: dict[str, nn.Module], two: Workers, tmp_path: Path
) -> None:
    found = subject(model, tmp_path / "here", two)
    w = model["third"].weight.detach().numpy()
    for name in CHAIN.presets:
        code = encode(name, w, None, seed=3)
        w = decode_preset(name, code, w.shape)
    assert found.stored_code("third", CHAIN).tobytes() == code
    own = model["third"].weight.detach().numpy()
    assert found.error("third", CHAIN) == pytest.approx(weighted_error(own, w, None))


def test_large_tensors_are_sampled_then_encoded_in_slabs(
    model: dict[str, nn.Module], two: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "LARGEST", 1024)
    monkeypatch.setattr(tensors, "row_ranges", lambda rows, columns: slabs.row_ranges(rows, columns, 1024))
    found = subject(model, tmp_path / "here", two)
    found.measure(["int4"], 1 << 22)
    assert not found.encoded and found.points["second"]["int4"] == found.sampled["second", "int4"]
    estimate = found.points["second"]["int4"]
    assert found.bytes({"second": "int4"}) == pytest.approx(estimate.bytes, rel=0.2)
    assert found.error("second", "int4") == pytest.approx(estimate.error, rel=0.3)
    assert found.format("second", "int4") == CodeFormat("scalar", slabs=True)
    code = found.stored_code("second", "int4").tobytes()
    _, parts = slabs.split(CodeFormat("scalar", slabs=True), code)
    hessian = np.load(found.hessians["second"])
    for (start, stop), slab in zip(slabs.row_ranges(40, 64, 1024), parts, strict=True):
        rows = found.weight("second")[start:stop]
        assert slab == encode("int4", rows, hessian, seed=3)


def test_what_was_written_down_is_not_measured_again_and_nothing_is_written_twice(
    model: dict[str, nn.Module], two: Workers, tmp_path: Path
) -> None:
    before = subject(model, tmp_path / "here", two, every=0.0)
    before.checkpoints.cost = 0.0
    before.measure(CODES[:2], 1 << 22)
    before.record_sensitivity("first", 0.25)
    before.checkpoints.every = before.checkpoints.cost = 0.0
    before.record_sensitivity("second", 0.5)
    parts = list(before.checkpoints.parts())
    keys = [key for part in parts for key in part.tensors]
    assert len(keys) == len(set(keys)) == 6 and len(parts) > 1
    with Workers(0) as nobody:  # who could not encode anything
        after = subject(model, tmp_path / "here", nobody)
        after.measure(CODES[:2], 1 << 22)
        assert everything(after) == everything(before) and after.sensitivity == {"first": 0.25, "second": 0.5}


def test_asked_to_stop_it_writes_down_what_it_has_and_goes_on_from_there(
    model: dict[str, nn.Module], two: Workers, tmp_path: Path
) -> None:
    stopping = subject(model, tmp_path / "here", two)
    with Workers(1) as one:
        stopping.workers = one
        record = stopping._record

        def stop_after_three(*what: str) -> None:
            if stopping.records == 2:
                request_stop()
            record(*what)

        stopping._record = stop_after_three  # type: ignore[method-assign]
        try:
            with pytest.raises(Interrupted):
                stopping.measure(CODES, 1 << 22)
        finally:
            clear_stop_request()
    resumed, whole = subject(model, tmp_path / "here", two), subject(model, tmp_path / "there", two)
    assert len(resumed.encoded) == 3
    for found in (resumed, whole):
        found.measure(CODES, 1 << 22)
    assert everything(resumed) == everything(whole)


def test_files_of_decoded_weights_make_room_for_each_other_but_not_within_a_plan(
    model: dict[str, nn.Module], two: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "DECODED", 1)
    found = subject(model, tmp_path / "here", two)
    first = found.decoded(dict.fromkeys(SHAPES, "int4"))
    copies = {path: w.clone() for path, w in first.items()}
    found.decoded(dict.fromkeys(SHAPES, "uniform 1"))
    kept = sum(file.stat().st_size for file in (tmp_path / "here" / "codes").glob("*float32"))
    assert kept <= sum(4 * rows * columns + 128 for rows, columns in SHAPES.values())
    again = found.decoded(dict.fromkeys(SHAPES, "int4"))
    for path, w in copies.items():  # what was handed out stays valid
        assert torch.equal(first[path], w) and torch.equal(again[path], w)


def test_weights_are_decoded_in_the_type_of_the_model(
    model: dict[str, nn.Module], two: Workers, tmp_path: Path
) -> None:
    found = subject(model, tmp_path / "here", two)
    plan = dict.fromkeys(SHAPES, "ectcq 2")
    exact = found.decoded(plan)
    for kind in (torch.bfloat16, torch.float16):
        for path, w in found.decoded(plan, kind).items():
            assert w.dtype == kind and torch.equal(w, exact[path].to(kind))


def test_a_failure_in_a_process_is_said_and_a_process_that_died_is_missed(
    model: dict[str, nn.Module], tmp_path: Path
) -> None:
    with Workers(1) as workers:
        found = subject(model, tmp_path / "here", workers)
        with pytest.raises(PhaseFailed, match="no exact code"):
            found.stored_code("first", "exact")
        workers.processes[0].kill()
        with pytest.raises(PhaseFailed, match="killed: by signal 9"):
            found.stored_code("first", "int4")


def test_the_processes_import_no_torch() -> None:
    script = "import sys; import components.compression.allocation.worker; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_process_ends_with_the_one_that_asked_even_in_the_middle_of_a_job(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.random.default_rng(0).normal(size=(16384, 512)).astype(np.float32))
    script = """
import json, sys, time
from components.compression.allocation.workers import Workers
workers = Workers(1)
job = {"work": "encode", "preset": "trellis 2, L=16", "weight": sys.argv[1], "rows": [0, 16384, 16384], "hessian": None,
       "original": sys.argv[1], "into": None, "seed": 0}
print(json.dumps(job), file=workers.processes[0].stdin, flush=True)
print(workers.processes[0].pid, flush=True)
time.sleep(60)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "w.npy")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = Path("/proc", parent.stdout.readline().strip())
        assert worker.exists()
        time.sleep(1.0)
        parent.kill()
    deadline = time.monotonic() + 60  # the job takes minutes
    while worker.exists() and "Z (zombie)" not in (worker / "status").read_text():
        assert time.monotonic() < deadline, "it works on for nobody"
        time.sleep(0.05)
