"""A raw file of a dataset: from the mirror folder or its sources in order, verified, then put in place."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from fewtable.available import is_remote, mirror_folder
from fewtable.data.download import PATIENCE, Patience, download, note_of
from fewtable.data.sources import from_hub, from_package
from fewtable.errors import ConfigError, DataError, LicenceError, did_you_mean
from fewtable.files import locked, sha256_file
from fewtable.specs import DatasetSpec, FileSpec, Source, UserConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fetched:
    """Where a raw file came from, and its size in bytes."""

    source: str
    size: int


def fetch_file(dataset: str, spec: DatasetSpec, name: str, target: Path, user: UserConfig) -> Fetched:
    """Fetch the raw file ``name`` of a dataset as the user's config says; one process at a time, the next finds it.

    A file whose checksum nobody knows is taken as it is, and a warning says so.

    Raises:
        ConfigError: the dataset has no such file.
        LicenceError: the corpus is licensed and the user's copy is not there.
        DataError: no source gives the file.
    """
    if name not in spec.files:
        raise ConfigError(
            f"unknown file '{name}'",
            where=f"config/datasets/{dataset}.yaml:files",
            fix=did_you_mean(name, spec.files),
        )
    file = spec.files[name]
    if not file.sha256 and not _own(file):
        log.warning("no checksum known: %s/%s is taken as it is", dataset, name)
    with locked(target.with_name(f".{target.name}.lock")):
        if spec.access == "licensed":
            return fetch_licensed(name, dataset, spec, target, user.licensed.get(dataset))
        note = spec.obtain or spec.note
        if user.offline and any(map(is_remote, file.sources)):
            file = file.model_copy(update={"sources": tuple(s for s in file.sources if not is_remote(s))})
            note = "config/config.yaml says offline: set it to false, or get the file by hand"
        return fetch(name, dataset, file, target, mirror_folder(user), note=note)


def fetch(
    name: str,
    dataset: str,
    spec: FileSpec,
    target: Path,
    mirror: Path | None = None,
    *,
    note: str | None = None,
    patience: Patience = PATIENCE,
) -> Fetched:
    """Write the raw file to ``target``, or do nothing when it is there, with the right checksum if one is known.

    The mirror folder is asked first, then the sources in order; one that fails or gives other bytes than the
    checksum says is left for the next. ``target`` appears only complete and verified; a killed download
    goes on where it stopped.

    Args:
        name: the file's name in the dataset's YAML.
        dataset: the dataset's name.
        spec: its checksum, place below the mirror, and sources.
        target: where it goes.
        mirror: a folder with raw files.
        note: the dataset's note, which says how a person gets a file that has no source.
        patience: how long a broken download is tried.

    Raises:
        DataError: no source gave the file; what each one gave is listed.
    """
    if _right(target, spec):
        return Fetched("already there", target.stat().st_size)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    failures: list[str] = []
    local = mirror / spec.mirror if mirror and spec.mirror else None
    for source in (local, *spec.sources):
        if source is None or (isinstance(source, Path) and not source.exists()):
            continue
        label = describe(source)
        try:
            _bring(source, part, spec.sha256, patience)
        except DataError as error:
            failures.append(f"{label}: {error.what}")
            continue
        for failure in failures:
            log.warning("%s/%s: %s", dataset, name, failure)
        return _put(part, target, label)
    raise DataError(
        f"no source gave {dataset}/{name}" + "".join(f"\n  {f}" for f in failures),
        where=str(target),
        fix=_by_hand(name, spec, mirror, note),
    )


def _own(spec: FileSpec) -> bool:
    """Say whether the file may be a person's own, which has no checksum because it may be edited."""
    return any(source.path for source in spec.sources)


def _right(target: Path, spec: FileSpec) -> bool:
    if not target.exists():
        return False
    return sha256_file(target) == spec.sha256 if spec.sha256 else not _own(spec)


