"""Which image a component names: by the environment, by the lock, by the registry, by the local tag, in this order."""

import json

import pytest

from components.shared.image import image
from components.shared.runtime.code import VERSION
from components.shared.runtime.errors import ConfigError

DIGEST = f"sha256:{'5e' * 32}"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    """No setting of this machine, and no lock."""
    for name in ("AGENT_FORGE_IMAGE_BITNET", "AGENT_FORGE_REGISTRY", "AGENT_FORGE_LOCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("components.shared.image.LOCK", tmp_path / "images.lock")


@pytest.fixture
def lock(tmp_path):
    """Writes the lock."""
    return lambda content: (tmp_path / "images.lock").write_text(json.dumps(content))


def test_without_any_setting_the_name_is_one_that_no_public_registry_can_hand_out():
    registry, _, rest = image("bitnet").partition("/")
    assert (
        registry == "localhost"
    )  # a first part that is "localhost", or has a dot or colon, is a host, not a user
    assert rest == f"agent-forge/bitnet:{VERSION}"


def test_the_registry_of_the_project_is_one_setting(monkeypatch):
    monkeypatch.setenv("AGENT_FORGE_REGISTRY", "registry.example/acme/agent-forge/")
    assert image("forge") == f"registry.example/acme/agent-forge/forge:{VERSION}"


def test_a_lock_pins_by_digest_and_overrules_the_registry(monkeypatch, lock):
    monkeypatch.setenv("AGENT_FORGE_REGISTRY", "registry.example/acme")
    lock({"bitnet": f"registry.example/other/bitnet@{DIGEST}"})
    assert image("bitnet") == f"registry.example/other/bitnet@{DIGEST}"


def test_the_image_of_one_phase_overrules_the_lock(monkeypatch, lock):
    lock({"bitnet": f"registry.example/other/bitnet@{DIGEST}"})
    monkeypatch.setenv("AGENT_FORGE_IMAGE_BITNET", "registry.example/mine:7")
    assert image("bitnet") == "registry.example/mine:7"


def test_another_lock_can_be_named_and_none_at_all(monkeypatch, lock, tmp_path):
    lock({"bitnet": f"registry.example/other/bitnet@{DIGEST}"})
    (tmp_path / "cpu.lock").write_text(json.dumps({"bitnet": f"registry.example/cpu/bitnet@{DIGEST}"}))
    monkeypatch.setenv("AGENT_FORGE_LOCK", str(tmp_path / "cpu.lock"))
    assert image("bitnet") == f"registry.example/cpu/bitnet@{DIGEST}"
    monkeypatch.setenv("AGENT_FORGE_LOCK", "")
    assert image("bitnet") == f"localhost/agent-forge/bitnet:{VERSION}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"adas": f"registry.example/adas@{DIGEST}"}, "no image 'bitnet' in the lock"),
        ({"bitnet": "registry.example/bitnet:0.1.0"}, "does not pin"),
        ({"bitnet": "registry.example/bitnet@sha256:5e"}, "does not pin"),
        ([], "cannot be read"),
    ],
)
def test_a_lock_that_does_not_pin_is_refused_and_not_passed_over(lock, content, problem):
    lock(content)
    with pytest.raises(ConfigError, match=problem) as refusal:
        image("bitnet")
    assert "images.lock" in str(refusal.value) and "make images-push" in str(refusal.value)


def test_a_lock_that_is_named_and_missing_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("AGENT_FORGE_LOCK", str(tmp_path / "nowhere.lock"))
    with pytest.raises(ConfigError, match="cannot be read"):
        image("bitnet")
