"""Errors say what, where, why and what to do, and their exit codes are apart."""

from __future__ import annotations

import pickle

import pytest

from components.shared.runtime import errors


def test_an_error_says_what_where_why_and_what_to_do() -> None:
    error = errors.ForgeError("the file is short", where="a/b.bin", why="3 of 4 bytes", fix="fetch it again")
    assert str(error) == "the file is short [a/b.bin]: 3 of 4 bytes. What to do: fetch it again."


def test_an_error_of_one_clause_is_a_sentence() -> None:
    assert str(errors.ForgeError("the file is short")) == "the file is short."
    assert str(errors.ForgeError("really?")) == "really?"


def test_an_error_crosses_a_process_boundary_whole() -> None:
    error = errors.LostRace("lost", where="s3://here", why="slow", fix="run")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 – this is what concurrent.futures does
    assert type(again) is errors.LostRace and str(again) == str(error) and again.fix == "run"


def test_each_kind_of_failure_has_its_own_exit_code() -> None:
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, errors.ForgeError)
        and kind not in (errors.MissingKey, errors.DamagedObject)
    }
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes) == 10 and 0 not in codes
    assert errors.MissingKey.exit_code == errors.StoreError.exit_code
    assert errors.Interrupted.exit_code == 75, "EX_TEMPFAIL: try again"


@pytest.mark.parametrize(
    ("kind", "parent"), [(errors.LostRace, errors.ArtifactError), (errors.MissingKey, errors.StoreError)]
)
def test_who_handles_the_general_error_handles_the_special_one(kind: type, parent: type) -> None:
    assert issubclass(kind, parent)
