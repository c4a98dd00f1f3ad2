"""Networks, and the engine that writes reports with them."""

import os

# Threads of one product that wait for each other sleep instead of spinning: on a machine with other
# work, spinning takes the core that the awaited thread needs. Read when torch is first loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
