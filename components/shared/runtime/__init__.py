"""How a phase runs: configuration, artifacts, stores, checkpoints, progress, tracking and gates."""

import os

# OpenMP's threads otherwise spin while they wait: two phases on two cores were ten times slower. It is read
# when torch is loaded, so it has to be set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
