"""Text as integers: the reference that an app has to repeat.

bytes       the UTF-8 bytes, b ↦ b + 3; 0 pads, 1 ends, 2 is unknown (Xue et al. 2022, "ByT5", arXiv:2105.13626, §3).
wordpiece   BERT's (Devlin et al. 2019; Schuster & Nakajima 2012): NFC; with `lowercase`, lower case without accents
            (NFD, marks dropped); split at white space, and every character that is no letter, digit or `_` stands
            alone; each word greedily, from its start, into the longest pieces of the vocabulary, of which those inside
            a word begin with `##`; a word that has none, or of more than 100 characters, is `[UNK]`.
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from edgedl.core.contract import TextTokens

PADDING, END, UNKNOWN = "[PAD]", "[EOS]", "[UNK]"
SPECIAL = (PADDING, END, UNKNOWN)
_FIRST_BYTE = len(SPECIAL)
_LONGEST_WORD = 100
_WORD = re.compile(r"\w+|[^\w\s]")

BYTES = (*SPECIAL, *(chr(b) if 32 < b < 127 else f"<0x{b:02X}>" for b in range(256)))
"""The vocabulary of "bytes"."""


def encode(tokens: TextTokens, text: str) -> list[int]:
    """The numbers of a text, neither cut nor padded."""
    if tokens.kind == "bytes":
        return [b + _FIRST_BYTE for b in text.encode()]
    numbers = {token: i for i, token in enumerate(tokens.vocabulary)}
    known: dict[str, list[int]] = {}
    found: list[int] = []
    for word in words(text, lowercase=tokens.lowercase):
        if word not in known:
            known[word] = _pieces(word, numbers, tokens.unknown_id)
        found += known[word]
    return found


def encode_all(tokens: TextTokens, texts: Sequence[str]) -> list[list[int]]:
    """The numbers of each text, cut and padded to `length`."""
    joined = [encode(tokens, text)[: tokens.length] for text in texts]
    return [one + [tokens.padding_id] * (tokens.length - len(one)) for one in joined]


def decode(tokens: TextTokens, numbers: Iterable[int]) -> str:
    """Text again. wordpiece: words with one space between them; what was between them is lost."""
    if tokens.kind == "bytes":
        return bytes(i - _FIRST_BYTE for i in numbers if i >= _FIRST_BYTE).decode(errors="replace")
    pieces = [tokens.vocabulary[i] for i in numbers if i != tokens.padding_id]
    return " ".join(pieces).replace(" ##", "")


def words(text: str, *, lowercase: bool) -> list[str]:
    """The words of a text, as WordPiece is given them."""
    text = unicodedata.normalize("NFC", text)
    if lowercase:
        text = "".join(one for one in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(one) != "Mn")
    return _WORD.findall(text)


def _pieces(word: str, numbers: dict[str, int], unknown: int) -> list[int]:
    """Greedy longest match."""
    found: list[int] = []
    start = 0
    while start < len(word) <= _LONGEST_WORD:
        inside = "##" if start else ""
        stop = next((end for end in range(len(word), start, -1) if inside + word[start:end] in numbers), None)
        if stop is None:
            return [unknown]
        found.append(numbers[inside + word[start:stop]])
        start = stop
    return found or [unknown]


def learn_vocabulary(texts: Iterable[str], size: int, *, lowercase: bool) -> tuple[str, ...]:
    """A WordPiece vocabulary of at most `size` tokens: the special ones, all characters, then merged pairs.

    Pairs are merged by how often they occur in the texts (Sennrich et al. 2016, arXiv:1508.07909, algorithm 1), the
    first in the order of characters if equally often. What does not fit of the characters, the rarest, is unknown.
    """
    counts = Counter(word for text in texts for word in words(text, lowercase=lowercase))
    spelled = [[word[0], *(f"##{one}" for one in word[1:])] for word in counts]
    weights = list(counts.values())
    characters: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    where: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for i, symbols in enumerate(spelled):
        for symbol in symbols:
            characters[symbol] += weights[i]
        for pair in pairwise(symbols):
            pairs[pair] += weights[i]
            where[pair].add(i)
    ordered = sorted(characters, key=lambda one: (-characters[one], one))
    vocabulary = dict.fromkeys([*SPECIAL, *ordered][:size])
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapq.heapify(heap)
    while len(vocabulary) < size and heap:
        count, pair = heapq.heappop(heap)
        if -count != pairs[pair] or not count:
            continue  # counted before it changed; its present count is in the heap as well
        merged = pair[0] + pair[1].removeprefix("##")
        vocabulary[merged] = None
        changed: set[tuple[str, str]] = set()
        for i in sorted(where[pair]):
            before = spelled[i]
            spelled[i] = _merged(before, pair, merged)
            for one in pairwise(before):
                pairs[one] -= weights[i]
                changed.add(one)
            for one in pairwise(spelled[i]):
                pairs[one] += weights[i]
                where[one].add(i)
                changed.add(one)
        for one in changed:
            heapq.heappush(heap, (-pairs[one], one))
    return tuple(vocabulary)


def _merged(symbols: list[str], pair: tuple[str, str], merged: str) -> list[str]:
    found: list[str] = []
    i = 0
    while i < len(symbols):
        together = tuple(symbols[i : i + 2]) == pair
        found.append(merged if together else symbols[i])
        i += 2 if together else 1
    return found
