"""English: its function words, and what a word may be another form of, by rule.

A vocabulary decides which form it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["FUNCTION_WORDS", "STOP_WORDS", "forms"]

# Lucene 9's stop words, and the other function words of a question that somebody types
_STOP = """
a about an and are as at be been being but by can could did do does for from had has have he her his how i if
in into is it its me my no not of on one or our she should so some such that the their them then there these
they this to us was we were what when where which while who whose why will with would you your
"""
# The rest of the closed classes of English (pronouns, prepositions, conjunctions, auxiliaries, adverbs of
# degree and place) and numerals: they name nothing
_FUNCTION = """
those mine ours yours him hers theirs myself yourself himself herself itself ourselves themselves whom
someone somebody something anyone anybody anything everyone everybody everything nobody nothing none onto
over under above below between among amongst through throughout during before after against across along
around behind beside besides beneath beyond near off out up down upon within without toward towards past
since until till per via than like except despite am doing done having cannot shall may might must ought
nor yet because although though whenever wherever whether unless yes ok very too also just only even still
already again here now once ever never always often sometimes more most less least much many few little
lot lots several any all both each every either neither other others another same own quite rather really
almost please zero two three four five six seven eight nine ten eleven twelve hundred thousand million
"""
# An infinitive, and its past forms
_VERBS = """
run ran; sing sang sung; ring rang rung; swim swam swum; drink drank drunk; sit sat; stand stood; fall
fell fallen; fly flew flown; blow blew blown; throw threw thrown; grow grew grown; draw drew drawn; know
knew known; ride rode ridden; drive drove driven; write wrote written; rise rose risen; eat ate eaten;
hang hung; swing swung; speak spoke spoken; break broke broken; wake woke woken; wear wore worn; tear tore
torn; take took taken; shake shook shaken; hide hid hidden; bite bit bitten; see saw seen; hear heard; go
went gone; get got gotten; sleep slept; keep kept; sweep swept; feed fed; lead led; meet met; hold held;
build built; burn burnt; catch caught; buy bought; bring brought; teach taught; think thought; fight
fought; sell sold; tell told; say said; pay paid; make made; come came; become became; begin began begun;
shine shone; shoot shot; slide slid; win won; find found; lose lost; leave left; light lit; lie lay lain;
spin spun; dig dug; stick stuck; strike struck
"""
# A singular, and its plural
_NOUNS = """
man men; woman women; child children; person people; mouse mice; goose geese; foot feet; tooth teeth; ox oxen
"""


def _table(forms: str) -> dict[str, str]:
    """Irregular form -> base."""
    return {form: base for base, *forms in map(str.split, forms.split(";")) for form in forms}


STOP_WORDS = frozenset(_STOP.split())
FUNCTION_WORDS = STOP_WORDS.union(_FUNCTION.split())
_PAST, _PLURALS = _table(_VERBS), _table(_NOUNS)
_NOT_PLURAL = frozenset(("news", "glasses", "pants", "jeans", "shorts", "goods", "species", "series"))
_SPELLINGS = (("our", "or"), ("re", "er"), ("ise", "ize"), ("yse", "yze"), ("ogue", "og"), ("grey", "gray"))
_SHORT = re.compile(r"[^aeiou]*[aeiou][^aeiouwxy]")  # a stem that doubles its last letter: run, running


def forms(word: str) -> Iterator[str]:
    """What a word may be learned as, best first: its singular, itself, its other forms."""
    word = word.removesuffix("'s").strip("0123456789")
    for spelled in (word, *_respelled(word)):
        stems = [*_singulars(spelled), spelled]
        yield from stems
        bases = dict.fromkeys([*stems, *(base for stem in stems for base in _infinitives(stem))])
        yield from bases
        for base in bases:
            yield from _inflected(base)


def _singulars(word: str) -> Iterator[str]:
    if word in _PLURALS:
        yield _PLURALS[word]
    if word.endswith("s") and not word.endswith("ss") and word not in _NOT_PLURAL:
        for ending, singular in (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("s", ""), ("es", "")):
            if word.endswith(ending) and len(word) - len(ending) > 1:
                yield word.removesuffix(ending) + singular


def _infinitives(word: str) -> Iterator[str]:
    if word in _PAST:
        yield _PAST[word]
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem == word or len(stem) < 2:
            continue
        yield stem + "e"  # before the stem: writing, write
        if not _SHORT.fullmatch(stem):
            yield stem
        if len(stem) > 3 and stem[-1] == stem[-2]:
            yield stem[:-1]
        if ending == "ed" and stem.endswith("i"):
            yield stem[:-1] + "y"
        if ending == "ing" and stem.endswith("y"):
            yield stem[:-1] + "ie"


def _inflected(base: str) -> Iterator[str]:
    """The forms of a verb, and the plural of a noun."""
    if len(base) < 3:
        return
    stem = base + base[-1] if _SHORT.fullmatch(base) else base.removesuffix("e")
    yield stem + "ing"
    if base.endswith("ie"):
        yield base[:-2] + "ying"
    yield base + "s"
    yield base + "es"
    yield stem + "ed"
    if base.endswith("y"):
        yield base[:-1] + "ies"
        yield base[:-1] + "ied"
    if base.endswith(("f", "fe")):
        yield base.removesuffix("e")[:-1] + "ves"
    yield from (form for form, other in (_PLURALS | _PAST).items() if other == base)


def _respelled(word: str) -> Iterator[str]:
    """British for American spelling, and the reverse, of a word or its plural."""
    stem, plural = (word[:-1], "s") if word.endswith("s") else (word, "")
    for pair in _SPELLINGS:
        for ending, other in (pair, pair[::-1]):
            if len(stem) > 3 and stem.endswith(ending):
                yield stem.removesuffix(ending) + other + plural
