"""`python -m components.evomerge`: phase evomerge by hand or in a pod."""

from components.shared.runtime.entry import start

raise SystemExit(start("evomerge", "EvoMerge"))
