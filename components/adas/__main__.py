"""Run phase adas: `python -m components.adas --help`."""

from components.shared.runtime.entry import start

raise SystemExit(start("adas", "Adas"))