def _by_hand(name: str, spec: FileSpec, mirror: Path | None, note: str | None) -> str:
    """Return what a person can do for a file that no source gave."""
    start = "try again with a network, or get the file by hand" if spec.sources else note or "get the file by hand"
    place = Path(mirror or "MIRROR") / (spec.mirror or name)
    checksum = f" (sha256 {spec.sha256})" if spec.sha256 else ""
    named = "" if mirror else " and name MIRROR as 'mirror' in config/config.yaml"
    return f"{start}\n  The file belongs at {place}{checksum}{named}"


def fetch_licensed(name: str, dataset: str, spec: DatasetSpec, target: Path, folder: str | Path | None) -> Fetched:
    """Write a raw file from the user's own licensed copy, or do nothing when it is there as ``fetch`` does.

    The file's ``mirror`` (else its name) is its path below ``folder``. With ``*`` in it, all files that match
    are joined in the order of their paths: OntoNotes is a tree of small files.

    Raises:
        LicenceError: no folder is set, or it does not hold the file.
        DataError: the file is not the one that the checksum says.
    """
    fix = f"{spec.obtain} Then name the folder in config/config.yaml: licensed: {{{dataset}: FOLDER}}"
    where = f"config/config.yaml:licensed.{dataset}"
    if _right(target, spec.files[name]):
        return Fetched("already there", target.stat().st_size)
    if folder is None:
        raise LicenceError(f"{dataset} must be licensed by you and is not there", where=where, fix=fix)
    pattern = spec.files[name].mirror or name
    root = Path(folder).expanduser()
    found = sorted(p for p in root.glob(pattern) if p.is_file())
    if not found:
        raise LicenceError(f"{root} holds no {pattern}", where=where, fix=fix)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    with part.open("wb") as stream:
        for path in found:
            content = path.read_bytes()
            stream.write(content)
            if len(found) > 1 and not content.endswith(b"\n\n"):
                stream.write(b"\n" if content.endswith(b"\n") else b"\n\n")
    try:
        _verify(part, spec.files[name].sha256)
    except DataError as error:
        raise DataError(f"{root}/{pattern}: {error.what}", where=where, fix=fix) from None
    return _put(part, target, f"your copy in {root}")


def describe(source: Path | Source) -> str:
    """Return what a person calls a source: a path, a URL, ``hub REPO@REVISION`` or ``package NAME==VERSION``."""
    if isinstance(source, Path):
        return f"mirror {source}"
    if source.hub:
        return f"hub {source.hub.repo}@{source.hub.revision}"
    if source.package:
        return f"package {source.package.name}=={source.package.version}"
    return str(source.path or source.url)


def _bring(source: Path | Source, part: Path, sha256: str | None, patience: Patience) -> None:
    """Fill ``part`` from one source and verify it; a part with wrong bytes is removed."""
    if isinstance(source, Source) and source.url:
        resumed = download(source.url, part, patience)
        if resumed and sha256 and sha256_file(part) != sha256:
            part.unlink()  # the earlier bytes may be those of another version: once more, from the start
            download(source.url, part, patience)
    else:
        note_of(part).unlink(missing_ok=True)  # what an earlier download left is overwritten
        if isinstance(source, Path):
            shutil.copyfile(source, part)
        elif source.path:
            _copy_own(Path(source.path).expanduser(), part)
        elif source.hub:
            from_hub(source.hub, part)
        elif source.package:
            from_package(source.package, part)
    _verify(part, sha256)


def _copy_own(path: Path, part: Path) -> None:
    if not path.is_file():
        raise DataError("there is no such file")
    shutil.copyfile(path, part)


def _verify(part: Path, sha256: str | None) -> None:
    got = sha256_file(part)
    if sha256 and got != sha256:
        part.unlink()
        note_of(part).unlink(missing_ok=True)
        raise DataError(f"wrong checksum: expected sha256 {sha256}, got {got}")


def _put(part: Path, target: Path, source: str) -> Fetched:
    with part.open("rb+") as stream:
        os.fsync(stream.fileno())
    part.replace(target)
    note_of(part).unlink(missing_ok=True)
    return Fetched(source, target.stat().st_size)
