"""A broker that is killed while letters are written: `write` waits for it, and no letter is lost or doubled."""

import threading
from pathlib import Path

from local.kafka import kafka as start_kafka
from local.topics import create_topics
from schemas import DeadLetter
from schemas.wire_avro import reader
from tests.integration.reading import records_in
from transforms.dead_letters import DeadLetterWriter

LETTERS, AT_ONCE = 300, 10


def test_letters_outlive_a_killed_broker(tmp_path: Path) -> None:
    read = reader(DeadLetter)
    with start_kafka(tmp_path / "kafka") as broker:
        create_topics(broker.bootstrap, ("dead-letters",), partitions=1)
        writer = DeadLetterWriter({"bootstrap.servers": broker.bootstrap}, "dead-letters")
        acknowledged, halfway = [], threading.Event()

        def write() -> None:
            for at in range(0, LETTERS, AT_ONCE):
                letters = [DeadLetter("decode", "bad_json", "", "behaviour", 0, at + n, 0) for n in range(AT_ONCE)]
                writer.write(letters)
                acknowledged.extend(letters)
                if at == LETTERS // 2:
                    halfway.set()

        writing = threading.Thread(target=write)
        writing.start()
        assert halfway.wait(60)
        broker.kill()
        broker.start()
        writing.join(90)
        assert not writing.is_alive()

        found = records_in(broker.bootstrap, "dead-letters", LETTERS)
    assert [read(message.value()) for message in found] == acknowledged  # type: ignore[arg-type]
