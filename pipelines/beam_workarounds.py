"""Defects of Beam 2.77 that this job meets, each with the symptom, so that it can be removed when Beam has mended it."""

import math

from apache_beam.runners.worker.bundle_processor import DataInputOperation


def treat_unknown_progress_as_no_split() -> None:
    """Prism asks a slow bundle to split; an unbounded read reports its progress as NaN, and `_compute_split` then raises
    `ValueError: cannot convert float NaN to integer`, which fails the job. Unknown progress means: do not split."""
    compute_split = DataInputOperation._compute_split

    def guarded(index, current_element_progress, *rest, **named):
        if math.isnan(current_element_progress):
            return None
        return compute_split(index, current_element_progress, *rest, **named)

    DataInputOperation._compute_split = staticmethod(guarded)
