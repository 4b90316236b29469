"""The endpoint client against a real server on loopback that fails in every way it can: always the same file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from teachers_chat import files, passage, teacher, write_corpus

from fewtable.errors import ConfigError, DataError
from fewtable.teachers import client
from fewtable.teachers.annotate import Places, annotate, estimate
from fewtable.teachers.budget import BudgetError, at_most, dollars, money
from fewtable.teachers.journal import Journal
from fewtable.teachers.prompts import INSTRUCTION, SYSTEM
from fewtable.teachers.spec import PriceSpec
from fixtures.chat_server import ChatServer

COUNT = 150


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAUSE", 0.02)
    monkeypatch.setattr(client, "LONGEST_PAUSE", 0.3)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a server that never fails gives."""
    places = write_corpus(tmp_path_factory.mktemp("clean"), [passage(i) for i in range(COUNT)])
    with ChatServer() as server:
        annotate(teacher(server.url), places)
    return files(places)


def corpus(root: Path, count: int = COUNT) -> Places:
    return write_corpus(root, [passage(i) for i in range(count)])


def test_what_is_sent_and_written(tmp_path: Path, clean: dict[str, bytes]) -> None:
    places = corpus(tmp_path, 3)
    with ChatServer() as server:
        summary = annotate(teacher(server.url, prompt="definition", options={"seed": 7}), places)
    body = next(b for b in server.bodies if passage(1) in b["messages"][1]["content"])
    assert body == {
        "model": "m",
        "temperature": 0,
        "max_tokens": 100,
        "seed": 7,
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": INSTRUCTION["definition"] + passage(1)},
        ],
    }
    assert summary["passages"] == {"read": 3, "kept": 3}
    rows = [json.loads(line) for line in clean["annotations.jsonl"].splitlines()]
    assert [row["id"] for row in rows] == [f"passage-{i:06d}" for i in range(COUNT)]
    assert rows[1]["entities"] == [[4, 5, "name"], [6, 7, "name"]]


def test_many_requests_are_in_flight(tmp_path: Path, clean: dict[str, bytes]) -> None:
    places = corpus(tmp_path)
    with ChatServer(latency=0.3) as server:
        annotate(teacher(server.url, in_flight=40), places)
        assert 30 <= server.most_at_once <= 40
    assert files(places) == clean


def once(name: str, every: int) -> Any:
    """A fault that meets the first two tries of every so-manieth passage."""

    def fault(server: ChatServer, text: str, tries: int) -> str | None:
        return name if tries < 2 and int(text.split()[1]) % every == 0 else None

    return fault


