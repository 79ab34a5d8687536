from components.shared.runtime.executor import main

from .phase import QuietStar

raise SystemExit(main(QuietStar))
