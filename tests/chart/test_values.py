"""The chart's values: every key is known, described and bounded; what is unknown is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import values_table
from tests.chart.rendering import CHART, Refused, of_kind, render

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


def _objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of the schema that speaks of an object."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path or "/", schema
        for key, part in schema.items():
            yield from _objects(part, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, part in enumerate(schema):
            yield from _objects(part, f"{path}/{number}")


def _leaves(schema: dict[str, Any], values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys that the schema knows by name, against the values that there are."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    properties = schema.get("properties")
    if properties is None or not isinstance(values, dict):
        yield path
        return
    assert set(properties) >= set(values), f"{path}: not in the schema: {set(values) - set(properties)}"
    for key in values:
        yield from _leaves(properties[key], values[key], (*path, key))


def test_the_schema_says_of_every_object_which_keys_it_has() -> None:
    for path, schema in _objects(SCHEMA):
        extra = schema.get("additionalProperties")
        assert extra is False or isinstance(extra, dict), f"{path} takes any key"


def test_the_schema_and_the_values_have_the_same_keys() -> None:
    assert list(_leaves(SCHEMA, VALUES))
    assert set(SCHEMA["properties"]) == set(VALUES)


def test_every_value_has_a_description_in_the_table() -> None:
    described = {key for key, _, _ in values_table.rows((CHART / "values.yaml").read_text())}
    for leaf in _leaves(SCHEMA, VALUES):
        parents = {".".join(leaf[:depth]) for depth in range(1, len(leaf) + 1)}  # requests, under resources
        assert parents & described, f"{'.'.join(leaf)} has no `# --` comment"


def test_the_readme_has_the_table_of_these_values() -> None:
    readme = (CHART / "README.md").read_text()
    written = values_table.with_table(readme, (CHART / "values.yaml").read_text())
    assert readme == written, "python charts/values_table.py writes it"


@pytest.mark.usefixtures("helm")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("objectStore.bukket=x", "'bukket' not allowed"),
        ("networkPolicy.dns.port=53", "'port' not allowed"),
        ("control.service.typ=ClusterIP", "'typ' not allowed"),
        ("nothing=1", "'nothing' not allowed"),
        ("mlflow.enabled=maybe", "/mlflow/enabled"),
        ("control.port=api", "/control/port"),
        ("images.digests.cognate=sha256:abc", "/images/digests/cognate"),
        ("images.digests.cognat=sha256:abc", "'cognat' not allowed"),
        ("objectStore.endpoint=seaweedfs:9000", "/objectStore/endpoint"),
        ("upload.resources.requests.memory=much", "/upload/resources/requests/memory"),
        ("networkPolicy.kubernetesApi.cidrs={anywhere}", "/networkPolicy/kubernetesApi/cidrs"),
        ("podSecurity.userId=0", "/podSecurity/userId"),
        ("cleaning.olderThan=soon", "/cleaning/olderThan"),
    ],
)
def test_what_the_schema_does_not_know_is_refused_by_its_key(wrong: str, said: str) -> None:
    with pytest.raises(Refused, match=re.escape(said)):
        render("defaults", "--set", wrong)


@pytest.mark.usefixtures("helm")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("mlflow.enabled=true", "mlflow.trackingUri=http://mlflow:5000"), "mlflow.trackingUri"),
        (("serviceMonitor.enabled=true",), "serviceMonitor.enabled"),
    ],
)
def test_values_that_contradict_each_other_are_refused_by_name(given: tuple[str, ...], said: str) -> None:
    with pytest.raises(Refused, match=re.escape(said)):
        render("defaults", *(word for value in given for word in ("--set", value)))


def test_no_value_is_a_password() -> None:
    for key, _, default in values_table.rows((CHART / "values.yaml").read_text()):
        assert not re.search(r"password|secretkey|accesskey|apikey", key, re.IGNORECASE), key
        if key.lower().endswith("secret"):
            assert re.fullmatch(r"[a-z0-9.-]*", default), f"{key} is the name of a Secret, and nothing else"


def test_custom_resource_definitions_are_not_in_crds() -> None:
    """helm installs what is there and never upgrades it."""
    assert not (CHART / "crds").exists()
    assert not [
        path for path in Path(CHART / "templates").rglob("*.yaml") if "kind: CustomRes" in path.read_text()
    ]


@pytest.mark.usefixtures("helm")
@pytest.mark.parametrize("address", ["minio://runs/old #2/v2", "s3://runs/a: b", 's3://runs/"x"'])
def test_the_address_that_is_cleaned_is_the_one_that_was_given(address: str) -> None:
    """What YAML took for a comment would leave a shorter address, with more below it to remove."""
    given = ("--set", "cleaning.enabled=true", "--set-string", f"cleaning.address={address}")
    [job] = of_kind(render("defaults", *given), "CronJob")
    [container] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][1] == address


@pytest.mark.usefixtures("helm")
def test_the_name_of_cluster_settings_is_one_argument() -> None:
    objects = render("defaults", "--set", r"upload.enabled=true,upload.cluster=a\, --host=b]")
    [job] = [one for one in of_kind(objects, "Job") if one["metadata"]["name"].endswith("-upload")]
    assert job["spec"]["template"]["spec"]["containers"][0]["args"][-1] == "a, --host=b]"