@pytest.mark.parametrize("fault", ["drop", "garbage", "half", "cut", "500", "503", "408", "429", "stall"])
def test_each_fault_passes(tmp_path: Path, clean: dict[str, bytes], fault: str) -> None:
    places = corpus(tmp_path)
    with ChatServer(once(fault, 7)) as server:
        annotate(teacher(server.url, timeout=0.5 if fault == "stall" else 30), places)
        assert server.faults[fault] >= 2 * (COUNT // 7)
        assert max(server.answered.values()) == 1
    assert files(places) == clean


def test_a_server_that_dies_is_waited_for(tmp_path: Path, clean: dict[str, bytes]) -> None:
    places = corpus(tmp_path)

    def fault(server: ChatServer, text: str, tries: int) -> str | None:
        return "die" if len(server.bodies) in (40, 100) else None

    with ChatServer(fault, latency=0.01) as server:
        annotate(teacher(server.url, in_flight=8), places)
        assert server.faults["die"] == 2
    assert files(places) == clean


def test_retry_after_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = corpus(tmp_path, 20)
    times: list[float] = []

    def fault(server: ChatServer, text: str, tries: int) -> str | None:
        times.append(time.monotonic())
        return "429" if len(times) == 5 else None

    with ChatServer(fault, latency=0.002) as server:
        annotate(teacher(server.url, in_flight=1), places)
    assert times[5] - times[4] >= 0.2
    assert max(b - a for a, b in pairwise(times[5:])) < 0.2


def test_a_server_that_never_comes_back_is_given_up(tmp_path: Path) -> None:
    places = corpus(tmp_path, 20)
    with ChatServer() as server:
        url = server.url
    with pytest.raises(DataError, match=r"no answer for 1 s; the last failure: no connection"):
        annotate(teacher(url, patience=1), places)


def test_a_request_that_always_fails_is_refused(tmp_path: Path, clean: dict[str, bytes]) -> None:
    """Whether others are still answered or not; and the file says so."""
    places = corpus(tmp_path)
    bad = {passage(3), passage(COUNT - 1)}
    with ChatServer(lambda server, text, tries: "500" if text in bad else None) as server:
        summary = annotate(teacher(server.url), places)
        assert max(server.asked.values()) <= 3 * client.TRIES
    assert summary["answers"]["refused"] == 2
    rows = [json.loads(line) for line in (places.output / "answers.jsonl").read_text().splitlines()]
    assert {row["id"]: row["refused"] for row in rows if "refused" in row} == {
        "passage-000003": "status 500",
        f"passage-{COUNT - 1:06d}": "status 500",
    }


@pytest.mark.parametrize("fault", ["504", "429", "drop", "garbage"])
def test_a_server_that_recovers_gives_the_same_file(tmp_path: Path, clean: dict[str, bytes], fault: str) -> None:
    """A request that failed as often as any may is tried once more when something else is answered."""
    places = corpus(tmp_path)
    with ChatServer(lambda server, text, tries: fault if len(server.bodies) <= 30 else None) as server:
        summary = annotate(teacher(server.url, in_flight=1), places)
        assert server.faults[fault] == 30 > client.TRIES
    assert summary["answers"]["refused"] == 0
    assert files(places) == clean


@pytest.mark.parametrize(("fault", "patience"), [("504", 60), ("drop", 60), ("stall", 60), ("stall", 3)])
def test_what_may_pass_is_not_refused_for_good(
    tmp_path: Path, clean: dict[str, bytes], fault: str, patience: int
) -> None:
    """One at a time nobody else is answered; it is given up, said, and asked again by the next run."""
    places = corpus(tmp_path)
    bad = passage(COUNT - 1)
    with ChatServer(lambda server, text, tries: fault if text == bad else None) as server:
        timeout = 0.5 if fault == "stall" else 30
        summary = annotate(teacher(server.url, in_flight=1, timeout=timeout, patience=patience), places)
        assert summary["answers"]["refused"] == 1
        assert "refused" in files(places)["answers.jsonl"].decode()
    assert "refused" not in places.journal.read_text()
    with ChatServer() as server:
        annotate(teacher(server.url), places)
        assert len(server.bodies) == 1
    assert files(places) == clean


USAGE: dict[str, Any] = {
    "nulls": {"prompt_tokens": None, "completion_tokens": None},
    "none": None,
    "list": [1, 2],
    "odd": {"prompt_tokens": -3, "completion_tokens": "9"},
}


@pytest.mark.parametrize("usage", list(USAGE))
@pytest.mark.parametrize("price", [None, {"input": 1.0, "output": 1.0}])
def test_an_answer_without_a_count_of_its_tokens_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: dict[str, bytes], usage: str, price: Any
) -> None:
    """Its price is then counted at its most: a budget is never passed."""
    plain = ChatServer.completion
    monkeypatch.setattr(ChatServer, "completion", staticmethod(lambda *a: plain(*a) | {"usage": USAGE[usage]}))
    places = corpus(tmp_path, 5)
    with ChatServer() as server:
        summary = annotate(teacher(server.url, price=price), places)
        assert len(server.bodies) == 5
    assert clean["annotations.jsonl"].startswith(files(places)["annotations.jsonl"])
    most = [at_most(body["messages"], 100) for body in server.bodies] if price else [(0, 0)]
    assert list(summary["tokens"].values()) == [sum(tokens) for tokens in zip(*most, strict=True)]


def test_a_content_of_several_parts_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [{"type": "text", "text": '[("sentence", '}, {"type": "image"}, {"type": "text", "text": '"Thing")]'}]
    plain = ChatServer.completion

    def completion(body: dict[str, Any], content: Any) -> dict[str, Any]:
        made = plain(body, "")
        made["choices"][0]["message"]["content"] = parts
        return made

    monkeypatch.setattr(ChatServer, "completion", staticmethod(completion))
    places = corpus(tmp_path, 2)
    with ChatServer() as server:
        assert annotate(teacher(server.url), places)["entities"] == 2


def test_a_refused_passage_is_not_asked_again(tmp_path: Path) -> None:
    places = corpus(tmp_path, 30)
    with ChatServer(lambda server, text, tries: "400" if text == passage(3) else None) as server:
        annotate(teacher(server.url), places)
        first = files(places)
        assert server.asked[passage(3)] == 1
        annotate(teacher(server.url), places)
        assert len(server.bodies) == 30
    assert files(places) == first
    assert b'"refused": "status 400: no: 400"' in first["answers.jsonl"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("401", "does not accept the key"),
        ("404", "no model 'm'"),
        ("400", "refuses what it is asked: status 400: no: 400"),
    ],
)
def test_a_wrong_configuration_ends_at_once(tmp_path: Path, status: str, message: str) -> None:
    places = corpus(tmp_path)
    with ChatServer(lambda *_: status) as server:
        with pytest.raises(ConfigError, match=message):
            annotate(teacher(server.url, in_flight=4), places)
        assert len(server.bodies) <= client.UNANSWERED + 8
    assert not places.output.exists()
    assert places.journal.read_text() == ""


