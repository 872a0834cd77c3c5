"""What the job writes, training reads back."""

from pathlib import Path

import pytest

from schemas import Behaviour
from training.log import Case
from training.sample_files import (
    CaseRow,
    DirectSample,
    ThinkSample,
    read_case_rows,
    read_cases,
    read_direct,
    read_think,
)
from transforms.make_samples import Made
from transforms.make_samples_write import Counts, write_shard

SEEN = (Behaviour(5, 2**48 - 1, "search", "red shoes"), Behaviour(6, 0, "click", "Shoe; rouge é", "Shoes"))
LIST = {
    "labels": ("b", "a"),
    "label_from": ("click", "ranked"),
    "label_scores": (2.5, 0.25),
    "labels_plain": ("a", "b"),
}


def direct(user: str, behaviours=SEEN) -> DirectSample:
    return DirectSample(user=user, exposure_id="x1", as_of_ms=7, profile={"age": "30", "a": "b"}, behaviours=behaviours, prompt="p<list>", **LIST)  # fmt: skip


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    think = ThinkSample(user="bob", day="2025-12-01", as_of_ms=7, profile={}, behaviours=SEEN[:1], prompt="p", **LIST)
    row = CaseRow("x9", Case("ann", 9, {"age": "30"}, SEEN, "lamp", ("lamp", "sofa"), ("hub",)))
    bare = CaseRow("", Case("bob", 9, {}, (), "lamp", ("lamp",)))
    made = Made({"train": [direct("ann"), direct("bob", ())], "test": []}, {"train": [], "test": [think]}, [row, bare])
    write_shard(str(tmp_path), 0, made, Counts())
    write_shard(str(tmp_path), 1, Made({"train": [direct("cid")], "test": []}), Counts())
    assert read_direct(tmp_path, "train") == [direct("ann"), direct("bob", ()), direct("cid")]
    assert read_direct(tmp_path, "test") == []
    assert read_think(tmp_path, "test") == [think]
    assert read_case_rows(tmp_path) == [row, bare]
    assert read_cases(tmp_path) == [row.case, bare.case]


def test_a_folder_without_samples_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="aigq samples"):
        read_cases(tmp_path)
