"""Whether a text is English: py3langid, langid.py's naive Bayes over byte sequences (Lui & Baldwin 2012)."""

from __future__ import annotations

from collections.abc import Callable


def english() -> Callable[[str], bool]:
    """Return the test whether English is the likeliest of the 139 languages that it knows.

    Nigerian Pidgin is not among them: it is written in English words, and short English texts pass for it.
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages([label for label in identifier.labels if label != "pcm"])
    return lambda text: identifier.classify(text)[0] == "en"
