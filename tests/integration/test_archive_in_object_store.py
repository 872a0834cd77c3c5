"""The archive in a real S3-compatible store: the job and everything that reads from its files, as with a folder."""

import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from typer.testing import CliRunner

from cli.archive import app as archive_cli
from local.kafka import Kafka
from local.prism import Prism
from local.seaweedfs import SeaweedFS
from local.topics import create_topics
from local.valkey import Valkey
from pipelines import archive as archiving
from pipelines.nearline import execute, prepare
from pipelines.operation import Window
from pipelines.options import NearlineSettings
from pipelines.replay import ReplayCheckpoint, replay
from pipelines.snapshot import take_snapshot
from store.client import ShopperStore
from store.operations import Operations
from tests.integration.archives import archive_job, ends_of, fill, rows_of
from tests.integration.nights import AIGQ, ROOT
from transforms import files
from transforms.archive_layout import EVENTS, facts_of, files_of, newest
from transforms.archive_overview import prune
from transforms.shared_log import close_logs

DAY_MS = 86_400_000
BEFORE, WITHIN = 1_000, 3_000
"""Events before the window that is replayed, and in it."""


@pytest.fixture
def bucket(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of its own; commands and boto3 find the store by the environment, as a user's would."""
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    name = f"archive-{uuid.uuid4().hex[:12]}"
    seaweedfs.client().create_bucket(Bucket=name)
    return name


def keys(seaweedfs: SeaweedFS, bucket: str, prefix: str = "") -> list[str]:
    """By the store's own client, which knows nothing of ours."""
    pages = seaweedfs.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [each["Key"] for page in pages for each in page.get("Contents", ())]


def download(seaweedfs: SeaweedFS, bucket: str, folder: Path) -> Path:
    """The archive below `aigq/`, in a folder."""
    for key in keys(seaweedfs, bucket, "aigq/"):
        target = folder / key.removeprefix("aigq/")
        target.parent.mkdir(parents=True, exist_ok=True)
        seaweedfs.client().download_file(bucket, key, str(target))
    return folder


def aigq(*words: str) -> str:
    done = subprocess.run([AIGQ, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"aigq {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


def states(store: ShopperStore) -> dict[str, bytes]:
    return {user: state.blob for user, state in store.scan_states()}


def test_every_offset_is_archived_once_after_a_kill_and_a_replay_from_there_is_the_same_as_from_a_folder(  # noqa: PLR0915 - one life
    kafka: Kafka, valkey: Valkey, seaweedfs: SeaweedFS, prism: Prism, bucket: str, namespace: str, tmp_path: Path
) -> None:
    archive, topic = f"s3://{bucket}/aigq", f"archived-{uuid.uuid4().hex[:8]}"
    names = ("", "-exposure", "-runs", "-letters")
    create_topics(kafka.bootstrap, tuple(f"{topic}{each}" for each in names), partitions=2)
    settings = NearlineSettings(
        kafka.bootstrap,
        topic=topic,
        results_topic="",
        dead_letter_topic=f"{topic}-letters",
        store=valkey.url,
        namespace=namespace,
        stages="track",
        end="now",
    )

    # a live namespace, a snapshot of it in the bucket, and the window behind it
    fill(kafka.bootstrap, topic, BEFORE)
    execute(*prepare(settings), prism.options)
    live = ShopperStore(valkey.url, namespace)
    assert take_snapshot(live, archive).states == len(states(live))
    from_ms = int(time.time() * 1000)
    time.sleep(0.01)
    held = fill(kafka.bootstrap, topic, WITHIN, seed=4, after=BEFORE + 2)
    total = sum(map(len, held.values()))
    assert total == BEFORE + WITHIN + 4

    # kill -9 in the middle, and the same job again
    small = ("--roll_records=150", "--batch_records=40")
    child = archive_job(kafka.bootstrap, topic, archive, tmp_path, *small)
    while not keys(seaweedfs, bucket, "aigq/events/") and child.running:
        time.sleep(0.01)
    time.sleep(random.Random(7).random() * 0.2)
    assert child.running, child.log_tail(40)
    child.kill()
    at_kill = download(seaweedfs, bucket, tmp_path / "at-kill")
    assert 0 < sum(ends_of(at_kill).values()) < total, "it was killed before or after all work"
    child = archive_job(kafka.bootstrap, topic, archive, tmp_path, *small, "--end=now")
    assert child.wait(120) == 0, child.log_tail(40)
    child.kill()
    copy = download(seaweedfs, bucket, tmp_path / "copy")
    assert rows_of(copy) == held
    assert not [key for key in keys(seaweedfs, bucket) if files.BEING_WRITTEN in key]
    shown = CliRunner().invoke(archive_cli, ["archive", "show", "--archive", archive])
    assert shown.exit_code == 0, shown.output
    assert f"topic {topic}" in shown.output

    # the window again, without a broker: from the bucket by the command, and from the copy in a folder
    window = Window(from_ms, min(clocks_at_end(archive).values()))
    words = [f"--topic={topic}", f"--store={valkey.url}", f"--namespace={namespace}", f"--archive={archive}"]
    words += [f"--from={window.from_ms}", f"--to={window.to_ms}", f"--into={namespace}-bucket", "--no_lists"]
    id = aigq("replay", *words, "--execute", "--results_topic=", f"--dead_letter_topic={topic}-letters").strip()
    begun = msgspec.json.decode(Operations(live.calls).show(id)[1].checkpoint, type=ReplayCheckpoint)
    assert begun.plan.snapshot_ms, "it folded the log from its beginning"
    of_folder = replace(settings, bootstrap="", archive=str(copy), end=str(window.to_ms))
    replay(of_folder, live, window, f"{namespace}-folder", prism.options)
    replayed = [states(ShopperStore(valkey.url, f"{namespace}-{each}")) for each in ("bucket", "folder")]
    assert replayed[0] == replayed[1]
    assert len(replayed[0]) > len(states(live)) > 0

    # two days later nothing is left but how far it is archived, which is where the job goes on
    ends = {file.partition: file.next_offset for file in files_of(archive, EVENTS)}
    preview = CliRunner().invoke(archive_cli, ["archive", "prune", "--archive", archive, "--keep-days", "1"])
    assert "nothing is that old" in preview.output
    prune(archive, 1, execute=True, now_ms=int(time.time() * 1000) + 2 * DAY_MS)
    assert len(keys(seaweedfs, bucket, "aigq/events/")) == len(ends)
    assert not keys(seaweedfs, bucket, "aigq/snapshots/")
    goes_on = archiving.ArchiveSettings(
        kafka.bootstrap, archive, topic=topic, exposure_topic="", results_topic="", group=topic
    )
    assert archiving.prepare(goes_on)[EVENTS].starts == ends
    close_logs()


def clocks_at_end(archive: str) -> dict[int, int]:
    """Log clock at the archive's end, by partition."""
    return {partition: facts_of(file).clock_ms for partition, file in newest(files_of(archive, EVENTS)).items()}


def test_a_kill_before_an_upload_is_complete_leaves_no_file(seaweedfs: SeaweedFS, bucket: str) -> None:
    dies = (
        "import os, sys; from apache_beam.io.aws.clients.s3 import boto3_client; from transforms import files\n"
        "boto3_client.Client.complete_multipart_upload = lambda *_: os.kill(os.getpid(), 9)\n"
        "files.write_whole(sys.argv[1], bytes(6_000_000))"
    )
    url = f"s3://{bucket}/aigq/events/day=2026-11-24/hour=02/p00000-o000000000000-000000000009.parquet"
    done = subprocess.run([sys.executable, "-c", dies, url], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert seaweedfs.client().list_multipart_uploads(Bucket=bucket)["Uploads"], (
        "it died before it had uploaded anything"
    )
    assert keys(seaweedfs, bucket) == []
    assert files_of(f"s3://{bucket}/aigq", EVENTS) == []
    assert not files.file_exists(url)


def test_a_file_that_prune_takes_while_it_is_read_is_not_found(bucket: str) -> None:
    url = f"s3://{bucket}/aigq/some.parquet"
    files.write_whole(url, bytes(1_000))
    with pytest.raises(FileNotFoundError, match=url):
        read_after(lambda: files.delete_files([url]), url)
    with pytest.raises(FileNotFoundError, match=url), files.open_file(url):
        pass


def read_after(meanwhile: Callable[[], None], url: str) -> bytes:
    with files.open_file(url) as stream:
        meanwhile()
        return stream.read()


def test_what_the_store_refuses_is_said_in_its_words(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(files.StorageFailed, match=r"s3://no-such-bucket/some\.json: .*NoSuchBucket"):
        files.write_whole("s3://no-such-bucket/some.json", b"{}")
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    files.use_options(PipelineOptions(["--s3_access_key_id=aigq", "--s3_secret_access_key=another"]))
    with pytest.raises(files.StorageFailed, match=f"s3://{bucket}/aigq/.*SignatureDoesNotMatch"):
        files.list_files(f"s3://{bucket}/aigq/*")
