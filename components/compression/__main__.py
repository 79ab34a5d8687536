from components.shared.runtime.executor import main

from .phase import Compression

raise SystemExit(main(Compression))
