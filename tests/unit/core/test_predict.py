"""Entities of a person's own text: of any types, by a run's model, shown in colour."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fewtable import cli, predict
from fewtable.corpus import Entity, Sample, Sentence, Task, split_words, write_samples, write_sentences
from fewtable.errors import ConfigError, DataError
from fewtable.families.base import Job
from fewtable.files import dumps, write_text
from fewtable.plan import Plan
from fewtable.registry import Registry
from fewtable.resolve import Run

CODE = "from transformers import GPT2Tokenizer\noutput = tokenizer.from_pretrained('gpt2')"
ASKED = ["library", "class", "method", "unit"]
ANSWERS = ['["transformers"]', '["GPT2Tokenizer"]', '["from_pretrained"]', "[]"]
SOURCE = Run("common-pile-gpt-4o-mini", "full", "uniner-type-source", "tiny-llama")


class Family:
    """A family whose model gives the answers that it is told, and remembers what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Job, Task, Path]] = []

    def load(self, job: Job) -> Family:
        self.job = job
        return self

    def decode(self, task: Task, model: Path) -> Iterator[Any]:
        self.asked.append((self.job, task, model))
        yield self.answer


@pytest.fixture
def plan(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    for name in ("config", "workflow"):
        (tmp_path / name).symlink_to(root / name)
    monkeypatch.chdir(tmp_path)
    return Plan(Registry(Path("config")), {}, root / "src")


def trained(plan: Plan, run: Run, block: str = "1-1") -> Path:
    """Write a trained model's folder without weights."""
    model = Path(f"results/runs/{run.key}/{block}/model")
    (model / block.partition("-")[0]).mkdir(parents=True)
    write_text(model / "spec.json", dumps(plan.run_spec(run, block, decode=False).model_dump(mode="json")))
    return model


def answering(monkeypatch: pytest.MonkeyPatch, answer: Any) -> Family:
    family = Family(answer)
    monkeypatch.setattr(predict, "find_module", lambda kind, *names: family)
    return family


@pytest.mark.parametrize("by", ["model", "source", "name"])
def test_a_distilled_model_is_asked_for_any_types(plan: Plan, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    model = trained(plan, SOURCE)
    family = answering(monkeypatch, ANSWERS)
    named = {"model": model, "source": model.parent, "name": Path("mit-movie/zero-shot/uniner-type/tiny-llama")}
    sentence, read = predict.predict(plan, named[by], CODE, ASKED)
    ((job, task, used),) = family.asked
    assert used == model / "1" and task.types == tuple(ASKED) and job.spec.types["class"]["words"] == "class"
    assert task.query[0].text == CODE.replace("\n", " "), "as it is written, not word by word"
    found = [(sentence.surface(start, end), kind) for start, end, kind in read.entities]
    wanted = [("transformers", "library"), ("GPT2Tokenizer", "class"), ("from_pretrained", "method")]
    assert found == wanted
    assert job.spec.decoding == plan.method(SOURCE).decode


def test_a_zero_shot_run_has_its_dataset_s_types(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(plan, SOURCE)
    types = list(plan.registry.dataset("mit-restaurant").types)
    family = answering(monkeypatch, ['["thai"]' if name == "Cuisine" else "[]" for name in types])
    run = Path("mit-restaurant/zero-shot/uniner-type/tiny-llama/1-1")
    _, read = predict.predict(plan, run, "any good thai food")
    assert read.entities == (Entity(2, 3, "Cuisine"),) and family.asked[0][1].types == tuple(types)


def test_a_run_with_a_sample_has_the_types_and_support_that_it_learned(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run("wnut16-demo", "5-shot", "lc-bert", "minilm")
    model = trained(plan, run, "1-3")
    support = Sentence("train-000000", ("Rome",), (Entity(0, 1, "geo-loc"),))
    for split in ("train", "test"):
        write_sentences(Path(f"results/data/wnut16-demo/{split}.jsonl"), [support])
    write_samples(Path("results/samples/wnut16-demo/5-shot/1-3.jsonl"), [Sample(1, ("geo-loc",), (support.id,), ())])
    family = answering(monkeypatch, ["B-geo-loc", "O"])
    sentence, read = predict.predict(plan, model.parent, "Rome!")
    assert read.entities == (Entity(0, 1, "geo-loc"),) and sentence.glued == ()
    assert family.asked[0][1].support == (support,)
    with pytest.raises(ConfigError, match="finds the types that it learned and no others"):
        predict.predict(plan, model.parent, "Rome!", ["city"])


def test_what_is_missing_is_said(plan: Plan) -> None:
    zero_shot = Path("mit-movie/zero-shot/uniner-type/tiny-llama")
    with pytest.raises(DataError) as caught:
        predict.predict(plan, zero_shot, "a b")
    assert f"snakemake --cores 1 results/runs/{SOURCE.key}/1-1/model" in str(caught.value)
    with pytest.raises(ConfigError, match="did you mean 'uniner-type'"):
        predict.predict(plan, Path("mit-movie/zero-shot/uniner-typ/tiny-llama"), "a b")
    model = trained(plan, SOURCE)
    with pytest.raises(ConfigError, match="the run has no types of its own"):
        predict.predict(plan, model, "a b")
    with pytest.raises(DataError, match="the text holds no word"):
        predict.predict(plan, model, " ", ["city"])


def test_entities_are_coloured_by_type_and_named() -> None:
    words, glued = split_words("Ann's (old) Rome office, Rome")
    sentence = Sentence("text-000000", words, glued=glued)
    entities = [Entity(0, 1, "person"), Entity(6, 7, "city"), Entity(6, 8, "place"), Entity(9, 10, "city")]
    shown = predict.coloured(sentence, entities)
    assert shown == (
        "\x1b[1;36mAnn\x1b[0;2m [person]\x1b[0m's (old) \x1b[1;35mRome office\x1b[0;2m [place]\x1b[0m,"
        " \x1b[1;33mRome\x1b[0;2m [city]\x1b[0m"
    )
    assert predict.coloured(sentence, []) == sentence.text


def test_answers_that_cannot_be_read_are_not_called_empty(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = trained(plan, SOURCE)
    answering(monkeypatch, ["I think Rome.", "[]", "of course"])
    command = ["predict", str(model), "in Rome", "--types", "city,person,river"]
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert said.err == "2 answers could not be read (--raw shows what the model wrote)\n" and said.out == ""
    assert cli.main([*command, "--raw"]) == 0
    said = capsys.readouterr()
    assert said.err == "2 answers could not be read\ncity\t'I think Rome.'\nriver\t'of course'\n"
    answering(monkeypatch, ['["Rome"]', "[", "[]"])
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert said.out == "city\tRome\t1-2\n" and said.err.startswith("1 answer could not be read")
    answering(monkeypatch, ["[]"] * 3)
    assert cli.main(command) == 0 and capsys.readouterr().err == "no entity found\n"


def test_types_without_a_name_are_an_error(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "anywhere", "text", "--types", " , "]) == 1
    assert "no type is named" in capsys.readouterr().err
    assert cli.main(["parse", "bio", "--types", ","]) == 1
    assert "no type is named" in capsys.readouterr().err


def test_the_command_colours_a_terminal_only(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    model = trained(plan, SOURCE)
    answering(monkeypatch, ['["Rome"]', "[]"])
    command = ["predict", str(model), "in Rome", "--types", "city, , person,city"]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == "city\tRome\t1-2\n"
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    assert cli.main(command) == 0
    assert terminal.getvalue().startswith("in \x1b[1;36mRome\x1b[0;2m [city]")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout", plain := Terminal())
    assert cli.main(command) == 0
    assert "\x1b" not in plain.getvalue()
