"""For tests that call a phase's main in their own process. Importing the two fixtures is enough: they are autouse."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.contract import killing


@pytest.fixture(scope="module", autouse=True)
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One MLflow database for all tests here: making one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in killing.quiet(tmp_path_factory.mktemp("mlflow")).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
