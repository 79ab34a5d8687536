"""`python -m components.compression`: the phase's command."""

from components.shared.runtime.entry import start

raise SystemExit(start("compression", "Compression"))
