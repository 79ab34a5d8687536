from components.shared.runtime.entry import start

raise SystemExit(start("adas", "Adas"))
