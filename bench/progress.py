"""What a benchmark says while it runs."""

import logging
import sys


def show_progress() -> None:
    """Rounds on stderr. `force`: Beam's import warns before, and so has taken the root logger."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr, force=True)
    logging.getLogger("kafka").setLevel(logging.WARNING)
