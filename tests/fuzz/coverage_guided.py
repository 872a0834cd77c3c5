"""Coverage-guided fuzzing of the decoder, for as long as one likes: `python -m tests.fuzz.coverage_guided -max_total_time=60`.

Needs atheris (`pip install atheris`), which is no part of the locked requirements; the property tests beside it need nothing.
"""

import sys
from pathlib import Path
from tempfile import mkdtemp

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["schemas"]):
    from schemas import BehaviourEvent, Item
    from schemas.codec import decoder_for, encoder_for
from tests.fuzz.test_decoder import is_fit

DECODERS = [decoder_for(format) for format in ("auto", "avro", "json")]
SEEDS = (
    BehaviourEvent("e1", "u1", "search", 1_780_000_000_000, query="red shoes", profile={"gender": "F"}),
    BehaviourEvent(
        "e2", "u1", "click", 1_780_000_000_000, item=Item("i1", "Red shoe", "Shoes", {"brand": "A"}), ingest_ms=1
    ),
)


def one(data: bytes) -> None:
    for decoder in DECODERS:
        for result in decoder.decode([data]):
            is_fit(result)


if __name__ == "__main__":
    corpus = Path(mkdtemp(prefix="decoder-corpus-"))
    for number, event in enumerate(SEEDS):
        for format in ("avro", "json"):
            (corpus / f"{number}.{format}").write_bytes(encoder_for(BehaviourEvent, format)(event))
    atheris.Setup([*sys.argv, str(corpus)], one)
    atheris.Fuzz()
