"""The reference page is what the code says."""

from pipelines.reference import PAGE, reference


def test_every_option_metric_and_reason_is_documented():
    assert PAGE.read_text() == reference(), "write it again: python -m pipelines.reference"
