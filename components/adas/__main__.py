from components.shared.runtime.executor import main

from .phase import Adas

raise SystemExit(main(Adas))
