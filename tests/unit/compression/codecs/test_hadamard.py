"""The Hadamard transform is orthogonal for any size, makes weights normal, and gives a codec its figure back."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.compression.codecs import hadamard, trellis
from components.compression.codecs.encoding import decode, encode, format_of
from components.compression.coding.hessian import weighted_error
from components.shared.models.remote_code.transform_hadamard import hadamard as transform
from components.shared.models.remote_code.transform_hadamard import signs, transform_matrix, transform_rows
from components.shared.models.travelling_code import decoder_files, travelling_code


def kurtosis(x: np.ndarray) -> float:
    """3 for normal values."""
    return float((x**4).mean() / (x**2).mean() ** 2)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(0, 40), columns=st.integers(0, 70), seed=st.integers(0, 4095))
def test_turning_back_gives_the_matrix_again_and_keeps_its_squares(
    rows: int, columns: int, seed: int
) -> None:
    matrix = np.random.default_rng(seed).normal(size=(rows, columns))
    turned = transform_matrix(matrix, seed)
    assert np.allclose(transform_matrix(turned, seed, inverse=True), matrix, atol=1e-12)
    assert np.isclose((turned**2).sum(), (matrix**2).sum())


def test_the_transform_is_sylvesters() -> None:
    two = np.array([[1.0, 1.0], [1.0, -1.0]])
    assert np.allclose(transform(np.eye(8)), np.kron(two, np.kron(two, two)) / np.sqrt(8))


def test_signs_are_splitmix64s() -> None:
    z, expected = 5 << 32, []
    for _ in range(100):
        z = (z + 0x9E3779B97F4A7C15) % 2**64
        x = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        expected.append(-1 if (x ^ x >> 31) >> 63 else 1)
    assert signs(5, 100).tolist() == expected
    assert abs(signs(1, 1 << 16).mean()) < 0.02 and abs((signs(1, 1 << 16) * signs(2, 1 << 16)).mean()) < 0.02


@pytest.mark.parametrize("shape", [(256, 256), (200, 384), (48, 100)])
def test_loud_columns_and_heavy_tails_become_normal(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    loud = rng.normal(size=shape)
    loud[:, :2] *= 10
    loud[:1] *= 10
    assert kurtosis(loud) > 20 and kurtosis(transform_matrix(loud, 1)) < 3.6
    assert kurtosis(transform_matrix(rng.standard_t(4, shape), 1)) < 3.2


def test_a_codec_for_normal_weights_keeps_its_figure_on_heavy_tails_and_loud_columns() -> None:
    rng = np.random.default_rng(1)
    normal, student = rng.normal(size=(256, 256)), rng.standard_t(4, (256, 256))
    loud = rng.normal(size=(256, 256))
    loud[:, ::86] *= 10

    def gap(w: np.ndarray) -> float:
        w = w.astype(np.float32)
        code = hadamard.encode(w, None, lambda turned, h: trellis.encode(turned, h, memory=10, group=256))
        distortion = ((hadamard.decode(code, trellis.decode) - w) ** 2).mean() / (w**2).mean()
        return float(10 * np.log10(distortion) + 6.0206 * 8 * len(code) / w.size)

    figure = gap(normal)
    assert gap(student) < figure + 0.15 and gap(loud) < figure + 0.15
    plain = trellis.encode(loud.astype(np.float32), memory=10, group=256)
    assert ((trellis.decode(plain) - loud) ** 2).mean() / (loud**2).mean() > 2 * 0.08


def test_the_hessian_is_transformed_with_the_weights() -> None:
    rng = np.random.default_rng(2)
    x, w = (
        rng.normal(size=(300, 24)) @ rng.normal(size=(24, 24)),
        rng.normal(size=(16, 24)).astype(np.float32),
    )
    hessian = x.T @ x
    seen = {}

    def inner(turned: np.ndarray, h: np.ndarray | None) -> bytes:
        seen["error"] = weighted_error(turned, 0 * turned, h)
        return b""

    hadamard.encode(w, hessian, inner, seed=9)
    assert seen["error"] == pytest.approx(weighted_error(w, 0 * w, hessian), rel=1e-5)
    assert np.allclose(transform_rows(transform_rows(hessian, 3, False), 3, True), hessian)


@pytest.mark.parametrize("name", ["hadamard ectcq 2", "trellis 2", "vptq 2"])
def test_what_travels_with_an_artifact_decodes_its_codes_and_holds_no_other_decoder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    format = format_of(name)
    folder = tmp_path / f"artifact_{name.replace(' ', '_')}"
    folder.mkdir()
    for module, source in travelling_code("decoders", decoder_files(format.spec())).items():
        (folder / f"{module}.py").write_text(source)
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    decoders = importlib.import_module(f"{folder.name}.decoders")
    assert set(decoders.DECODERS) == {format.codec}
    assert set(getattr(decoders, "TRANSFORMS", {})) == ({format.transform} if format.transform else set())
    w = np.random.default_rng(3).normal(size=(40, 30)).astype(np.float32)
    code = encode(name, w, None, seed=5)
    weight = decoders.decode(format.spec() | {"shape": [40, 30]}, code)
    assert np.array_equal(weight, decode(format, code, w.shape))
