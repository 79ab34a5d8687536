"""Run phase quietstar: `python -m components.quietstar --help`."""

from components.shared.runtime.entry import start

raise SystemExit(start("quietstar", "QuietStar"))
