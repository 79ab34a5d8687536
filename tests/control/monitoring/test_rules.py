"""rules.yaml, alertmanager.yaml, prometheus.yaml: read, tested and routed by the programs that they are for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from pipelines.control.monitoring import conditions
from pipelines.phases import PHASES
from tests.needs import lacks

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "pipelines" / "control" / "monitoring"
RULES, ROUTES, SCRAPE = (FOLDER / name for name in ("rules.yaml", "alertmanager.yaml", "prometheus.yaml"))
TEST = Path(__file__).with_name("rules_test.yaml")
RUNBOOKS = ROOT / "docs" / "control" / "runbooks.md"
ALL: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    found = shutil.which(program) or lacks(f"{program} is not installed")
    return subprocess.run([found, *map(str, arguments)], capture_output=True, text=True)


def outcome_of(tmp_path: Path, rules: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "rules.yaml").write_text(rules)
    (tmp_path / "test.yaml").write_text(TEST.read_text().replace("RULES", "rules.yaml"))
    return run("promtool", "test", "rules", tmp_path / "test.yaml")


def test_promtool_takes_the_rules_and_they_pass_their_tests(tmp_path: Path) -> None:
    done = run("promtool", "check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    done = outcome_of(tmp_path, RULES.read_text())
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_has_a_test_that_notices_when_it_never_fires(tmp_path: Path) -> None:
    never = re.sub(r"^( +expr:) .+$", r"\1 vector(0) > 1", RULES.read_text(), flags=re.MULTILINE)
    done = outcome_of(tmp_path, never)
    missed = set(re.findall(r"alertname: (\w+)", done.stdout + done.stderr))
    assert done.returncode and missed == {rule["alert"] for rule in ALL}


def test_each_rule_says_how_bad_it_is_what_it_is_and_what_to_do() -> None:
    headings = set(re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE))
    for rule in ALL:
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"] == conditions.runbook(rule["alert"])
    assert headings == {rule["alert"] for rule in ALL}


def test_the_alert_about_memory_asks_for_room_at_four_fifths() -> None:
    rule = next(rule for rule in ALL if rule["alert"] == "high_memory_usage")
    assert rule["expr"] == "agent_forge_memory_usage > 0.8" and rule["labels"]["action"] == "scale_resources"


def test_the_thresholds_are_those_of_this_processs_own_look() -> None:
    expressions = {rule["alert"]: rule["expr"] for rule in ALL}
    assert expressions["high_memory_usage"].endswith(f"> {conditions.MEMORY_USAGE}")
    assert expressions["disk_full"].endswith(f"> {conditions.DISK_USAGE}")
    assert expressions["stuck_progress"].endswith(f"> {conditions.SILENCE_SECONDS:.0f}")
    assert expressions["lease_expired"].endswith(f"> {conditions.LEASE_AGE_SECONDS:.0f}")
    assert expressions["retry_storm"].endswith(f"> {conditions.RETRIES}")
    assert f"> {conditions.QUEUE_SECONDS:.0f} and" in expressions["queue_stuck"]


def test_failures_are_taken_from_every_phase_and_from_nothing_else() -> None:
    (pattern,) = re.findall(
        r'__name__=~"([^"]+)", phase!=""', next(r["expr"] for r in ALL if r["alert"] == "phase_failed")
    )
    assert all(re.fullmatch(pattern, f"agent_forge_{phase}_errors_total") for phase in PHASES)


def test_amtool_takes_the_routes_and_memory_goes_to_the_controller_as_well() -> None:
    done = run("amtool", "check-config", ROUTES)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = {
        (
            "alertname=high_memory_usage",
            "action=scale_resources",
            "severity=warning",
        ): "scale_resources,control-plane",
        ("alertname=phase_failed", "phase=adas", "severity=warning"): "control-plane",
        ("alertname=database_down", "severity=critical"): "control-plane",
        ("alertname=somebody_elses",): "control-plane",
    }
    for labels, receivers in expected.items():
        done = run(
            "amtool",
            "config",
            "routes",
            "test",
            f"--config.file={ROUTES}",
            f"--verify.receivers={receivers}",
            *labels,
        )
        assert done.returncode == 0, (labels, done.stdout, done.stderr)


def test_each_rules_labels_are_those_that_a_route_is_for() -> None:
    for rule in ALL:
        labels = [f"{name}={value}" for name, value in {**rule["labels"], "alertname": rule["alert"]}.items()]
        wanted = "scale_resources,control-plane" if "action" in rule["labels"] else "control-plane"
        done = run(
            "amtool",
            "config",
            "routes",
            "test",
            f"--config.file={ROUTES}",
            f"--verify.receivers={wanted}",
            *labels,
        )
        assert done.returncode == 0, (rule["alert"], done.stdout)


def test_promtool_takes_what_prometheus_shall_read(tmp_path: Path) -> None:
    text = SCRAPE.read_text().replace("/etc/prometheus/forge-key", str(tmp_path / "key"))
    (tmp_path / "key").write_text("fk_")
    (tmp_path / "prometheus.yaml").write_text(text)
    shutil.copy(RULES, tmp_path / "rules.yaml")
    done = run("promtool", "check", "config", tmp_path / "prometheus.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
