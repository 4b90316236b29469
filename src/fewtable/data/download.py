"""One file over HTTP into a ``.part`` file that a later call goes on with."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util.retry import Retry

from fewtable.errors import DataError

_CHUNK = 1 << 13  # what a break can lose: requests gives whole chunks only


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a download is tried."""

    attempts: int = 5
    """Failures in a row, without a byte gained, before it gives up."""
    backoff: float = 0.5
    """First pause in seconds; it doubles."""
    timeout: float = 30.0
    """Seconds without a byte before a connection counts as broken."""


PATIENCE = Patience()


def note_of(part: Path) -> Path:
    """Return the file beside ``part`` that says which address and version its bytes are of."""
    return part.with_name(part.name + ".url")


def download(url: str, part: Path, patience: Patience) -> bool:
    """Write the file at ``url`` to ``part``, going on where an earlier call to the same URL stopped.

    A broken connection and the answers 429 and 5xx are tried again with growing pauses. The server's
    validator (ETag or date) goes along as ``If-Range``, so that a file that changed starts anew.

    Args:
        url: http or https address.
        part: the growing file.
        patience: how long it is tried.

    Returns:
        Whether bytes of an earlier call are part of the file.

    Raises:
        DataError: the server refuses, or the connection keeps breaking.
    """
    note = note_of(part)
    resumed = _size(part) > 0 and _validator(note, url) is not None
    if not resumed:
        part.unlink(missing_ok=True)
    failures = 0
    with requests.Session() as session:
        retry = Retry(
            total=patience.attempts,
            backoff_factor=patience.backoff,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=("GET",),
        )
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        while True:
            before = _size(part)
            try:
                _get(session, url, part, note, patience.timeout)
                break
            except requests.HTTPError as error:
                raise DataError(f"the server answers {error.response.status_code} {error.response.reason}") from None
            except requests.RequestException as error:
                failures = failures + 1 if _size(part) <= before else 1
                if failures >= patience.attempts:
                    raise DataError(_reason(error)) from None
                time.sleep(patience.backoff * 2 ** (failures - 1))
    return resumed


def _get(session: requests.Session, url: str, part: Path, note: Path, timeout: float) -> None:
    have = _size(part)
    headers = {"Accept-Encoding": "identity"}  # byte ranges of a compressed answer would not fit together
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator := _validator(note, url):
            headers["If-Range"] = validator
    with session.get(url, headers=headers, stream=True, timeout=timeout) as answer:
        if answer.status_code == 416:  # the part is complete, or longer than the file
            if answer.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink()
            raise requests.ConnectionError("the part does not fit the file")
        answer.raise_for_status()
        goes_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        start = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        etag = answer.headers.get("ETag", "")
        strong = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified", "")
        note.write_text(json.dumps({"url": url, "validator": strong}), encoding="utf-8")
        with (
            part.open("ab" if start else "wb") as stream,
            tqdm(
                desc=part.name.removesuffix(".part").removeprefix("."),
                total=start + int(length) if length else None,
                initial=start,
                unit="B",
                unit_scale=True,
                disable=not sys.stderr.isatty(),
            ) as bar,
        ):
            for chunk in answer.iter_content(_CHUNK):
                stream.write(chunk)
                stream.flush()
                bar.update(len(chunk))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _validator(note: Path, url: str) -> str | None:
    """Return the validator noted for ``url`` ('' when the server gave none); None when nothing is noted."""
    try:
        value = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(value["validator"]) if value.get("url") == url else None


def _reason(error: requests.RequestException) -> str:
    inner = error.args[0] if error.args else error
    reason = getattr(inner, "reason", None) or inner
    return f"the connection fails: {reason}"[:200]
