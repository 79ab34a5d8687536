"""Run phase cognate: `python -m components.cognate --help`."""

from components.shared.runtime.entry import start

raise SystemExit(start("cognate", "Cognate"))
