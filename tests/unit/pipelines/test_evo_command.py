"""`forge evo` is phase evomerge with its settings given as options."""

from components.evomerge.settings import Settings
from components.shared.runtime.config.compose import compose
from components.shared.runtime.request.command_line import parse
from pipelines.cli.models.evo import arguments


def test_the_options_are_settings_of_the_phase_and_overrides_win(tmp_path) -> None:
    words = arguments(
        ["A", "s3://bucket/B"],
        "D",
        base=str(tmp_path / "my base"),
        generations=50,
        population=6,
        islands=2,
        profile="tiny",
        seed=3,
        overrides=["evomerge.population=10"],
    )
    request = parse("evomerge", "", words)
    assert [uri for uri in words if uri in ("A", "s3://bucket/B")] == ["A", "s3://bucket/B"]
    settings = compose("evomerge", Settings, profile="tiny", overrides=request.overrides).settings
    assert (settings.generations, settings.population, settings.islands) == (50, 10, 2)
    assert settings.base == str(tmp_path / "my base")
