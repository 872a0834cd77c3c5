"""The versions of a model, side by side, and which of them serves. A job follows `latest`: no change here needs a restart.

models/aigq-small/3/               a bundle (model_bundle.py)
models/aigq-small/VERSIONS.json    every version ever published, with its digest: a name is never used twice
models/aigq-small/CURRENT          the version that serves, and how often that has changed: {"version": "3", "promotion": 3}
models/aigq-small/PROMOTIONS.json  every change of CURRENT with its time and reason, oldest first
models/aigq-small/REVOCATIONS.json which versions' lists were refused from when on, in which namespace of which store
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from inference.engine import ServedModel
from inference.model_bundle import BadBundle, ModelBundle, ModelCard, digest, read_json

T = TypeVar("T")


class NoWayBack(Exception):
    """There is no version to roll back to, it cannot serve, or another has rolled back already: a person decides."""


class Current(msgspec.Struct, frozen=True):
    version: str
    promotion: int


class Promotion(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change of the version that serves."""

    promotion: int
    version: str
    at: str = ""
    """ISO, UTC. Empty where it was not recorded."""
    why: str = ""
    back_to: int = 0
    """A roll-back: the promotion that it went back to."""


class Revocation(msgspec.Struct, frozen=True):
    """For the record: what refuses the version's lists is the store."""

    version: str
    at: str
    """ISO, UTC."""
    store: str
    namespace: str
    why: str = ""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A version that was ever published."""

    version: str
    digest: str
    card: ModelCard | None
    """None where its folder is gone or its card cannot be read."""
    promotions: tuple[int, ...]
    revocations: tuple[Revocation, ...]
    serves: bool


def publish(source: str | Path, models_dir: str | Path) -> ModelBundle:
    """Copies a checked bundle to `models_dir/<name>/<version>` (names from its card) and records its digest.

    Raises BadBundle where the bundle is unusable or the version's name was ever used before, even if its folder is gone:
    lists in the store carry the name, so it must mean one model for good. Does not serve it: that is `promote`.
    """
    bundle = ModelBundle.open(source)
    home = Path(models_dir) / bundle.card.name
    home.mkdir(parents=True, exist_ok=True)
    with _changing(home):
        published = _published(home)
        if bundle.card.version in published or (home / bundle.card.version).exists():
            raise BadBundle(
                f"version {bundle.card.version} of {bundle.card.name} was published before; take a new version name"
            )
        arriving = home / f".{bundle.card.version}.arriving"
        shutil.rmtree(arriving, ignore_errors=True)
        shutil.copytree(source, arriving)
        _write(home / "VERSIONS.json", {**published, bundle.card.version: bundle.digest})
        arriving.rename(home / bundle.card.version)
    return ModelBundle.open(home / bundle.card.version)


def promote(models_dir: str | Path, name: str, version: str, why: str = "") -> ServedModel:
    """Makes a published version the current one. The promotion counter rises with every change, so the lists of an older
    version that serves again outrank those that it replaces. Promoting what serves already changes nothing.

    Raises BadBundle where the version was not published, or its files are no longer what was published.
    """
    home = Path(models_dir) / name
    _check_published(home, version)
    with _changing(home):
        before = _current(home)
        if before is None or before.version != version:
            number = before.promotion + 1 if before else 1
            _change(home, Promotion(number, version, _now(), why))
    return _serving(models_dir, name)


def roll_back(models_dir: str | Path, name: str, why: str = "", given_up: str = "") -> ServedModel:
    """Promotes the version that served before the present one. Another roll-back goes further back, never forward again.

    given_up: the version that is to serve no longer. Two who type the same roll back once. Empty for the present one.

    Raises NoWayBack where no version served before, it is not (any more) what was published, or `given_up` serves no longer.
    """
    home = Path(models_dir) / name
    with _changing(home):
        history = promotions(models_dir, name)
        if given_up and history and (now := history[-1]).version != given_up:
            raise NoWayBack(
                f"{name}/{given_up} no longer serves: {name}/{now.version} does since {now.at or 'a time that was not recorded'} "
                f"(promotion {now.promotion}). Nothing was changed. Who did it: `aigq models list`; to refuse the lists of "
                f"{name}/{given_up} too: `aigq models revoke {given_up}`"
            )
        target = way_back(history)
        if target is None:
            raise NoWayBack(
                f"{home / 'PROMOTIONS.json'} knows of no version that served before the present one. {_choices(home)}"
            )
        try:
            _check_published(home, target.version)
        except BadBundle as error:
            raise NoWayBack(
                f"version {target.version} served before (promotion {target.promotion}) and cannot serve now: {error}. "
                f"Bring its folder back and give the command again. {_choices(home)}"
            ) from error
        current = _current(home)
        assert current is not None, "there is a way back only from something"
        _change(home, Promotion(current.promotion + 1, target.version, _now(), why, target.promotion))
    return _serving(models_dir, name)


def _choices(home: Path) -> str:
    """What a person can do who finds no way back at three in the morning."""
    current = _current(home)
    here = [each for each in _published(home) if (home / each).is_dir() and not (current and each == current.version)]
    if here:
        return f"Or let another version serve: aigq models promote VERSION --name {home.name} (here: {', '.join(here)})"
    serving = f"{home.name}/{current.version} goes on serving" if current else "none serves"
    return (
        f"No other version's folder is in {home.resolve()}, so {serving}. Stop bad lists by running the job with --stages=track: what is "
        f"stored is read all the time, and requests wait for up to --max_age_s. Then aigq models publish FOLDER and aigq models promote VERSION "
        f"--name {home.name} (names used before: {', '.join(_published(home)) or 'none'})"
    )


def way_back(history: Sequence[Promotion]) -> Promotion | None:
    """The promotion before the last one. A roll-back stands for the promotion it went back to, so the next one leads further
    back and not forward to the version that was given up."""
    by_number = {each.promotion: each for each in history}

    def meant(each: Promotion) -> Promotion:
        return by_number.get(each.back_to, each)

    earlier = [each for each in history if each.promotion < meant(history[-1]).promotion] if history else []
    return meant(earlier[-1]) if earlier else None


def promotions(models_dir: str | Path, name: str) -> list[Promotion]:
    """Every change of the current version up to now, oldest first. Raises BadBundle where a file cannot be read.

    What CURRENT says holds: a step that was noted and never made is left out, one that was made and not noted (before there
    was a history, or by hand) is put in without time.
    """
    home = Path(models_dir) / name
    current = _current(home)
    if current is None:
        return []
    noted = _read_state(home / "PROMOTIONS.json", list[Promotion]) or []
    made = [each for each in noted if each.promotion <= current.promotion]
    if not made or (made[-1].promotion, made[-1].version) != (current.promotion, current.version):
        made = [each for each in made if each.promotion < current.promotion]
        made.append(Promotion(current.promotion, current.version, why="not recorded when it was promoted"))
    return made


def note_revoked(models_dir: str | Path, name: str, version: str, store: str, namespace: str, why: str = "") -> None:
    """Keeps the record of a revocation that the store has made."""
    home = Path(models_dir) / name
    with _changing(home):
        noted = Revocation(version, _now(), store, namespace, why)
        _write(home / "REVOCATIONS.json", [*revocations(models_dir, name), noted])


def revocations(models_dir: str | Path, name: str) -> list[Revocation]:
    """Every revocation that was made by a command on these models, oldest first. Raises BadBundle where the file cannot be read."""
    return _read_state(Path(models_dir) / name / "REVOCATIONS.json", list[Revocation]) or []


def versions(models_dir: str | Path, name: str) -> list[Version]:
    """Every version ever published, in that order. Raises BadBundle where there is no such model."""
    home = Path(models_dir) / name
    published = _published(home)
    if not published:
        raise BadBundle(f"no version of {name} was published in {Path(models_dir).resolve()}")
    current, history, revoked = _current(home), promotions(models_dir, name), revocations(models_dir, name)
    return [
        Version(
            version=version,
            digest=sha256,
            card=read_json(home / version / "card.json", ModelCard, []),
            promotions=tuple(each.promotion for each in history if each.version == version),
            revocations=tuple(each for each in revoked if each.version == version),
            serves=current is not None and current.version == version,
        )
        for version, sha256 in published.items()
    ]


def files_of(models_dir: str | Path, name: str, version: Version) -> str:
    """What the version's files are today, in words. Reads them all."""
    folder = Path(models_dir) / name / version.version
    if not folder.is_dir():
        return "its folder is gone"
    return "as published" if digest(folder) == version.digest else "changed since it was published"


