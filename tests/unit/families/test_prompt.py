"""prompt: a model asked as it comes, here and behind an endpoint; what it was asked, and that a kill repays nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_text
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fewtable import runner
from fewtable.backbone_spec import BackboneSpec
from fewtable.backbones import materialise
from fewtable.corpus import Entity, Sentence, Task
from fewtable.errors import ConfigError, DataError
from fewtable.families import prompt
from fewtable.families.base import Job
from fewtable.files import read_jsonl
from fewtable.predictions import entity_types, make_format
from fewtable.registry import Registry, validate
from fewtable.resolve import Run, resolve
from fewtable.specs import RunSpec, UserConfig
from fewtable.teachers import client
from fixtures.chat_server import ChatServer

TYPES = {"per": "person", "loc": "location"}
QUERY = (
    Sentence("test-000000", ("anna", "saw", "rome"), (Entity(0, 1, "per"), Entity(2, 3, "loc"))),
    Sentence("test-000001", ("she", "left")),
    Sentence("test-000002", ("anna", "saw", "rome")),
)
TASK = Task(1, tuple(TYPES), (), QUERY)
ENDPOINT = {"url": "http://127.0.0.1:1/v1", "model": "m"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAUSE", 0.02)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def put(folder: Path, **options: Any) -> Path:
    """A backbone as the workflow puts it in place."""
    materialise("b", BackboneSpec.model_validate({"title": "b", **options}), folder)
    return folder


def run_spec(name: str = "ye", template: str = "plain", **decode: Any) -> RunSpec:
    return RunSpec(
        dataset="toy", setting="zero-shot", method="m", backbone="b", draws=(1,),
        types={n: {"words": w} for n, w in TYPES.items()}, family="prompt", format={"name": name},
        train={"template": template}, dtype="float32", decoding={"max_new_tokens": 6, **decode}, code="",
    )  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model as a backbone."""
    root = tmp_path_factory.mktemp("tiny")
    weights = tiny_text.build(root / "weights", "causal", QUERY, TYPES)
    return put(root / "backbone", kind="causal", path=str(weights))


def test_each_sentence_is_asked_about_its_own_types(tiny: Path, tmp_path: Path) -> None:
    made = prompt.load(Job(run_spec("uniner", "ie-as-qa"), tiny, 1))
    fit = tiny_text.fit(tmp_path)
    made.fit(TASK, fit)
    whole = list(made.decode(TASK, fit.model))
    asked = replace(TASK, asked=(("loc",), ("per", "loc"), ("per",)))
    found = list(made.decode(asked, fit.model))
    assert found == [whole[0][1:], whole[1], whole[2][:1]] and [len(answers) for answers in found] == [1, 2, 1]


def test_nothing_is_trained_and_a_local_model_answers_each_query(tiny: Path, tmp_path: Path) -> None:
    made = prompt.load(Job(run_spec("uniner", "ie-as-qa"), tiny, 1))
    fit = tiny_text.fit(tmp_path)
    made.fit(TASK, fit)
    assert [path.name for path in fit.model.iterdir()] == ["untrained"]
    found = list(made.decode(TASK, fit.model))
    assert [len(answers) for answers in found] == [2, 2, 2] and found[0] == found[2]
    tokenizer, model = AutoTokenizer.from_pretrained(tiny), AutoModelForCausalLM.from_pretrained(tiny)
    asked = (
        "A virtual assistant answers questions from a user based on the provided text. USER: Text: anna saw rome "
        "ASSISTANT: I've read this text.</s>USER: What describes location in the text? ASSISTANT:"
    )
    ids = torch.tensor([tokenizer(asked)["input_ids"]])
    written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
    assert found[0][1] == tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)


def test_a_model_without_a_chat_template_says_so(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="no chat template"):
        prompt.load(Job(run_spec(template="chat"), tiny, 1))


def test_answers_held_to_the_sentence_are_all_read(tmp_path: Path) -> None:
    random = {"architecture": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "num_key_value_heads": 1, "intermediate_size": 16}  # fmt: skip
    folder = put(tmp_path / "b", kind="causal", random=random)
    form = make_format({"name": "uniner"}, entity_types({n: {"words": w} for n, w in TYPES.items()}))
    lost = {}
    for copied in (True, False):
        made = prompt.load(Job(run_spec("uniner", "ie-as-qa", copied=copied, max_new_tokens=20), folder, 1))
        read = [form.parse(s.words, o) for s, o in zip(QUERY, made.decode(TASK, tmp_path), strict=True)]
        lost[copied] = {part.cause for parsed in read for part in parsed.dropped}
    assert lost[True] <= {"surplus"} and "unparsed" in lost[False]
    with pytest.raises(ConfigError, match="JSON lists"):
        list(prompt.load(Job(run_spec(copied=True), folder, 1)).decode(TASK, tmp_path))
    backbone = put(tmp_path / "e", kind="endpoint", endpoint=ENDPOINT)
    with pytest.raises(ConfigError, match="cannot be held"):
        prompt.load(Job(run_spec("uniner", copied=True), backbone, 1))


