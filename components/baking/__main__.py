"""Run phase baking: `python -m components.baking --help`."""

from components.shared.runtime.entry import start

raise SystemExit(start("baking", "Baking"))
