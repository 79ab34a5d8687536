from components.shared.runtime.executor import main

from .phase import BitNet

raise SystemExit(main(BitNet))
