"""Writes the next step of the database: what the tables have that the steps so far do not make.

    python -m scripts.migration "Runs have a colour"

The new file below pipelines/control/store/migrations/versions is read and corrected by hand before it is committed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine

from pipelines.control.store.migrate import MIGRATIONS, configuration


def main(message: str) -> None:
    """Write the step.

    :param message: what it does, a clause; the file's name and its docstring.
    """
    number = len(list((MIGRATIONS / "versions").glob("[0-9]*.py"))) + 1
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'empty.db'}")
        with engine.begin() as connection:
            config = configuration(connection)
            command.upgrade(config, "head")
            step = command.revision(config, message, autogenerate=True, rev_id=f"{number:04d}")
        engine.dispose()
    path = Path(step.path)  # of one revision it makes one script
    kept = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("# ###")]
    path.write_text("\n".join(kept) + "\n")
    subprocess.run([sys.executable, "-m", "ruff", "format", path], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