def latest(models_dir: str | Path, name: str) -> ServedModel | None:
    """The model that is to be served, None where none was promoted yet. Cheap: a job asks every second.

    Raises BadBundle where CURRENT cannot be read.
    """
    home = Path(models_dir) / name
    current = _current(home)
    if current is None:
        return None
    path = home / current.version
    wrong: list[str] = []
    card = read_json(path / "card.json", ModelCard, wrong)
    if card is None:
        raise BadBundle(f"{home / 'CURRENT'} names {current.version}, which is no bundle: {'; '.join(wrong)}")
    return ServedModel(str(path), f"{name}/{current.version}", current.promotion, card.prompt_version)


def exactly(models_dir: str | Path, name: str, version: str) -> ServedModel:
    """A published version as if it were promoted now: what a shadow is made with. Raises BadBundle where it is not published."""
    home = Path(models_dir) / name
    _check_published(home, version)
    current = _current(home) or Current(version, 1)
    card = ModelBundle.open(home / version).card
    promotion = current.promotion + (version != current.version)
    return ServedModel(str(home / version), f"{name}/{version}", promotion, card.prompt_version)


def _serving(models_dir: str | Path, name: str) -> ServedModel:
    served = latest(models_dir, name)
    assert served is not None
    return served


def _check_published(home: Path, version: str) -> None:
    published = _published(home).get(version)
    if published and not (home / version).is_dir():
        raise BadBundle(f"{home / version} was published and its folder is gone")
    bundle = ModelBundle.open(home / version)
    if bundle.digest != published:
        raise BadBundle(
            f"{bundle.path}: digest {bundle.digest} is not the published {published}; restore it or publish anew"
        )


def _change(home: Path, step: Promotion) -> None:
    """The history first: what was noted and not made is recognised by CURRENT, what was made and not noted is not."""
    _write(home / "PROMOTIONS.json", [*promotions(home.parent, home.name), step])
    _write(home / "CURRENT", Current(step.version, step.promotion))


@contextmanager
def _changing(home: Path) -> Iterator[None]:
    """One change at a time: two would take the same promotion number."""
    if not home.is_dir():
        raise BadBundle(f"no model {home.name} in {home.parent.resolve()}")
    folder = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _current(home: Path) -> Current | None:
    return _read_state(home / "CURRENT", Current)


def _published(home: Path) -> dict[str, str]:
    return _read_state(home / "VERSIONS.json", dict[str, str]) or {}


def _read_state(path: Path, kind: type[T]) -> T | None:
    if not path.exists():
        return None
    wrong: list[str] = []
    state = read_json(path, kind, wrong)
    if state is None:
        raise BadBundle("; ".join(wrong))
    return state


def _write(path: Path, state: object) -> None:
    """In one step: a reader sees the old file or the new one."""
    arriving = path.with_name(f".{path.name}.{os.getpid()}")
    arriving.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
    arriving.replace(path)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
