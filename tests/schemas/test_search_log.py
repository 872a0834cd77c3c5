"""The importer of a real log, on rows made up in the same form."""

import gzip
import json
from pathlib import Path

import pytest

from schemas import Item
from schemas.codec import decoder_for, encoder_for
from schemas.records import BehaviourEvent
from schemas.search_log import ImportedLog, import_log

ROWS = """user,sku,category,query,click_time,query_time
u1,11,c1,red  shoes,2011-08-11 04:00:17.021,2011-08-11 03:59:04.27
u1,12,c1,red  shoes,2011-08-11 04:01:00.5,2011-08-11 03:59:04.27
u2,99,c1,unknown product,2011-08-11 03:00:01,2011-08-11 03:00:00
u2,11,nowhere,20110801_GOW3,2011-08-11 03:00:03,2011-08-11 03:00:02
"""


def files(folder: Path, rows: str = ROWS) -> tuple[Path, Path, Path]:
    """Searches, products, categories."""

    def pack(name: str, content: str) -> Path:
        (folder / name).write_bytes(gzip.compress(content.encode()))
        return folder / name

    products = pack("products.csv.gz", 'sku,title\n11,"Red shoe\n\nthe second line"\n12,Blue shoe\n')
    categories = pack("categories.json.gz", json.dumps([{"id": "c1", "name": "Shoes", "path": []}]))
    return pack("searches.csv.gz", rows), products, categories


def imported(folder: Path, rows: str = ROWS, **options) -> ImportedLog:
    return import_log(*files(folder, rows), **options)


def test_a_row_is_a_search_and_a_click_with_the_products_title(tmp_path: Path) -> None:
    events = [event for event in imported(tmp_path).events if event.user == "u1"]
    assert [(event.kind, event.query, event.time_ms) for event in events] == [
        ("search", "red  shoes", 1_313_035_144_270),
        ("click", "", 1_313_035_217_021),
        ("click", "", 1_313_035_260_500),
    ]
    assert events[2].item == Item("12", "Blue shoe", "Shoes")


def test_the_log_is_in_order_of_its_own_time_which_is_its_log_clock(tmp_path: Path) -> None:
    events = imported(tmp_path).events
    assert [event.ingest_ms for event in events] == sorted(event.time_ms for event in events)


def test_what_was_left_out_or_is_odd_is_counted(tmp_path: Path) -> None:
    counts = imported(tmp_path).counts
    assert (counts.rows, counts.shoppers, counts.searches, counts.clicks) == (4, 2, 3, 3)
    assert counts.repeated_searches == 1
    assert counts.clicks_without_title == 1
    assert counts.clicks_without_category == 1
    assert counts.campaign_codes == 1


def test_an_import_that_is_repeated_makes_the_same_events(tmp_path: Path) -> None:
    assert imported(tmp_path) == imported(tmp_path)
    assert len({event.id for event in imported(tmp_path).events}) == 6


def test_every_event_passes_the_decoder(tmp_path: Path) -> None:
    results = decoder_for().decode([encoder_for(BehaviourEvent)(event) for event in imported(tmp_path).events])
    assert [type(result) for result in results] == [BehaviourEvent] * 6
    assert results[-2].item.title == "Red shoe the second line"  # type: ignore[union-attr]


def test_a_part_can_be_imported(tmp_path: Path) -> None:
    assert imported(tmp_path, most_rows=2).counts.rows == 2
    assert imported(tmp_path, most_rows=0).events == ()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("user,sku\nu1,11\n", "searches.csv.gz: no column category, query"),
        (ROWS.replace("2011-08-11 04:00:17.021", "yesterday"), "searches.csv.gz line 2: .*yesterday"),
        (ROWS + "u1,11\n", "searches.csv.gz line 6: not 6 columns"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_line(tmp_path: Path, rows: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        imported(tmp_path, rows)
