"""Words that no option is: refused before any work, for Beam passes over what it does not know.

A slip in `--users` would rebuild everybody, one in `--archive` would leave most of the log out.
"""

import argparse
from collections.abc import Collection, Sequence
from dataclasses import fields
from difflib import get_close_matches

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.options import NearlineSettings

JOB_SERVERS = ("flink", "FlinkRunner", "PortableRunner")
"""Runners with options of their own (`--parallelism`) that only their job server knows."""
NEAR = 0.75


def unknown_words(words: Sequence[str], own: Collection[str] = ()) -> list[str]:
    """What is said of each word that neither the nearline job nor Beam knows; `own`: names of the command's own options.

    Where a job server will be asked, only what looks like a slip in one of ours: the rest is that server's to know.
    """
    kept: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=kept.append)
    known, unknown = kept[0].parse_known_args(list(words))
    ours = {f.name for f in fields(NearlineSettings)}.union(own)
    at_job_server = bool(known.job_endpoint) or known.runner in JOB_SERVERS
    names = ours if at_job_server else ours.union(vars(known))
    said = []
    for before, word in zip(["", *unknown], unknown, strict=False):
        if not word.startswith("-") and before.startswith("-") and "=" not in before:
            continue  # the value of the one before
        nearest = _nearest(word, names)
        if nearest or not at_job_server:
            said.append(f"{word.partition('=')[0]} is no option" + (f"; did you mean --{nearest}?" if nearest else ""))
    return said


def _nearest(word: str, names: Collection[str]) -> str:
    if not word.startswith("-"):
        return ""
    name = word.partition("=")[0].lstrip("-").replace("-", "_")
    return next(iter(get_close_matches(name, sorted(names), 1, NEAR)), "")
