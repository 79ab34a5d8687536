"""Run the foundation: `python -m components.shared.foundation --help`."""

from components.shared.runtime.entry import start

raise SystemExit(start("shared.foundation", "Foundation"))
