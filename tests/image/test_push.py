"""Images pushed to a real registry are pinned: the compiled pipeline names what was pushed, also after a tag has moved."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.shared.runtime.code import VERSION
from pipelines.phases import PHASES
from tests import needs

ROOT = Path(__file__).resolve().parents[2]
NAMES = (*PHASES, "forge")


def run(*command, **environment):
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def registry():
    """An empty registry on this machine."""
    crane = shutil.which("crane") or needs.lacks("crane is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [crane, "registry", "serve", "--address", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL
    )
    while True:
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert server.poll() is None, "the registry did not start"
        time.sleep(0.05)
    yield f"127.0.0.1:{port}/acme/agent-forge"
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Builds images of one file each, in a store of their own: content → environment that leads to that store."""
    if not shutil.which("buildah"):
        needs.lacks("buildah is not installed")
    folder = tmp_path_factory.mktemp("images")
    settings = f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run"\n'
    (folder / "storage.conf").write_text(settings)
    environment = {
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"), "BUILDAH_ISOLATION": "chroot", "BUILDER": "buildah",
    }  # fmt: skip
    if subprocess.run(
        ["buildah", "images"], env={**os.environ, **environment}, capture_output=True
    ).returncode:
        needs.lacks("buildah does not work for this user")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY content /content\n")

    def build(content, *names):
        for name in names:
            (folder / "content").write_text(f"{name} {content}")
            run("buildah", "build", "--tag", f"localhost/toy/{name}:{VERSION}", str(folder), **environment)
        return environment

    return build


def push(registry, lock, environment, *names):
    options = ["--registry", registry, "--source", "localhost/toy", "--lock", str(lock), "--plain-http"]
    return run(sys.executable, "images/push.py", *options, *names, **environment)


def test_a_compiled_pipeline_names_the_digests_that_were_pushed_also_after_the_tags_have_moved(
    registry, images, tmp_path
):
    lock, compiled = tmp_path / "images.lock", tmp_path / "pipeline.yaml"
    push(registry, lock, images("first", *NAMES))
    pinned = json.loads(lock.read_text())
    for name in NAMES:
        assert (
            pinned[name]
            == f"{registry}/{name}@{run('crane', 'digest', '--insecure', f'{registry}/{name}:{VERSION}')}"
        )

    push(registry, tmp_path / "other.lock", images("second", "bitnet"), "bitnet")
    moved = run("crane", "digest", "--insecure", f"{registry}/bitnet:{VERSION}")
    assert pinned["bitnet"] != f"{registry}/bitnet@{moved}"

    run(sys.executable, "-m", "pipelines.cli", "compile", "-o", str(compiled), AGENT_FORGE_LOCK=str(lock))
    named = set(re.findall(r"image: (\S+)", compiled.read_text()))
    assert named == set(pinned.values())
    run("crane", "export", "--insecure", pinned["bitnet"], str(tmp_path / "bitnet.tar"))
    assert (
        run("tar", "--extract", "--to-stdout", "--file", str(tmp_path / "bitnet.tar"), "content")
        == "bitnet first"
    )


def test_one_image_pushed_again_leaves_the_others_pinned_as_they_were(registry, images, tmp_path):
    lock = tmp_path / "images.lock"
    environment = images("third", "adas", "forge")
    push(registry, lock, environment, "adas", "forge")
    before = json.loads(lock.read_text())
    push(registry, lock, images("fourth", "forge"), "forge")
    after = json.loads(lock.read_text())
    assert after["adas"] == before["adas"] and after["forge"] != before["forge"]


def test_a_registry_that_is_not_there_leaves_the_lock_as_it_was(images, tmp_path):
    lock = tmp_path / "images.lock"
    lock.write_text("{}")
    options = [
        "--registry",
        "127.0.0.1:1/acme",
        "--source",
        "localhost/toy",
        "--lock",
        str(lock),
        "--plain-http",
        "adas",
    ]
    done = subprocess.run(
        [sys.executable, "images/push.py", *options],
        cwd=ROOT, env={**os.environ, **images("fifth", "adas")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 5 and "the image was not pushed [127.0.0.1:1/acme/adas" in done.stderr
    assert lock.read_text() == "{}"


@pytest.mark.parametrize(
    ("registry", "builder", "why"),
    [
        ("", "podman", "no registry"),
        ("https://ghcr.io/acme", "podman", "no registry"),
        ("ghcr.io/acme", "kaniko", "BUILDER is"),
    ],
)
def test_what_cannot_be_pushed_to_is_said_before_anything_is_pushed(registry, builder, why, tmp_path):
    done = refused("--registry", registry, "--lock", str(tmp_path / "lock"), builder=builder)
    assert why in done and not (tmp_path / "lock").exists()


@pytest.mark.parametrize("text", ["not json", "5", "[1]"])
def test_a_lock_that_cannot_be_read_is_said_before_anything_is_pushed(text, tmp_path):
    (tmp_path / "lock").write_text(text)
    assert "cannot be read" in refused("--registry", "ghcr.io/acme", "--lock", str(tmp_path / "lock"), "adas")
    assert (tmp_path / "lock").read_text() == text


def refused(*options, builder="podman"):
    """What is said without any program that could push."""
    environment = {**os.environ, "PATH": "/nowhere", "BUILDER": builder}
    command = [sys.executable, "images/push.py", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def test_two_names_in_one_word_are_no_image():
    done = subprocess.run(
        ["images/build.sh", "adas baking"],
        cwd=ROOT,
        env={**os.environ, "BUILDER": "none"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "no image 'adas baking'" in done.stderr
