from components.shared.runtime.executor import main

from .phase import EvoMerge

raise SystemExit(main(EvoMerge))
