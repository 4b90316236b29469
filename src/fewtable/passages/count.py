"""How long a text is: in tokens of a backbone, or in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fewtable.errors import DataError

Count = Callable[[Sequence[str]], list[int]]
"""Texts -> the length of each."""

_LONGEST = 20  # characters of a word: what is longer is no word, and must not make a passage endless
_BATCH = 256  # texts tokenised at once, so that memory does not grow with a document


def words(texts: Sequence[str]) -> list[int]:
    """Return the number of words between white space; each 20 characters begun of a long one count as a word."""
    return [sum(-(-len(word) // _LONGEST) for word in text.split()) for text in texts]


def tokens(folder: Path) -> Count:
    """Return a counter of the tokens, without special ones, of the backbone in ``folder``.

    Raises:
        DataError: the folder has no tokenizer.json that can be read.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.exists():
        raise DataError(
            "the backbone has no tokenizer.json", where=str(path), fix="name another backbone, or 'words', as 'tokens'"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more special
        raise DataError(f"not a tokenizer: {error}", where=str(path)) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        batches = (texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH))
        encoded = (tokenizer.encode_batch_fast(list(batch), add_special_tokens=False) for batch in batches)
        return [len(text) for batch in encoded for text in batch]

    return count
