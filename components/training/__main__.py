from components.shared.runtime.executor import main

from .phase import Training

raise SystemExit(main(Training))
