"""What `make attack-api` tries, but for the attacks that take long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attack_api.attack import Attack
from tests.attack_api.registry import attacks
from tests.attack_api.target import Target, standing


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with standing(tmp_path_factory.mktemp("attack-api")) as stands:
        yield stands


@pytest.mark.parametrize("attack", [attack for attack in attacks() if not attack.slow], ids=str)
def test_an_attack_is_refused(target: Target, attack: Attack) -> None:
    attack.attempt(target)
