"""The nearline job with an engine that answers at once, a list of ten, in place of vLLM: everything but the model is real.

python -m bench.scripted_job OPTIONS OF THE JOB
"""

import sys

from inference.scripted_engine import ScriptedEngine
from pipelines import nearline, worker


def main() -> int:
    worker.engine = worker.once_per_process(lambda job: ScriptedEngine(in_flight=job.settings.in_flight))
    # The settings want to know of a model; nothing is ever asked at this address.
    return nearline.run([*sys.argv[1:], "--model_server=http://127.0.0.1:9"])


if __name__ == "__main__":
    sys.exit(main())