def block(spec: RunSpec, backbone: Path, work: Path) -> list[Any]:
    """The outputs of a block, trained and decoded as the workflow does it."""
    paths: Any = {"backbone": backbone, "checkpoint": work / "1-1"}
    runner.train_block(spec, [TASK], init=None, output=work / "model", device_batch=1, **paths)
    paths["checkpoint"] = work / "1-1.decode"
    runner.decode_block(spec, [TASK], model=work / "model", output=work / "outputs.jsonl", **paths)
    return [row["output"] for _, row in read_jsonl(work / "outputs.jsonl")]


def test_an_endpoint_is_asked_once_a_question_and_its_answers_are_read(tmp_path: Path) -> None:
    with ChatServer(answer=lambda asked: "Person: anna | Location: Rome") as server:
        backbone = put(tmp_path / "b", kind="endpoint", endpoint={**ENDPOINT, "url": server.url, "max_tokens": 9})
        outputs = block(run_spec(), backbone, tmp_path)
    assert len(server.bodies) == 2  # two sentences are alike
    (body,) = (b for b in server.bodies if "anna saw rome" in b["messages"][0]["content"])
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0, 6)
    (message,) = body["messages"]
    assert message["role"] == "user" and message["content"].endswith("Text: anna saw rome\n\nEntity:")
    form = make_format({"name": "ye"}, entity_types({n: {"words": w} for n, w in TYPES.items()}))
    assert form.parse(QUERY[0].words, outputs[0]).entities == QUERY[0].entities


def test_a_conversation_is_sent_as_turns(tmp_path: Path) -> None:
    with ChatServer(answer=lambda asked: "[]") as server:
        backbone = put(tmp_path / "b", kind="endpoint", endpoint={**ENDPOINT, "url": server.url})
        assert block(run_spec("uniner", "ie-as-qa"), backbone, tmp_path) == [["[]", "[]"]] * 3
    assert len(server.bodies) == 4
    assert [(m["role"], m["content"]) for m in server.bodies[0]["messages"]] == [
        ("user", "Text: anna saw rome"), ("assistant", "I've read this text."),
        ("user", "What describes person in the text?"),
    ]  # fmt: skip


def test_what_was_answered_before_a_failure_is_not_asked_again(tmp_path: Path) -> None:
    mended: list[bool] = []

    def fault(server: ChatServer, asked: str, before: int) -> str | None:
        return None if mended or "she left" not in server.bodies[-1]["messages"][0]["content"] else "drop"

    with ChatServer(fault, answer=lambda asked: "Person: anna") as server:
        endpoint = {**ENDPOINT, "url": server.url, "in_flight": 1, "patience": 0.2}
        backbone = put(tmp_path / "b", kind="endpoint", endpoint=endpoint)
        with pytest.raises(DataError, match="no answer"):
            block(run_spec(), backbone, tmp_path)
        asked = [b["messages"][0]["content"] for b in server.bodies]
        assert sum("anna saw rome" in text for text in asked) == 1
        mended.append(True)
        outputs = block(run_spec(), backbone, tmp_path)
        again = [b["messages"][0]["content"] for b in server.bodies[len(asked) :]]
        assert len(again) == 1 and "she left" in again[0]
        size = len(server.bodies)
        assert block(run_spec(), backbone, tmp_path) == outputs and len(server.bodies) == size


def test_refusals_are_said_and_what_may_pass_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client, "PAUSE", 0.01)
    monkeypatch.setattr(client, "LONGEST_PAUSE", 0.02)

    def failing(name: str) -> Any:
        return lambda server, asked, tries: name if "she left" in server.bodies[-1]["messages"][0]["content"] else None

    with ChatServer(failing("503"), answer=lambda asked: "Person: anna") as server:
        endpoint = {**ENDPOINT, "url": server.url, "in_flight": 1}
        backbone = put(tmp_path / "b", kind="endpoint", endpoint=endpoint)
        with pytest.raises(DataError, match=r"1 of 2 questions have no answer; the first: status 503"):
            block(run_spec(), backbone, tmp_path)
        server.fault = failing("400")
        outputs = block(run_spec(), backbone, tmp_path)
    assert outputs.count("") == 1
    assert "1 of 2 questions were refused; the first: status 400" in caplog.text


def test_what_the_journal_answers_needs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "k")
    with ChatServer(answer=lambda asked: "Person: anna") as server:
        backbone = put(tmp_path / "b", kind="endpoint", endpoint={**ENDPOINT, "url": server.url, "key": "THE_KEY"})
        outputs = block(run_spec(), backbone, tmp_path)
    monkeypatch.delenv("THE_KEY")
    assert block(run_spec(), backbone, tmp_path) == outputs


@pytest.mark.parametrize("options", [{"kind": "endpoint"}, {"kind": "causal", "endpoint": ENDPOINT}])
def test_a_backbone_has_an_endpoint_when_its_kind_says_so(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="only then"):
        validate(BackboneSpec, {"title": "b", **options}, "b")


@pytest.mark.parametrize(
    ("method", "backbone", "template"),
    [
        ("ye", "vicuna-7b", "vicuna"),
        ("ye", "vicuna-13b", "vicuna"),
        ("ye", "smollm2-135m", "chat"),
        ("ye", "chatgpt", "chat"),
        ("uniner-untrained", "smollm2-135m", "ie-as-qa"),
    ],
)
def test_the_methods_resolve(root: Path, method: str, backbone: str, template: str) -> None:
    made = resolve(Registry(root / "config"), UserConfig(), Run("mit-movie", "zero-shot", method, backbone))
    assert (made.family, made.train["template"]) == ("prompt", template)
