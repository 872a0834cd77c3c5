"""`python -m local.fetch`: everything that the tests' servers are made of, into the cache; no test waits for a download."""

import sys

from local import flink_jars, kafka
from local.prerequisites import Missing
from local.prism import prism_binary

if __name__ == "__main__":
    try:
        prism_binary()
        kafka.class_path()
        flink_jars.class_path()
    except Missing as error:
        sys.exit(str(error))
