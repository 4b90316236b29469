"""Which raw files can be had here: the mirror folder, the user's licensed copies. Looks at names, opens no file."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from fewtable.specs import DatasetSpec, Source, UserConfig

DEFAULT_MIRROR = Path("../shared/data")
"""Asked first when config/config.yaml names no mirror."""

log = logging.getLogger(__name__)


def mirror_folder(user: UserConfig) -> Path | None:
    """Return the mirror folder, None when there is none; a folder that was named but is not there is logged."""
    folder = Path(user.mirror).expanduser() if user.mirror else DEFAULT_MIRROR
    if folder.is_dir():
        return folder
    if user.mirror:
        log.warning("the mirror folder %s (config/config.yaml:mirror) is not there", folder)
    return None


def is_remote(source: Source) -> bool:
    """Say whether a source lies on the network; a package may be installed."""
    return bool(source.url or source.hub)


def why_missing(dataset: str, spec: DatasetSpec, splits: Iterable[str], user: UserConfig) -> str | None:
    """Return why splits of a dataset can't be made here, or None.

    A licensed corpus needs the folder of the user's copy; a file without an open source, or offline one that would
    be downloaded, must be in the mirror folder or fetched already.
    """
    if spec.access == "licensed":
        folder = user.licensed.get(dataset)
        files = dict.fromkeys(n for s in splits if s in spec.splits for n in spec.splits[s].files)
        wanted = f", with {' and '.join(spec.files[name].mirror or name for name in files)}" if files else ""
        if folder is None:
            return f"licence: set licensed.{dataset} in config/config.yaml to the folder of your copy{wanted}"
        if not Path(folder).expanduser().is_dir():
            return f"licence: the folder {folder} (config/config.yaml: licensed.{dataset}) is not there{wanted}"
        return None
    mirror = mirror_folder(user)
    for name in dict.fromkeys(n for s in splits if s in spec.splits for n in spec.splits[s].files):
        file = spec.files[name]
        there = [Path("results/raw") / dataset / name, *([mirror / file.mirror] if mirror and file.mirror else [])]
        if not file.sources and not any(path.exists() for path in there):
            return f"data: {name} has no open source; `fewtable show dataset {dataset}` says how to obtain it"
        if user.offline and all(is_remote(source) for source in file.sources) and not any(p.exists() for p in there):
            return f"data: {name} is not in the mirror folder, and config/config.yaml says offline"
        if any(source.path and source.path.startswith("results/") for source in file.sources):
            continue  # made by the workflow
        own = [Path(source.path).expanduser() for source in file.sources if source.path]
        if len(own) == len(file.sources) and not any(path.exists() for path in (*own, *there)):
            return f"data: the file {own[0]} (config/datasets/{dataset}.yaml: files.{name}) is not there"
    return None
