"""How long a topic keeps its records, against what is allowed; and which fates of letters may go."""

import pytest

from pipelines.prune import complaint, without_letter
from store.letters import LetterFate
from transforms.archive_overview import DAY_MS
from transforms.kafka_clients import TopicRetention
from transforms.letter_box import LetterBox, SeenLetter


def of_days(retention: int, segment: int = 7, deletes: bool = True) -> TopicRetention:
    return TopicRetention(retention if retention < 0 else retention * DAY_MS, segment * DAY_MS, deletes)


def test_a_topic_whose_oldest_record_goes_in_time_is_not_complained_of():
    assert complaint("dead-letters", of_days(7), 90, "b:9092") == ""
    assert complaint("dead-letters", of_days(83), 90, "b:9092") == ""


@pytest.mark.parametrize(
    ("set_to", "said"),
    [
        (of_days(84), r"for up to 91.0 days (retention.ms 84.0, segment.ms 7.0)"),
        (of_days(-1), "for good (retention.ms=-1)"),
        (of_days(7, deletes=False), "for good (cleanup.policy=compact)"),
    ],
)
def test_what_is_kept_longer_is_said_with_settings_that_end_it(set_to: TopicRetention, said: str):
    complained = complaint("dead-letters", set_to, 90, "b:9092")
    assert said in complained
    command = "kafka-configs.sh --bootstrap-server b:9092 --alter --entity-type topics --entity-name dead-letters"
    assert command in complained
    added = dict(each.split("=") for each in complained.split("--add-config ")[1].split(","))
    deletes = set_to.deletes or added["cleanup.policy"] == "delete"
    mended = TopicRetention(int(added["retention.ms"]), int(added["segment.ms"]), deletes)
    assert complaint("dead-letters", mended, 90, "b:9092") == ""


def test_a_fate_stays_as_long_as_any_letter_of_its_case_is_in_the_topic():
    def seen(id: str) -> SeenLetter:
        return SeenLetter(id, "decode", "bad_json", "", "t", 0, 0, 0, "", "", 0, 0, (0, 0))

    box = LetterBox({id: seen(id) for id in ("t/0/1", "t/0/9")})
    fates = {
        "t/0/1": LetterFate("discarded", 5),
        "t/0/2": LetterFate("redriven", 5, 1, ("t/0/9",)),  # given again, and its second letter is there
        "t/0/3": LetterFate("redriven", 5, 1, ("t/0/10",)),
        "t/0/4": LetterFate("discarded", 50),
    }
    assert list(without_letter(fates, box, 40)) == ["t/0/3"]
