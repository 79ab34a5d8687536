"""Run phase bitnet: `python -m components.bitnet --help`."""

from components.shared.runtime.entry import start

raise SystemExit(start("bitnet", "BitNet"))
