"""Several artifacts in one: bound byte for byte, and taken apart again where a phase reads its inputs."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from components.shared.runtime import artifact, bind, bundle, inputs
from components.shared.runtime.errors import ArtifactError, InputError


@pytest.fixture
def models(tmp_path):
    """Two artifacts, and a plain Hugging Face directory."""
    made = []
    for number in range(3):
        folder = tmp_path / f"model-{number}"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        save_file({"w": np.full(4, number, np.float32)}, folder / "model.safetensors")
        if number < 2:
            artifact.seal(folder, kind="model", phase="cognate")
        made.append(folder)
    return made


def request(target, uris=(), models=()):
    given = {
        "artifacts": {"models": {"artifacts": [{"uri": str(model)} for model in models]}},
        "parameterValues": {"uris": [str(uri) for uri in uris]},
    }
    outputs = {
        "artifacts": {"parents": {"artifacts": [{"uri": str(target)}]}},
        "outputFile": str(target) + ".json",
    }
    return json.dumps({"inputs": given, "outputs": outputs})


def read(target):
    return inputs.read(inputs.Request({"models": [str(target)]}, "unused"))["models"]


def test_a_phase_reads_the_members_of_a_bundle_in_the_order_in_which_they_were_bound(tmp_path, models):
    target = tmp_path / "out" / "parents"
    assert (
        bind.main(["--executor-input", request(target, uris=[models[2]], models=[models[1], models[0]])]) == 0
    )
    digests = [
        artifact.read(models[1]).digest,
        artifact.read(models[0]).digest,
        artifact.adopt(models[2]).digest,
    ]
    assert [one.digest for one in read(target)] == digests
    assert artifact.read(target).manifest.parents == digests
    written = json.loads((tmp_path / "out" / "parents.json").read_text())
    assert written["artifacts"]["parents"]["artifacts"][0]["metadata"]["members"] == 3


def test_an_artifact_that_is_no_bundle_is_itself(models):
    assert [one.path for one in read(models[0])] == [models[0]]


def test_the_same_members_give_the_same_bundle_and_binding_twice_is_no_error(tmp_path, models):
    members = [artifact.read(models[0]), artifact.read(models[1])]
    first, again = bundle.bind(members, tmp_path / "a"), bundle.bind(members, tmp_path / "b")
    assert first.digest == again.digest == bundle.bind(members, tmp_path / "a").digest
    assert bundle.bind(members[::-1], tmp_path / "c").digest != first.digest


def test_a_member_that_is_changed_inside_a_bundle_is_refused(tmp_path, models):
    bundle.bind([artifact.read(models[0])], tmp_path / "a")
    (tmp_path / "a" / "0" / "config.json").write_text("[]")
    with pytest.raises(ArtifactError, match=r"0/config\.json"):
        read(tmp_path / "a")


def test_nothing_to_bind_is_refused(tmp_path, capsys):
    with pytest.raises(InputError, match="nothing to bind"):
        bundle.bind([], tmp_path / "a")
    assert bind.main(["--executor-input", request(tmp_path / "a")]) == InputError.exit_code
    assert "nothing to bind" in capsys.readouterr().err
