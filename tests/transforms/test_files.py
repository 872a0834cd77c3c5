"""Files in a folder; those in an object store are tested on a real one (tests/integration/test_archive_in_object_store.py)."""

from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems

from transforms import files
from transforms.files import delete_files, file_exists, is_object_store, list_files, open_file, write_whole


def test_what_is_written_is_there_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    path = f"{tmp_path}/day=1/some.json"
    write_whole(path, b"{}")
    write_whole(path, b"[]")
    with open_file(path) as stream:
        assert stream.read() == b"[]"
    assert list_files(f"{tmp_path}/day=*/*") == [(path, 2)]
    delete_files([path])
    assert not file_exists(path)
    with pytest.raises(FileNotFoundError), open_file(path):
        pass


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{tmp_path}/some.json"
    write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("transforms.files.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, b"new")
    assert Path(path).read_bytes() == b"old"


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert list_files(f"{tmp_path}/no/day=*/p*") == []


def test_object_stores_are_told_by_their_scheme() -> None:
    assert is_object_store("s3://bucket/aigq")
    assert is_object_store("gs://bucket/aigq")
    assert not is_object_store("hdfs://host/aigq")
    assert not is_object_store("/data/s3/aigq")


def test_a_store_without_credentials_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    files._check_s3.cache_clear()
    with pytest.raises(ValueError, match="AWS_ACCESS_KEY_ID"):
        list_files("s3://bucket/aigq/*")
