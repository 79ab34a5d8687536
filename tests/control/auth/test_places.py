"""Which places a request may name."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipelines.control.auth.places import allowed_place
from pipelines.control.errors import Refused
from pipelines.control.settings import ControlSettings


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "models").mkdir()
    return ControlSettings(
        runs=tmp_path / "runs", store="s3://forge/runs", places=(str(tmp_path / "models"),)
    )


def test_what_lies_in_a_store_or_folder_of_ours_is_allowed(settings, tmp_path):
    for address in ("s3://forge/runs", "s3://forge/runs/a/b", "minio://forge/runs/a", f"{tmp_path}/runs/a"):
        assert allowed_place(settings, address)
    assert allowed_place(settings, f"{tmp_path}/models/../models/x") == f"{tmp_path}/models/x"


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd", "http://169.254.169.254/latest/meta-data", "http://localhost:8083/", "https://forge/runs",
        "s3://forge/runs2/x", "s3://forge/runs/../secret", "s3://forge", "s3://other/runs", "s3://forge@evil/runs",
        "s3://forge/runs?x=1", "s3://forge/runs#/x", "s3://forge/runs/%2e%2e/x", "s3://forge/runs//x", "S3://FORGE/runs",
        "s3://forge:80/runs", "//etc/passwd", "\\\\host\\share", "~/x", "/etc/passwd", "../../etc", "", "a\0b", "a\nb",
        "gopher://x", "data:text/plain,x", "jar:file:x", "runs/\ud800", "x" * 5000,
    ],
    ids=repr,
)  # fmt: skip
def test_everything_else_is_refused(settings, address):
    with pytest.raises(Refused) as refused:
        allowed_place(settings, address)
    assert refused.value.status == 403


def test_what_the_control_plane_keeps_for_itself_is_refused(settings, tmp_path):
    for address in (
        f"{tmp_path}/runs/control",
        f"{tmp_path}/runs/control/jwt-secret",
        f"{tmp_path}/runs/a/../control/x",
    ):
        with pytest.raises(Refused):
            allowed_place(settings, address)


def test_a_symbolic_link_leads_nowhere(settings, tmp_path):
    os.symlink("/etc", tmp_path / "runs" / "a" / "link")
    with pytest.raises(Refused):
        allowed_place(settings, f"{tmp_path}/runs/a/link/passwd")


@given(st.text())
@hypothesis_settings(max_examples=50, deadline=None)
def test_no_text_makes_it_fail(text):
    try:
        allowed_place(ControlSettings(store="s3://forge/runs"), text)
    except Refused as refused:
        assert refused.status == 403
