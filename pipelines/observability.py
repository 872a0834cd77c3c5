"""What an operator sees of a running job: /metrics, /healthz, JSON logs, and a summary as the last line."""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest


class JsonLines(logging.Formatter):
    """One JSON object a line. Messages name users and offsets, never what a shopper typed (that is `--log_texts`)."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_as_json(level: int = logging.INFO) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line a request


@dataclass(frozen=True)
class Health:
    """`wrong` is empty in a healthy process; each entry says what, and what to do."""

    wrong: tuple[str, ...]
    notes: tuple[str, ...] = ()


def serve(port: int, health: Callable[[], Health]) -> ThreadingHTTPServer:
    """Answers GET /metrics (Prometheus text) and GET /healthz (200, or 503 with the causes) on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(REGISTRY))
            elif self.path == "/healthz":
                found = health()
                self._answer(503 if found.wrong else 200, "application/json", json.dumps(asdict(found)).encode())
            else:
                self._answer(404, "text/plain", b"there are /metrics and /healthz\n")

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


@dataclass(frozen=True)
class Summary:
    """What a run did: the last line of its output, and a JSON file where `--summary` names one."""

    seconds: float
    events: dict[str, int]
    """By outcome: folded, duplicate, too_late, before_erasure, erased, quarantined, dead, skipped."""
    changes: int
    requests: dict[str, int]
    """By outcome, as this process counted them; the store's own counts cover all processes."""
    dead_letters: dict[str, int]
    """By stage and reason."""
    prompt_tokens: int
    output_tokens: int
    prefix_hit_tokens: int

    def line(self) -> str:
        return json.dumps({"summary": asdict(self)}, sort_keys=True)


def summarise(seconds: float) -> Summary:
    """Reads this process's metrics."""

    def total(name: str) -> int:
        return int(REGISTRY.get_sample_value(f"{name}_total") or 0)

    def by_label(name: str) -> dict[str, int]:
        return {
            " ".join(sample.labels.values()): int(sample.value)
            for metric in REGISTRY.collect()
            if metric.name == name
            for sample in metric.samples
            if sample.name == f"{name}_total"
        }

    return Summary(
        round(seconds, 3),
        by_label("aigq_events"),
        total("aigq_changes"),
        by_label("aigq_requests"),
        by_label("aigq_dead_letters"),
        total("aigq_prompt_tokens"),
        total("aigq_output_tokens"),
        total("aigq_prefix_cache_hit_tokens"),
    )
