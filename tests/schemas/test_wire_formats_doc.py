"""docs/wire-formats.md says what the code does."""

import re
from pathlib import Path

from schemas import BehaviourEvent
from schemas.codec import FORMATS, decoder_for
from schemas.validate import MOST_FIELDS, MOST_ID, MOST_NAME, MOST_QUERY, MOST_TITLE
from schemas.wire_avro import FOLDER, SCHEMA_NAMES

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "wire-formats.md").read_text(encoding="utf-8")


def first_cells(heading: str) -> list[str]:
    table = DOC[DOC.index(heading) :].split("\n\n")[1].splitlines()[2:]
    return [re.split(r"`", line)[1] if "`" in line.split("|")[1] else line.split("|")[1].strip() for line in table]


def test_every_field_of_an_event_is_documented_in_its_order() -> None:
    assert tuple(first_cells("## A behaviour event")) == BehaviourEvent.__struct_fields__


def test_every_format_is_documented() -> None:
    assert tuple(first_cells("## Formats")) == (*FORMATS, "(any)")


def test_the_examples_are_events() -> None:
    (examples,) = re.findall(r"```json\n(.*?)```", DOC, re.DOTALL)
    results = decoder_for().decode([line.encode() for line in examples.splitlines()])
    assert [(type(each), each.kind) for each in results] == [(BehaviourEvent, "search"), (BehaviourEvent, "click")]  # type: ignore[union-attr]


def test_the_limits_are_the_codes() -> None:
    assert MOST_QUERY == MOST_TITLE
    for said in (
        f"1 to {MOST_ID} characters",
        f"query and title at {MOST_QUERY} characters, names at {MOST_NAME}, {MOST_FIELDS} attributes",
    ):
        assert said in DOC


def test_every_schema_has_its_file_and_no_other_is_there() -> None:
    assert {path.stem for path in FOLDER.glob("*.avsc")} == set(SCHEMA_NAMES.values())


def test_every_file_that_the_doc_links_is_there() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", DOC):
        assert (ROOT / "docs" / link).is_file(), link
