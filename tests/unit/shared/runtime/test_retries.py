"""What may pass is tried again after growing pauses; what will not is the failure of the first attempt."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as aws

from components.shared.runtime import retries as retries_module
from components.shared.runtime import stopping
from components.shared.runtime.errors import ConfigError, Interrupted, MissingKey, StoreError
from components.shared.runtime.retries import Retries, with_retries
from components.shared.runtime.store.folder import FolderStore
from components.shared.runtime.store.uri import open_store


@pytest.fixture(autouse=True)
def nobody_asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("FORGE_RETRIES", "FORGE_RETRY_SECONDS", "FORGE_RETRY_FACTOR"):
        monkeypatch.delenv(name, raising=False)
    stopping.clear_stop_request()
    yield
    stopping.clear_stop_request()


class Clock:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retries_module, "time", clock)
    return clock


def fails(times: int, *, transient: bool = True) -> Any:
    left = [times]

    def work() -> str:
        if left[0]:
            left[0] -= 1
            raise StoreError("the store does not answer", why="two\nlines", transient=transient)
        return "done"

    return work


def test_pauses_grow_and_each_attempt_is_one_line_with_its_reason(clock: Clock) -> None:
    said: list[str] = []
    assert with_retries(fails(3), Retries(3, 10.0, 3.0), said.append) == "done"
    assert clock.now == pytest.approx(10 + 30 + 90)
    assert said[0].startswith("attempt 1 of 4 failed: the store does not answer: two lines.")
    assert [line.rsplit("in ", 1)[1] for line in said] == ["10 s.", "30 s.", "90 s."]
    assert not any("\n" in line for line in said)


def test_after_the_last_attempt_the_failure_stands(clock: Clock) -> None:
    said: list[str] = []
    with pytest.raises(StoreError):
        with_retries(fails(3), Retries(2, 1.0, 1.0), said.append)
    assert len(said) == 2


def test_what_will_not_pass_is_not_tried_again(clock: Clock) -> None:
    said: list[str] = []
    with pytest.raises(StoreError):
        with_retries(fails(1, transient=False), Retries(5), said.append)
    assert said == [] and clock.now == 0


def test_nothing_is_tried_again_unless_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Retries.from_environment() == Retries(0, 30.0, 2.0)
    monkeypatch.setenv("FORGE_RETRIES", "2")
    monkeypatch.setenv("FORGE_RETRY_SECONDS", "1.5")
    monkeypatch.setenv("FORGE_RETRY_FACTOR", "4")
    assert Retries.from_environment() == Retries(2, 1.5, 4.0)


@pytest.mark.parametrize(
    ("name", "text"),
    [("RETRIES", "1.5"), ("RETRY_SECONDS", "soon"), ("RETRY_SECONDS", "nan"), ("RETRY_FACTOR", "0.5")],
)
def test_a_wrong_number_is_refused_by_name(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"FORGE_{name}", text)
    with pytest.raises(ConfigError, match=f"FORGE_{name} is '{text}'"):
        Retries.from_environment()


def test_asked_to_stop_during_an_attempt_that_fails_it_is_not_tried_again(clock: Clock) -> None:
    def work() -> None:
        stopping.request_stop()
        fails(1)()

    with pytest.raises(Interrupted):
        with_retries(work, Retries(5), print)
    assert clock.now == 0


def test_asked_to_stop_during_a_pause_it_ends_before_the_pause_does(clock: Clock) -> None:
    sleep = clock.sleep

    def asked_on_the_way(seconds: float) -> None:
        sleep(seconds)
        if clock.now > 5:
            stopping.request_stop()

    clock.sleep = asked_on_the_way  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        with_retries(fails(1), Retries(5, 1000.0), print)
    assert clock.now < 6


def refused(code: str, status: int) -> aws.ClientError:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return aws.ClientError(answer, "PutObject")


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (refused("SlowDown", 503), True),
        (refused("InternalError", 500), True),
        (refused("503", 503), True),
        (refused("RequestTimeout", 400), True),
        (refused("TooManyRequests", 429), True),
        (aws.EndpointConnectionError(endpoint_url="http://x"), True),
        (aws.ReadTimeoutError(endpoint_url="http://x"), True),
        (aws.ConnectionClosedError(endpoint_url="http://x"), True),
        (ConnectionResetError("reset"), True),
        (aws.SSLError(endpoint_url="http://x", error="certificate"), False),
        (refused("AccessDenied", 403), False),
        (refused("InvalidAccessKeyId", 403), False),
        (refused("NoSuchBucket", 404), False),
        (refused("NotImplemented", 501), False),
        (refused("NoSuchKey", 404), False),
        (aws.NoCredentialsError(), False),
        (PermissionError("here"), False),
        (ValueError("Invalid endpoint: x"), False),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_store_says_whether_its_trouble_may_pass(error: Exception, transient: bool, s3_uri: str) -> None:
    with pytest.raises(StoreError) as caught, open_store(s3_uri)._translated_errors("key"):  # type: ignore[attr-defined]
        raise error
    assert caught.value.transient is transient


@pytest.mark.parametrize(("number", "transient"), [(errno.ESTALE, True), (errno.ENOSPC, False)])
def test_a_folder_says_so_too(number: int, transient: bool, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught, FolderStore(tmp_path)._translated_errors("key"):
        raise OSError(number, os.strerror(number))
    assert caught.value.transient is transient


def test_a_key_that_is_not_there_will_not_come_by_waiting(s3_uri: str) -> None:
    with pytest.raises(MissingKey) as caught:
        open_store(s3_uri).get("nothing")
    assert not caught.value.transient
