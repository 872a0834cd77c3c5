"""Makes model bundles from behaviour logs. Inference sees nothing of it but the bundle.

Waiting threads sleep instead of spinning (it must be said before torch is loaded): beside one busy core a step on two
spinning threads took 30 s, on two sleeping ones 1.5 s.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
