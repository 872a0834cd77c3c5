"""Files in a folder or in an object store (s3://, gs://), through Beam's file systems. A written file is there whole or not at all.

In a folder it is written beside its name, synced and renamed. An object store has no rename (Beam's copies the object and then deletes
the first one) and needs none: an upload becomes an object with the answer to its last request, and one that is cut off never does.
"""

import errno
import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any, BinaryIO

import pyarrow as pa
from apache_beam.io.aws.clients.s3 import boto3_client
from apache_beam.io.aws.clients.s3.messages import S3ClientError
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, S3Options

BEING_WRITTEN = ".writing"
OBJECT_STORES = ("s3://", "gs://", "azfs://")
"""Where an upload is an object only once it is complete. (hdfs:// is a file system: it renames.)"""
NOT_FOUND = 404
S3_OPTIONS = (
    *("s3_access_key_id", "s3_secret_access_key", "s3_session_token", "s3_endpoint_url", "s3_region_name"),
    *("s3_api_version", "s3_verify", "s3_disable_ssl"),
)


class StorageFailed(RuntimeError):
    """The object store refused or did not answer; the message has its words."""


def is_object_store(path: str) -> bool:
    return path.startswith(OBJECT_STORES)


def is_local(path: str) -> bool:
    return "://" not in path


def use_options(options: PipelineOptions) -> None:
    """Beam's options of file systems (--s3_endpoint_url ...), before there is a pipeline that would bring them."""
    FileSystems.set_options(options)


@contextmanager
def open_file(path: str) -> Iterator[BinaryIO]:
    """For reading and seeking. Raises FileNotFoundError (also while it is read: `prune` may take it away), StorageFailed."""
    with _errors_of(path):
        try:
            with FileSystems.open(path) as stream:
                yield stream
        except S3ClientError as error:
            if error.code != NOT_FOUND:
                raise
            raise FileNotFoundError(errno.ENOENT, "no such object", path) from error


def write_whole(path: str, content: bytes | pa.Buffer) -> None:
    """Over what may be there. Raises StorageFailed, OSError."""
    with _errors_of(path):
        if is_object_store(path):
            _write(path, content)
        else:
            _write(path + BEING_WRITTEN, content)
            FileSystems.rename([path + BEING_WRITTEN], [path])


def list_files(pattern: str) -> list[tuple[str, int]]:
    """(path, bytes) of what matches; a bucket or folder that is not there holds nothing. Raises StorageFailed."""
    with _errors_of(pattern):
        (result,) = FileSystems.match([pattern])
    return [(found.path, found.size_in_bytes) for found in result.metadata_list]


def file_exists(path: str) -> bool:
    """Raises StorageFailed."""
    with _errors_of(path):
        return FileSystems.exists(path)


def delete_files(paths: Sequence[str]) -> None:
    """In that order. Raises StorageFailed."""
    if paths:
        with _errors_of(paths[0]):
            FileSystems.delete(list(paths))


def _write(path: str, content: bytes | pa.Buffer) -> None:
    with FileSystems.create(path, mime_type="application/octet-stream") as stream:
        stream.write(content)
        if is_local(path):
            stream.flush()
            os.fsync(stream.fileno())


@contextmanager
def _errors_of(path: str) -> Iterator[None]:
    """In words that say what to look at: Beam's hide the cause two exceptions deep."""
    if path.startswith("s3://"):
        _check_s3()
    if FileSystems._pipeline_options is None:
        FileSystems.set_options(
            PipelineOptions([])
        )  # outside of a pipeline Beam has none, and opens no object store then
    try:
        yield
    except S3ClientError as error:
        raise StorageFailed(f"{path}: {error.message}") from error
    except BeamIOError as error:
        if is_local(path):
            raise
        raise StorageFailed(f"{path}: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """What the store said, from within Beam's exceptions by path."""
    within = next(iter((getattr(error, "exception_details", None) or {}).values()), None)
    return _cause(within) if isinstance(within, BaseException) else str(getattr(error, "message", None) or error)


@cache
def _check_s3() -> None:
    """Beam would take either for an outage and try again for ten minutes. Raises ValueError."""
    if importlib.util.find_spec("boto3") is None:
        raise ValueError("an s3:// URL needs boto3: pip install 'apache-beam[aws]'")
    import boto3

    options = FileSystems._pipeline_options
    given = options is not None and options.view_as(S3Options).s3_access_key_id
    if not given and boto3.Session().get_credentials() is None:
        raise ValueError(
            "no credentials for s3://: give this account a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
            "(and AWS_ENDPOINT_URL_S3 for a store that is not Amazon's)"
        )
    _share_s3_client()


def _share_s3_client() -> None:
    """Beam makes a boto3 session and a client for every file and listing: 0.1 s of CPU and 12 MB each. boto3's client serves any number
    of threads; what Beam keeps beside it (where a download is) stays one file's own."""
    make = boto3_client.Client.__init__
    made: dict[tuple[Any, ...], Any] = {}
    lock = Lock()

    def shared(self: boto3_client.Client, options: Any) -> None:
        view = options.view_as(S3Options) if isinstance(options, PipelineOptions) else None
        key = tuple(getattr(view, name) if view is not None else options.get(name) for name in S3_OPTIONS)
        with lock:
            if key not in made:
                make(self, options)
                made[key] = dict(vars(self))
        vars(self).update(made[key])

    boto3_client.Client.__init__ = shared
