"""The fingerprint changes with the code that an entry reaches, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewtable.fingerprint import Fingerprints

FILES = {
    "a.py": '''"""Doc."""
from fewtable.b import used, Worker
from fewtable import c


def entry():
    """Doc."""
    worker = Worker()
    return used() + worker.run() + c.whole


def other():
    return 1
''',
    "b.py": """CONSTANT = 1


def used():
    return CONSTANT


def unused():
    return 2


class Worker:
    def __init__(self):
        self.x = 1

    def run(self):
        return helper()

    def idle(self):
        return 3


class Foreign(list):
    def called_by_list(self):
        return 4


def helper():
    return 5
""",
    "c.py": "whole = 6\n",
    "__init__.py": "",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "fewtable" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def of(source: Path, entry: str = "fewtable.a:entry") -> str:
    return Fingerprints(source).of(entry)


def edit(source: Path, name: str, old: str, new: str) -> None:
    path = source / "fewtable" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a.py", "return used()", "return 1 + used()"),
        ("b.py", "return CONSTANT", "return -CONSTANT"),
        ("b.py", "CONSTANT = 1", "CONSTANT = 2"),
        ("b.py", "return helper()", "return helper() + 1"),
        ("b.py", "self.x = 1", "self.x = 2"),
        ("b.py", "return 5", "return 55"),
        ("c.py", "whole = 6", "whole = 7"),
    ],
)
def test_reached_code_counts(source: Path, name: str, old: str, new: str) -> None:
    before = of(source)
    edit(source, name, old, new)
    assert of(source) != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a.py", '    """Doc."""\n', '    """Other words."""\n'),
        ("a.py", "def entry", "# why\ndef entry"),
        ("a.py", "used() + worker", "used()  +  worker"),
        ("a.py", "return 1\n", "return 11\n"),
        ("b.py", "return 2", "return 22"),
        ("b.py", "return 3", "return 33"),
        ("b.py", "return 4", "return 44"),
    ],
)
def test_other_code_does_not(source: Path, name: str, old: str, new: str) -> None:
    before = of(source)
    edit(source, name, old, new)
    assert of(source) == before


def test_a_method_counts_once_somebody_names_it(source: Path) -> None:
    edit(source, "a.py", "worker.run()", "worker.run() + worker.idle()")
    before = of(source)
    edit(source, "b.py", "return 3", "return 33")
    assert of(source) != before


def test_methods_of_foreign_bases_count_whole(source: Path) -> None:
    edit(source, "a.py", "import used, Worker", "import used, Worker, Foreign")
    edit(source, "a.py", "return used()", "Foreign(); return used()")
    before = of(source)
    edit(source, "b.py", "return 4", "return 44")
    assert of(source) != before


def test_imports_inside_functions_are_followed(source: Path) -> None:
    edit(source, "c.py", "whole = 6", "def whole():\n    from fewtable.b import unused\n    return unused()")
    before = of(source)
    edit(source, "b.py", "return 2", "return 22")
    assert of(source) != before


def test_cache_gives_the_same_and_notices_edits(source: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    first = Fingerprints(source, cache)
    value = first.of("fewtable.a:entry")
    first.save()
    assert Fingerprints(source, cache).of("fewtable.a:entry") == value
    edit(source, "b.py", "return 5", "return 55555")
    assert Fingerprints(source, cache).of("fewtable.a:entry") != value
    cache.write_text("{broken")
    assert Fingerprints(source, cache).of("fewtable.a:entry") != value


def test_a_script_is_an_entry(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.py").write_text("from fewtable.b import used\nused()\n")
    before = Fingerprints(source).of("job.py")
    edit(source, "b.py", "return CONSTANT", "return 0")
    assert Fingerprints(source).of("job.py") != before
