"""Windows over a text: equal to cutting it by hand, with the numbers that a prompt gets later."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras.src.legacy.preprocessing.text import text_to_word_sequence

from trainer.errors import DataError, FileError, TrainerError
from trainer.sources import text_files, text_windows
from trainer.sources.base import Places
from trainer.sources.columns import Table
from trainer.sources.text_windows import TextWindows, encode, numbered


@pytest.fixture
def text(tmp_path: Path) -> Any:
    """Opens a text with options."""

    def read(data: str | bytes, **options: Any) -> Table:
        (tmp_path / "book.txt").write_bytes(data if isinstance(data, bytes) else data.encode())
        return TextWindows(path="book.txt", **options).open(Places(tmp_path))

    return read


def cut(entries: list[str], words: list[str], maxlen: int, step: int) -> tuple[list[list[int]], list[int]]:
    """Windows and what follows each, one by one."""
    starts = range(0, len(entries) - maxlen, step)
    windows = [[words.index(e) for e in entries[s : s + maxlen]] for s in starts]
    return windows, [words.index(entries[s + maxlen]) for s in starts]


@pytest.mark.parametrize(("maxlen", "step"), [(40, 3), (1, 1), (7, 7), (5, 100), (399, 1)])
def test_characters_of_a_real_book(data_folder: Path, maxlen: int, step: int) -> None:
    table = TextWindows(path="republic_clean.txt", maxlen=maxlen, step=step, limit_chars=400).open(
        Places(None, data_folder)
    )
    book = (data_folder / "republic_clean.txt").read_text(encoding="utf-8")[:400].lower()
    words = sorted(set(book))
    windows, following = cut(list(book), words, maxlen, step)
    assert table.words == tuple(words)
    np.testing.assert_array_equal(table.train.columns["window"], windows)
    np.testing.assert_array_equal(table.train.columns["next"], following)


def test_words_of_a_real_book_are_those_of_keras(data_folder: Path) -> None:
    table = TextWindows(path="republic_clean.txt", level="word", maxlen=8, step=5).open(Places(None, data_folder))
    entries = text_to_word_sequence((data_folder / "republic_clean.txt").read_text(encoding="utf-8"))
    words = sorted(set(entries))
    assert table.words == tuple(words)
    assert table.fields["next"].classes == tuple(words)
    numbers = np.asarray([words.index(e) for e in entries[:500]])
    np.testing.assert_array_equal(table.train.columns["window"][:98], [numbers[s : s + 8] for s in range(0, 490, 5)])
    assert len(table.train) == len(range(0, len(entries) - 8, 5))


def test_whole_book_takes_the_memory_of_the_book(data_folder: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table = TextWindows(path="republic_clean.txt", maxlen=500, step=1).open(Places(None, data_folder))
    assert table.train.columns["window"].shape == (1195137, 500)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        ("Abba", {}, ("a", "b")),
        ("Abba", {"lower": False}, ("A", "a", "b")),
        ("a\r\nb\rc\n", {}, ("\n", "a", "b", "c")),
        (b"\xef\xbb\xbfab", {}, ("a", "b")),
        (b"\xef\xbb\xbfabc", {"limit_chars": 2}, ("a", "b")),
        ("abcdef", {"limit_chars": 3}, ("a", "b", "c")),
        ("aaabbc", {"num_words": 3}, ("<unknown>", "a", "b")),
        ("abc", {"num_words": 2}, ("<unknown>", "a")),
        ("ab", {"num_words": 9}, ("<unknown>", "a", "b")),
        ("é漢😀", {}, ("é", "漢", "😀")),
        (b"\xe9a", {"encoding": "latin-1"}, ("a", "é")),
        ("áb".encode("utf-16"), {"encoding": "utf-16"}, ("b", "á")),
        ("It's 2 o'clock, (really)!", {"level": "word"}, ("2", "it's", "o'clock", "really")),
        ("to be or not to be", {"level": "word", "num_words": 3}, ("<unknown>", "be", "to")),
        ("a\u00a0b\u2003c\x0bd", {"level": "word"}, ("a", "b", "c", "d")),
    ],
)
def test_what_is_numbered(text: Any, data: str | bytes, options: dict[str, Any], words: tuple[str, ...]) -> None:
    assert text(data, maxlen=1, **options).words == words


def test_rare_ones_share_a_number(text: Any) -> None:
    table = text("aaxabyb", maxlen=2, step=1, num_words=3)
    assert table.train.columns["window"].tolist() == [[1, 1], [1, 0], [0, 1], [1, 2], [2, 0]]
    assert table.train.columns["next"].tolist() == [0, 1, 2, 0, 2]


@pytest.mark.parametrize("level", ["char", "word"])
@pytest.mark.parametrize("most", [None, 4])
def test_a_text_is_encoded_as_it_was_read(level: Any, most: int | None) -> None:
    book = "In the beginning; the END, in the middle. Aa b the"
    words, numbers = numbered(book.lower(), level, most)
    np.testing.assert_array_equal(encode(book, words, level), numbers)
    np.testing.assert_array_equal(encode("", words, level), [])
    assert encode("The", words, level, lower=True).tolist() == encode("the", words, level, lower=False).tolist()


def test_a_prompt_with_what_the_text_lacks() -> None:
    with pytest.raises(DataError, match=r"the character 'z' does not occur"):
        encode("abz", ("a", "b"))
    with pytest.raises(DataError, match="the word 'zoo' does not occur"):
        encode("go zoo", ("go",), "word")
    with pytest.raises(DataError, match=r"'\\udc80'"):
        encode("\udc80", ("a",))
    with pytest.raises(DataError, match="the characters 'x', 'y', 'z' do not occur"):
        encode("azyxz", ("a", "b"))
    with pytest.raises(DataError, match="'h', 'i' and 2 more do not occur"):
        encode("bcdefghijk", ("a",))
    assert encode("abz", ("<unknown>", "a", "b")).tolist() == [1, 2, 0]
    assert encode("Go zoo", ("<unknown>", "go"), "word").tolist() == [1, 0]


@pytest.mark.parametrize(("data", "found"), [("", 0), ("a" * 40, 40), ("a" * 39, 39)])
def test_a_text_without_a_window(text: Any, data: str, found: int) -> None:
    with pytest.raises(DataError, match=rf"book\.txt: expected more than maxlen \(40\) chars, found {found}"):
        text(data)
    assert len(text(data + "a" * 41).train) > 0


@pytest.mark.parametrize(
    ("data", "encoding", "line"),
    [
        (b"one\ntwo\n\xff\n", "utf-8", 3),
        (b"one\r\ntwo\r\n\xff\n", "utf-8", 3),
        (b"one\rtwo\r\xff", "utf-8", 3),
        (b"x\n" * 1_500_000 + b"\xe9", "ascii", 1_500_001),
        (b"one\ncut \xe2\x82", "utf-8", 2),
        (b"abc", "utf-16", 1),
        (b"a\n+2AA-", "utf-7", 2),
        (b"a\n\\ud800", "unicode_escape", 2),
    ],
)
def test_bytes_that_are_no_text_are_placed(text: Any, data: bytes, encoding: str, line: int) -> None:
    with pytest.raises(DataError, match=rf"book\.txt:{line}: the line holds bytes that are not {encoding}"):
        text(data, encoding=encoding)


def test_a_file_that_is_too_long(text: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "MOST_CHARACTERS", 1000)
    with pytest.raises(FileError, match=r"longer than 1,000 characters") as caught:
        text("ab" * 501)
    assert "limit_chars" in str(caught.value)
    assert len(text("ab" * 501, limit_chars=999).train) > 0
    assert len(text("ab" * 500).train) > 0


def test_no_more_is_read_than_wanted(tmp_path: Path) -> None:
    with (tmp_path / "endless.txt").open("wb") as file:
        file.write(b"abc")
        file.truncate(1 << 40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert text_files.read_text(tmp_path / "endless.txt", limit=3) == "abc"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


LICENSED = "A Licence.\r\n*** START ***\r\nOne two.\r\n*** START ***\r\nThree."


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"after": "*** START ***\n"}, "One two.\n*** START ***\nThree."),
        ({"after": "START"}, " ***\nOne two.\n*** START ***\nThree."),
        ({"after": "START ***\n", "limit_chars": 5}, "One t"),
        ({"after": "A"}, LICENSED[1:].replace("\r", "")),
    ],
)
def test_a_text_begins_after_its_licence(text: Any, options: dict[str, Any], kept: str) -> None:
    table = text(LICENSED, lower=False, maxlen=1, step=1, **options)
    assert table.words == tuple(sorted(set(kept)))
    written = [*table.train.columns["window"][:, 0], table.train.columns["next"][-1]]
    assert "".join(table.words[n] for n in written) == kept


def test_a_beginning_that_is_nowhere(text: Any) -> None:
    for after in ("start", "START ***\r\n", "Licence. "):
        with pytest.raises(DataError, match=r"book\.txt: the text .*, after which to begin, does not occur") as refusal:
            text(LICENSED, maxlen=1, after=after)
        assert repr(after) in str(refusal.value)
    with pytest.raises(DataError, match="expected more than maxlen"):
        text(LICENSED, maxlen=1, after="Three")


def test_a_limit_counts_from_the_beginning_in_a_text_of_any_length(text: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (text_files, text_windows):
        monkeypatch.setattr(module, "MOST_CHARACTERS", 40)
    long = "Licence. " + "ab" * 100
    assert len(text(long, maxlen=1, step=1, after="Licence. ", limit_chars=10).train) == 9
    with pytest.raises(FileError, match="longer than 40"):
        text(long, maxlen=1, after="Licence. ")


@pytest.mark.parametrize(
    ("options", "said"), [({"num_words": 1}, "2 or more"), ({"level": "line"}, "char"), ({"encoding": "x"}, "encoding")]
)
def test_options_that_no_text_could_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TextWindows(path="book.txt", **options)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-7", "gb18030", "iso2022_jp"])
@pytest.mark.parametrize("level", ["char", "word"])
def test_mutants_are_rows_or_a_clean_refusal(text: Any, encoding: str, level: str) -> None:
    good, random, seen = "Ein Text,漢字 und mehr.\r\nZeile".encode(encoding), np.random.default_rng(3), [0, 0]
    for _ in range(60):
        data = bytearray(good)
        for at in random.integers(0, len(data), random.integers(1, 4)):
            data[at] = random.integers(0, 256)
        try:
            table = text(bytes(data), encoding=encoding, level=level, maxlen=2)
        except TrainerError as error:
            seen[0] += "book.txt" in str(error)
        else:
            assert table.words is not None
            assert table.train.columns["window"].max() < len(table.words)
            "".join(table.words).encode("utf-8")
            seen[1] += 1
    assert sum(seen) == 60
    assert seen[1] > 0