def test_an_answered_corpus_is_not_asked_again(tmp_path: Path, clean: dict[str, bytes]) -> None:
    places = corpus(tmp_path)
    with ChatServer() as server:
        annotate(teacher(server.url), places)
        annotate(teacher(server.url, price={"input": 1, "output": 1}, in_flight=2), places)
        assert len(server.bodies) == COUNT
        annotate(teacher(server.url, max_tokens=99), places)
        assert len(server.bodies) == 2 * COUNT


PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from teachers_chat import teacher
from fewtable.teachers.annotate import Places, annotate
annotate(teacher(sys.argv[1], in_flight=8), Places.of("t", "c", Path(sys.argv[2])))
"""


@pytest.mark.slow
def test_kill_9_loses_and_repays_nothing(tmp_path: Path, clean: dict[str, bytes]) -> None:
    places = corpus(tmp_path)
    command = [sys.executable, "-c", PROGRAM]
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    kills = 0
    with ChatServer(latency=0.05) as server:
        while True:
            known = len(places.journal.read_text().splitlines()) if places.journal.exists() else 0
            run = subprocess.Popen([*command, server.url, str(tmp_path), *paths], stderr=subprocess.DEVNULL)
            while run.poll() is None:
                time.sleep(0.005)
                if places.journal.exists() and places.journal.read_bytes().count(b"\n") >= known + 35:
                    os.kill(run.pid, signal.SIGKILL)
                    kills += 1
                    break
            if run.wait() == 0:
                break
        assert kills >= 3
        # In flight were at most 8 requests at each kill.
        assert len(server.bodies) <= COUNT + 8 * kills
        assert sum(server.answered.values()) <= COUNT + 8 * kills
    assert files(places) == clean


def test_a_full_disk_resumes(tmp_path: Path, clean: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    places = corpus(tmp_path)
    real, writes = os.write, 0

    def full(file: int, content: bytes) -> int:
        nonlocal writes
        if content.startswith(b'{"answer"'):
            writes += 1
            if writes == 50:
                return real(file, content[:9])
            if writes > 50:
                raise OSError(28, "No space left on device")
        elif writes >= 50:
            raise OSError(28, "No space left on device")
        return real(file, content)

    with ChatServer() as server:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(DataError, match="the disk is full; 49 answers are kept"):
            annotate(teacher(server.url, in_flight=4), places)
        monkeypatch.setattr(os, "write", real)
        annotate(teacher(server.url), places)
        assert sum(server.answered.values()) <= COUNT + 4
    assert files(places) == clean


# --- price ----------------------------------------------------------------------------------------

PRICE = {"input": 2.0, "output": 4.0}


@pytest.mark.parametrize(("fault", "used"), [(None, 0.8), (once("half", 3), 0.2)])
def test_the_budget_stops_before_it_is_passed_and_goes_on_when_raised(
    tmp_path: Path, clean: dict[str, bytes], fault: Any, used: float
) -> None:
    """An answer that is cut on its way is counted at its most: nobody says what it was billed."""
    places = corpus(tmp_path)
    limit = 0.01
    with ChatServer(fault) as server:
        price = PriceSpec(**PRICE)
        said = r"the budget of \$0\.0100 could be passed: .* the next request may cost up to \$0\.00\d\d\d,"
        with pytest.raises(BudgetError, match=said):
            annotate(teacher(server.url, price=PRICE, budget=limit), places)
        billed = [server.completion(b, server.answer(server.passage(b)))["usage"] for b in server.bodies]
        spent = [sum(b[kind] for b in billed) for kind in ("prompt_tokens", "completion_tokens")]
        assert used * limit < dollars(price, spent) <= limit
        with Journal(places.journal) as journal:
            assert 0 < len(journal.answers) < COUNT
        assert not places.output.exists()
        summary = annotate(teacher(server.url, price=PRICE, budget=1.0), places)
        assert max(server.answered.values()) == 1
    assert files(places)["annotations.jsonl"] == clean["annotations.jsonl"]
    assert summary["price"] == pytest.approx(dollars(price, tuple(summary["tokens"].values())))


def test_the_estimate_asks_nothing(tmp_path: Path) -> None:
    places = corpus(tmp_path, 10)
    with ChatServer() as server:
        spec = teacher(server.url, price=PRICE, budget=1.0)
        before = estimate(spec, places)
        assert not server.bodies
        assert not places.journal.exists()
        annotate(spec, places)
        after = estimate(spec, places)
    assert (before.requests, before.answered, after.requests, after.answered) == (10, 0, 0, 10)
    text = before.render()
    assert "10 to send, 0 answered already" in text
    assert "expected" in text and "at most" in text and "$1.00" in text
    assert before.most[1] == 10 * 100
    assert after.tokens == (0, 0)
    assert re.search(r"\$1\.00, for this teacher on this corpus; \$0\.00\d\d\d? spent", after.render())


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "$0.00"), (1234.5, "$1,234.50"), (0.5, "$0.500"), (0.01234, "$0.0123"), (4.2e-6, "$0.00000420")],
)
def test_prices_have_significant_digits(amount: float, text: str) -> None:
    assert money(amount) == text
