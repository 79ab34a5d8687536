"""Run phase training: `python -m components.training --help`."""

from components.shared.runtime.entry import start

raise SystemExit(start("training", "Training"))
