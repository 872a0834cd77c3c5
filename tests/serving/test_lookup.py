"""What a home page reads."""

from msgspec.structs import replace

from schemas import QueryRun
from serving.lookup import merge

DAY_MS = 86_400_000
TOLD = ("small/1", 1, "1", "t1", (), 0, 0, 0, 0, 100, 40)
RUN = QueryRun("run", "anna", 10 * DAY_MS, ("usb hub", "HD  lens"), *TOLD)


def test_an_old_list_is_not_read_whatever_the_store_still_holds():
    assert merge([RUN], 10, 12 * DAY_MS, max_age_s=86_400) == ()
    assert [hint.query for hint in merge([RUN], 10, 11 * DAY_MS, max_age_s=86_400)] == ["usb hub", "HD  lens"]


def test_the_newest_list_comes_first_and_each_query_once():
    newer = replace(RUN, run_id="newer", as_of_ms=11 * DAY_MS, queries=("hd lens", "tripod"))
    hints = merge([newer, RUN], 10, 11 * DAY_MS, max_age_s=30 * 86_400)
    assert [(hint.query, hint.run_id) for hint in hints] == [
        ("hd lens", "newer"),
        ("tripod", "newer"),
        ("usb hub", "run"),
    ]
