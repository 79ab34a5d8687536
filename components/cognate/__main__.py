from components.shared.runtime.executor import main

from .phase import Cognate

raise SystemExit(main(Cognate))
