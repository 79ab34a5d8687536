"""`make setup`: what of the lock is installed, and which build of torch."""

import http.server
import importlib.util
import re
import threading
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SPECIFICATION = importlib.util.spec_from_file_location("environment", ROOT / "scripts" / "environment.py")
environment = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(environment)

LOCK = environment.read_lock((ROOT / "requirements.lock").read_text())
NOBODY = "http://127.0.0.1:9/whl/cpu"


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture
def index():
    """An index on this machine that offers torch 2.13.0 for CPUs."""

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/whl/cpu/torch/" else 404)
            self.end_headers()
            self.wfile.write(b'<a href="torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl">torch</a>')

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/whl/cpu"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def linux_without_a_gpu(monkeypatch):
    for name in ("TORCH", "TORCH_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment, "has_gpu", lambda: False)
    monkeypatch.setattr(environment.sys, "platform", "linux")


def test_every_entry_of_the_lock_has_hashes():
    assert len(LOCK) > 200
    assert [name for name, entry in LOCK.items() if "--hash=sha256:" not in entry] == []


def test_everything_that_the_project_requires_is_in_the_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    required = [*project["dependencies"], *extras["pipelines"], *extras["docs"], *extras["dev"]]
    names = {normal(re.split(r"[\[>=<~! ]", text)[0]) for text in required} - {"agent-forge"}
    assert names <= set(LOCK), "run: make lock"


def test_an_entry_that_a_marker_splits_is_kept_whole():
    old = "a==1 ; python_full_version < '3.12' \\\n    --hash=sha256:00"
    new = "a==2 ; python_full_version >= '3.12' \\\n    --hash=sha256:11"
    text = f"# three\n{old}\n{new}\nb==3\n"
    assert set(environment.read_lock(text)) == {"a", "b"}
    assert environment.read_lock(text)["a"].count("--hash") == 2


def test_the_version_of_an_entry():
    assert environment.version_of("torch==2.13.0 \\\n    --hash=sha256:00") == "2.13.0"
    assert environment.version_of("torch==2.13.0 ; sys_platform == 'linux' \\\n --hash=sha256:00") == "2.13.0"


def test_the_cpu_build_comes_where_an_index_offers_it(monkeypatch, index):
    monkeypatch.setenv("TORCH_INDEX", index)
    build, line = environment.choose_torch("2.13.0")
    assert build == "cpu" and "2 GB" in line


def test_pypis_build_comes_where_the_index_lacks_the_version_and_a_line_says_how_large(monkeypatch, index):
    monkeypatch.setenv("TORCH_INDEX", index)
    build, line = environment.choose_torch("9.9.9")
    assert build == "cuda" and "6 GB" in line and "none of torch 9.9.9" in line


def test_pypis_build_comes_where_the_index_does_not_answer(monkeypatch):
    monkeypatch.setenv("TORCH_INDEX", NOBODY)
    build, line = environment.choose_torch("2.13.0")
    assert build == "cuda" and f"{NOBODY} does not answer" in line


def test_the_cpu_build_is_not_replaced_where_it_was_asked_for_by_name(monkeypatch):
    monkeypatch.setenv("TORCH_INDEX", NOBODY)
    monkeypatch.setenv("TORCH", "cpu")
    with pytest.raises(environment.Refused, match="TORCH_INDEX"):
        environment.choose_torch("2.13.0")


@pytest.mark.parametrize(("choice", "gpu"), [("cuda", False), ("auto", True), ("", True)])
def test_a_gpu_or_a_word_brings_the_build_with_cuda_and_no_index_is_asked(monkeypatch, choice, gpu):
    monkeypatch.setenv("TORCH_INDEX", NOBODY)
    monkeypatch.setenv("TORCH", choice)
    monkeypatch.setattr(environment, "has_gpu", lambda: gpu)
    build, line = environment.choose_torch("2.13.0")
    assert build == "cuda" and "does not answer" not in line


def test_an_unknown_build_is_refused(monkeypatch):
    monkeypatch.setenv("TORCH", "rocm")
    with pytest.raises(environment.Refused, match="rocm"):
        environment.choose_torch("2.13.0")


def installation(monkeypatch, tmp_path, build):
    """The commands of an installation, none of them run, and the names in the requirements that they were given."""
    commands, names = [], set()

    def run(*command):
        words = [str(word) for word in command]
        commands.append(words)
        if "--requirement" in words:
            text = Path(words[words.index("--requirement") + 1]).read_text()
            names.update(environment.read_lock(text))

    monkeypatch.setattr(environment, "run", run)
    monkeypatch.setattr(environment, "choose_torch", lambda version: (build, build))
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/usr/bin/{name}")
    environment.main(tmp_path / "venv")
    return commands, names


def test_the_cpu_build_comes_first_and_without_the_cuda_libraries(monkeypatch, tmp_path):
    commands, names = installation(monkeypatch, tmp_path, "cpu")
    [torch] = [words for words in commands if any(word.startswith("torch==") for word in words)]
    assert torch[torch.index("--index-url") + 1] == environment.CPU_INDEX
    assert not {name for name in names if re.match("torch|triton|nvidia|cuda", name)}
    assert {"numpy", "kfp", "pytest"} <= names


def test_everything_else_is_installed_by_hash_and_compiled(monkeypatch, tmp_path):
    commands, names = installation(monkeypatch, tmp_path, "cuda")
    [lock] = [words for words in commands if "--requirement" in words]
    assert {"--require-hashes", "--no-deps", "--compile-bytecode"} <= set(lock)
    assert {"torch", "nvidia-cublas"} <= names and "triton" not in names
    assert any("compileall" in words for words in commands)


def test_pip_does_it_where_uv_cannot_be_had(monkeypatch, tmp_path, capsys):
    def run(*command):
        if "--requirement" in command:
            raise environment.subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(environment, "run", run)
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    installer, compiled = environment.make_venv(tmp_path / "venv", LOCK["uv"])
    assert "pip" in installer and "uv" not in installer and not compiled
    assert "pip installs" in capsys.readouterr().out
