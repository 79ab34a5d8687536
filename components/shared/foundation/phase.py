"""Phase 0: a base model becomes an artifact, from which every variant starts."""

from __future__ import annotations

from components.shared.base_models.address import Address, address
from components.shared.base_models.prepare import DTYPES, prepare
from components.shared.runtime.artifact.base_models import KEY
from components.shared.runtime.errors import ConfigError, InputError
from components.shared.runtime.phase import Phase

from .component import FOUNDATION
from .settings import Settings

__all__ = ["Foundation"]


class Foundation(Phase[Settings], spec=FOUNDATION):
    """Fetches the model that `base_model` names, checks it, and publishes it as it is, or in another `dtype`."""

    def validate_input(self) -> None:
        """There is such a model, as far as that can be said without fetching it, and such a dtype."""
        self.base: Address = address(str(self.run.parameters.get("base_model", "")))
        self.dtype = str(self.run.parameters.get("dtype", ""))
        if self.run.inputs:
            raise InputError("the foundation starts from an address", where="inputs", fix="give no artifact")
        if self.dtype and self.dtype not in DTYPES:
            raise ConfigError(
                f"there is no dtype {self.dtype!r}",
                where="parameter dtype",
                fix=f"one of {', '.join(DTYPES)}",
            )

    def execute(self) -> None:
        """Fetch, check, write; say where it is from."""
        facts = prepare(
            self.base, self.run.output, self.run.work, dtype=self.dtype, progress=self.run.progress
        )
        notes = facts.pop("notes", [])
        self.run.extra |= {KEY: [facts], "notes": notes, "card_as_given": True}
        self.run.progress.note(
            f"{facts['source']}{'@' + facts['revision'] if facts.get('revision') else ''}, licence"
            f" {facts['licence'] or 'unknown'}"
        )

    def get_metrics(self) -> dict[str, float]:
        """Nothing is measured here: the phases after it do."""
        return {}
