"""Writes docs/reference.md: every option, metric and dead-letter reason, from the code. `python -m pipelines.reference`."""

from dataclasses import fields
from pathlib import Path

from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from pipelines.options import NearlineSettings, default_of
from transforms import metrics
from transforms.dead_letters import REASONS

PAGE = Path(__file__).parent.parent / "docs" / "reference.md"


def reference() -> str:
    """The page. A test holds the committed one to it."""
    options = [f"| `--{f.name}` | {f.metadata['help']} | `{default_of(f)}` |" for f in fields(NearlineSettings)]
    found = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    measured = [
        f"| `{each._name}{'_total' if isinstance(each, Counter) else ''}` | {each._documentation} | "
        f"{', '.join(each._labelnames)} |"
        for each in found
    ]
    reasons = [f"| `{name}` | {reason.meaning} | {reason.remedy} |" for name, reason in REASONS.items()]
    return "\n".join(
        [
            "# Reference",
            "",
            "Written by `python -m pipelines.reference` from the code.",
            "",
            "## Options of `aigq run nearline`",
            "| option | what | default |",
            "|---|---|---|",
            *options,
            "",
            "Options of Beam (`--runner`, `--job_endpoint`, ...) are passed on. Without a runner the job starts a Prism of its own.",
            "Exit status: 0 ended or drained, 1 failed (the supervisor starts it again), 2 wrong configuration, 3 a person has to decide.",
            "",
            "## Metrics (`/metrics` on `--metrics_port`)",
            "| name | what | labels |",
            "|---|---|---|",
            *measured,
            "",
            "## Reasons of dead letters",
            "| reason | what it means | what to do |",
            "|---|---|---|",
            *reasons,
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(reference())
