"""Staying with a Kubeflow run: what networks do on the way is survived, and each end has its exit code."""

import io

import pytest
from rich.console import Console

from pipelines.cli.rendering.live import LiveView
from pipelines.kubeflow.follow import wait
from pipelines.kubeflow.http import Access
from pipelines.kubeflow.server import Server
from pipelines.kubeflow.state.run import Watcher
from tests.pipeline.kubeflow.kubeflow_server import RUN, detail, run
from tests.pipeline.kubeflow.kubernetes_server import ended, pod

FAILED = [
    run("RUNNING", detail("quietstar", "RUNNING")),
    run("FAILED", detail("evomerge", "SUCCEEDED"), detail("quietstar", "FAILED")),
]


@pytest.fixture
def follow(kubeflow, forge, clock):
    """`forge status --follow` of the run that goes through `states`."""

    def call(*states, timeout=600):
        kubeflow.runs[RUN] = list(states)
        return forge("status", RUN, "--host", kubeflow.host, "--follow", "--timeout", timeout)

    return call


@pytest.mark.parametrize("fault", ["drop", "page502", 503, "cut", 404])
def test_a_connection_that_is_gone_for_a_while_is_survived_and_said_once(kubeflow, follow, clock, fault):
    kubeflow.faults = [None, *[fault] * 8]
    code, text = follow(run("RUNNING"), run("SUCCEEDED"), timeout=3600)
    assert code == 0, text
    assert text.count("; the run goes on, asking again until --timeout") == 1
    assert text.count("the server answers again") == 1
    assert "Traceback" not in text
    assert max(clock.slept) == 60 and clock.slept[-1] == 60  # less and less often


def test_a_run_that_is_deleted_meanwhile_is_not_waited_for_until_the_timeout(kubeflow, follow, clock):
    kubeflow.faults, kubeflow.always = [None], 404
    code, text = follow(run("RUNNING"), timeout=604800)
    assert code == 6 and "Traceback" not in text, text
    assert sum(clock.slept) < 1200


def test_a_server_that_hangs_while_waiting_is_survived(kubeflow, follow, monkeypatch):
    monkeypatch.setattr(Server.__init__, "__kwdefaults__", {"seconds": (1.0, 0.2)})
    kubeflow.faults = [None, "hang"]
    code, text = follow(run("RUNNING"), run("SUCCEEDED"))
    assert code == 0 and "timed out" in text


def test_a_server_that_stays_away_until_the_timeout_has_an_exit_code_of_its_own(kubeflow, follow):
    kubeflow.faults, kubeflow.always = [None], "drop"
    code, text = follow(run("RUNNING"), timeout=60)
    assert code == 5
    assert "the run goes on" in text and f"forge status {RUN} --follow --host {kubeflow.host}" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("fault", [401, "html", "redirect"])
def test_a_token_that_expires_ends_with_what_happened_and_how_to_look_again(kubeflow, follow, clock, fault):
    kubeflow.faults, kubeflow.always = [None], fault
    code, text = follow(run("RUNNING"))
    assert code == 5
    assert "does not know us any more; the run goes on" in text
    assert "--token" in text and f"forge status {RUN}" in text
    assert len(clock.slept) == 1  # asking again would not help


@pytest.mark.parametrize("state", ["CANCELED", "CANCELLED", "CANCELING", "CANCELLING"])
def test_a_run_that_somebody_cancels_is_an_end(follow, clock, state):
    code, text = follow(run("RUNNING"), run(state))
    assert code == 75 and "the run was cancelled" in text
    assert len(clock.slept) == 1


def test_a_terminated_run_that_kfp_calls_failed_was_cancelled(follow):
    history = [{"state": one} for one in ("PENDING", "RUNNING", "CANCELING", "FAILED")]
    assert follow(run("FAILED", state_history=history))[0] == 75


def test_a_skipped_run_is_an_end(follow):
    assert follow(run("SKIPPED"))[0] == 0


def test_a_run_that_still_goes_on_at_the_timeout_says_so(follow):
    code, text = follow(run("RUNNING"), timeout=20)
    assert code == 124 and "it goes on" in text and f"forge status {RUN}" in text


def test_ctrl_c_ends_the_looking_and_says_that_the_run_goes_on(kubeflow, follow, clock, monkeypatch):
    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(clock, "sleep", stop)
    code, text = follow(run("RUNNING"))
    assert code == 130 and "the run goes on" in text and f"forge cancel {RUN}" in text
    assert kubeflow.calls == []


def test_a_failed_run_names_the_task_its_last_lines_and_its_page(kubeflow, kubernetes, follow):
    kubernetes.pods = [pod("quietstar", "Failed", attempt=0, state=ended(1, "OOMKilled"))]
    kubernetes.logs[kubernetes.pods[0]["metadata"]["name"]] = "step 1\nMemoryError: too large\n"
    code, text = follow(*FAILED)
    assert code == 9
    assert "the run has failed in quietstar" in text
    assert "exit code 1 (OOMKilled)" in text
    assert "    MemoryError: too large" in text
    assert f"{kubeflow.host}/#/runs/details/{RUN}" in text
    assert f"forge logs {RUN} --task quietstar" in text and f"forge retry {RUN}" in text


def test_a_run_that_failed_without_a_task_says_what_kfp_says(follow):
    code, text = follow(run("FAILED", error={"code": 3, "message": "spec.serviceAccountName: not found"}))
    assert code == 9 and "serviceAccountName: not found" in text


def test_each_change_is_a_line_where_there_is_no_terminal(follow):
    code, text = follow(
        run("PENDING"),
        run("RUNNING", detail("cognate-trunk", "RUNNING")),
        run("RUNNING", detail("cognate-trunk", "RUNNING")),
        run("SUCCEEDED", detail("cognate-trunk", "SUCCEEDED")),
    )
    assert code == 0, text
    assert text.count("cognate-trunk: running") == 1 and text.count("cognate-trunk: succeeded") == 1


def test_on_a_terminal_the_phases_are_drawn_while_they_run(kubeflow, clock):
    kubeflow.runs[RUN] = [run("RUNNING", detail("quietstar", "RUNNING")), run("SUCCEEDED")]
    kubeflow.faults = [None, "drop"]
    screen = Console(force_terminal=True, width=120, file=io.StringIO())
    watcher = Watcher.of(Server(Access(kubeflow.host)), RUN)
    with LiveView(screen) as view:
        assert wait(watcher, view.show, view.say, timeout=600).state == "succeeded"
    text = screen.file.getvalue()
    assert "first · running" in text and "quietstar" in text and "does not answer" in text
