"""Every object, checked against Kubernetes' own schemas: strict, so a misspelt field is an error."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from tests.chart.rendering import CHART, TABLE, Refused, identity, render

VERSIONS = ("1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35")
CUSTOM = ("monitoring.coreos.com/v1",)
"""Kinds of others, of which Kubernetes has no schema."""


@pytest.fixture(autouse=True, scope="module")
def read_once() -> Any:
    """The package reads a schema's file, megabytes of it, for each object; once each is enough."""
    import functools

    original = kubernetes_validate.utils.schema_contents
    kubernetes_validate.utils.schema_contents = functools.cache(original)
    yield
    kubernetes_validate.utils.schema_contents = original


@pytest.mark.usefixtures("helm")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("table", TABLE)
def test_kubernetes_knows_every_field(table: str, version: str) -> None:
    for thing in render(table):
        if thing["apiVersion"] in CUSTOM:
            continue
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(step) for step in error.path)
            pytest.fail(f"{identity(thing)}: {path}: {error.message}")


def test_one_rendering_stands_for_all_versions() -> None:
    for path in (CHART / "templates").rglob("*"):
        assert path.is_dir() or ".Capabilities" not in path.read_text(), (
            f"{path} asks which Kubernetes it is for"
        )


def test_a_misspelt_field_is_found() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c"}]},
    }
    kubernetes_validate.validate(pod, "1.35", strict=True)
    pod["spec"]["serviceAcountName"] = "x"  # type: ignore[index]
    with pytest.raises(kubernetes_validate.ValidationError, match="serviceAcountName"):
        kubernetes_validate.validate(pod, "1.35", strict=True)


@pytest.mark.usefixtures("helm")
def test_an_older_kubernetes_is_refused() -> None:
    with pytest.raises(Refused, match=r"kubeVersion: >=1\.29"):
        render("defaults", "--kube-version", "1.28")
