"""Tokens: bytes there and back; WordPiece by greedy longest match; a vocabulary that is learnt."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedl.core import text
from edgedl.core.contract import TextTokens

BERT = ("[PAD]", "[UNK]", "un", "##aff", "##able", "want", "##ed", "wa", ",", "cafe", "##a")


def wordpiece(length: int = 8, vocabulary: tuple[str, ...] = BERT) -> TextTokens:
    return TextTokens("wordpiece", length, vocabulary, 0, vocabulary.index("[UNK]"), lowercase=True)


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=50))
def test_bytes_there_and_back(sample: str):
    tokens = TextTokens("bytes", 400, text.BYTES)
    numbers = text.encode(tokens, sample)
    assert all(3 <= number < 259 for number in numbers)
    assert text.decode(tokens, numbers) == sample


def test_bytes_are_byt5s():
    assert text.encode(TextTokens("bytes", 4, text.BYTES), "a\n") == [100, 13]
    assert len(text.BYTES) == len(set(text.BYTES)) == 259
    assert text.BYTES[100] == "a"
    assert text.BYTES[13] == "<0x0A>"


@pytest.mark.parametrize(
    ("sample", "pieces"),
    [
        ("unaffable", ["un", "##aff", "##able"]),  # the example of BERT's own tests
        ("Wanted, WANTED", ["want", "##ed", ",", "want", "##ed"]),
        ("unwanted", ["[UNK]"]),  # `##want` is not there, so the whole word is unknown
        ("Café", ["cafe"]),
        ("x" * 101, ["[UNK]"]),
        ("", []),
    ],
)
def test_wordpiece_is_greedy(sample: str, pieces: list[str]):
    assert [BERT[i] for i in text.encode(wordpiece(), sample)] == pieces


def test_texts_are_cut_and_padded():
    assert text.encode_all(wordpiece(3), ["wanted", "wanted wanted", ""]) == [[5, 6, 0], [5, 6, 5], [0, 0, 0]]


def test_a_learnt_vocabulary_merges_the_commonest_pairs():
    texts = ["low low low low low", "lower lower", "newest newest newest newest newest newest", "widest widest widest"]
    found = text.learn_vocabulary(texts, 100, lowercase=True)
    assert found[:3] == text.SPECIAL
    # Sennrich et al. 2016, figure 1: the same words, the same first merges (es, est, then lo and w).
    characters = {
        symbol for word in ("low", "lower", "newest", "widest") for symbol in (word[0], *(f"##{c}" for c in word[1:]))
    }
    merges = [token for token in found[3:] if token not in characters]
    assert merges[:2] == ["##es", "##est"]
    assert "low" in merges[:4]
    assert "newest" in found
    tokens = wordpiece(8, found)
    assert [found[i] for i in text.encode(tokens, "lowest")] == ["low", "##est"]
    assert text.decode(tokens, text.encode(tokens, "newest lower")) == "newest lower"


def test_a_small_vocabulary_keeps_the_commonest_characters():
    found = text.learn_vocabulary(["aaa b"], 5, lowercase=True)
    assert found == ("[PAD]", "[EOS]", "[UNK]", "##a", "a")
    assert found == text.learn_vocabulary(["aaa b"], 5, lowercase=True)
