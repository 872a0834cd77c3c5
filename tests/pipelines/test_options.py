"""Settings are checked before any work, all at once."""

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from typer.testing import CliRunner

from cli import app
from interest import TriggerPolicy
from pipelines.known_options import unknown_words
from pipelines.nearline import run
from pipelines.options import NearlineOptions, NearlineSettings

GOOD = ["--bootstrap=127.0.0.1:1", "--store=redis://127.0.0.1:1", "--stages=track"]


def settings(*argv: str) -> NearlineSettings:
    return PipelineOptions(list(argv)).view_as(NearlineOptions).settings()


def test_the_defaults_are_the_policys_and_valid():
    assert settings(*GOOD).errors() == []
    assert settings(*GOOD).policy() == TriggerPolicy()


def test_all_errors_come_at_once_and_the_job_exits_2(capsys):
    status = run(["--stages=both", "--batch_records=0", "--trigger_drift=2", "--namespace=Live!", "--format=confluent"])
    said = capsys.readouterr().err
    assert status == 2
    for name in ("bootstrap", "store", "stages", "batch_records", "trigger_drift", "namespace", "format"):
        assert f"--{name}" in said


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("--kafka_config=sasl.mechanism", "--kafka_config"),
        ("--mapper=mine", "--mapper"),
        ("--block_list=nowhere.txt", "--block_list"),
        ("--dead_letter_ratio=0", "--dead_letter_ratio"),
        ("--trigger_settle_ms=20000", "--trigger_max_wait_ms"),
        ("--lease_s=-1", "--lease_s"),
    ],
)
def test_each_wrong_setting_is_named(argument, named):
    errors = settings(*GOOD, argument).errors()
    assert len(errors) == 1
    assert errors[0].startswith(named)


def test_security_settings_reach_every_kafka_client():
    kafka = settings(*GOOD, "--kafka_config=security.protocol=SASL_SSL;sasl.username=a=b").kafka
    assert kafka == {"bootstrap.servers": "127.0.0.1:1", "security.protocol": "SASL_SSL", "sasl.username": "a=b"}


def test_a_time_without_a_zone_is_refused_before_any_work():
    for name in ("start", "end"):
        assert settings(*GOOD, f"--{name}=2026-11-24T02:10:00").errors()[0].startswith(f"--{name}: a time without zone")


def test_where_everything_is_may_be_exported_once_and_an_option_still_wins(monkeypatch):
    for name in ("BOOTSTRAP", "STORE", "NAMESPACE"):
        monkeypatch.setenv(f"AIGQ_{name}", f"{name.lower()}-exported")
    found = settings("--stages=track", "--namespace=given")
    assert (found.bootstrap, found.store, found.namespace) == ("bootstrap-exported", "store-exported", "given")


@pytest.mark.parametrize(
    ("words", "slip", "meant"),
    [
        (["rebuild", "--user=users.txt", "--execute"], "--user", "--users"),
        (["adopt", "--triger_drift=0.3"], "--triger_drift", "--trigger_drift"),
        (["promote", "before", "--runer=x"], "--runer", "--runner"),
        (
            ["replay", "--from=2026-11-24T00:00Z", "--to=2026-11-25T00:00Z", "--into=x", "--archve", "/data"],
            "--archve",
            "--archive",
        ),
        (
            ["replay", "--from=2026-11-24T00:00Z", "--to=2026-11-25T00:00Z", "--regenerate", "--per_secnd=2"],
            "--per_secnd",
            "--per_second",
        ),
        (["run", "nearline", "--supervise=no", "--on-lost-records=skip"], "--on-lost-records", "--on_lost_records"),
        (["run", "archive", "--supervise=no", "--rol_s=3"], "--rol_s", "--roll_s"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_slip_in_an_option_is_refused_before_any_work_and_the_nearest_is_named(words, slip, meant, capsys):
    asked = CliRunner().invoke(app, [*words, *([] if words[0] == "run" else GOOD[:2])])
    assert asked.exit_code == 2
    assert f"{slip} is no option; did you mean {meant}?" in asked.stderr + capsys.readouterr().err


def test_the_archive_job_takes_where_things_are_from_the_environment_and_refuses_options_of_the_other_job(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("AIGQ_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("AIGQ_ARCHIVE", str(tmp_path))
    words = ["run", "archive", "--supervise=no", "--poll_s=0"]
    asked = CliRunner().invoke(app, words)
    assert asked.exit_code == 2
    assert "--poll_s must be above 0" in asked.stderr
    assert "is required" not in asked.stderr
    asked = CliRunner().invoke(app, [*words, "--namespace=other"])
    assert asked.exit_code == 2
    assert "--namespace is an option of `aigq run nearline` alone" in asked.stderr


def test_a_word_that_is_no_option_is_refused_and_beams_own_are_not():
    assert unknown_words(["users.txt", "--archive=a"]) == ["users.txt is no option"]
    assert unknown_words(["--runner=PrismRunner", "--experiments", "x", "--direct_num_workers=2"]) == []


def test_options_of_a_job_server_go_on_to_it_unless_they_look_like_a_slip():
    flink = ["--runner=flink", "--parallelism=2", "--checkpointing_interval", "1000"]
    assert unknown_words(flink) == []
    assert len(unknown_words([*flink, "--archve=a"])) == 1
