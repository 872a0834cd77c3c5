"""The nearline job with an engine that writes down every prompt and answers at once; everything but the model is real.

python -m tests.sameness.recording_job FILE OPTIONS OF THE JOB
"""

import json
import sys
from pathlib import Path

from inference.engine import Answer
from inference.scripted_engine import ScriptedEngine, generated
from pipelines import nearline, worker


def main() -> int:
    file = Path(sys.argv[1]).open("a", buffering=1)  # noqa: SIM115

    def record(run_id: str, prompt: str) -> Answer:
        file.write(json.dumps([run_id, prompt]) + "\n")
        return generated()

    worker.engine = worker.once_per_process(lambda job: ScriptedEngine(record, in_flight=job.settings.in_flight))
    # The settings want to know of a model; nothing is ever asked at this address.
    return nearline.run([*sys.argv[2:], "--model_server=http://127.0.0.1:9"])


if __name__ == "__main__":
    sys.exit(main())
