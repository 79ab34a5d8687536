from components.shared.runtime.executor import main

from .phase import Baking

raise SystemExit(main(Baking))
