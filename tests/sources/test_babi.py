"""bAbI files: the rows of Keras's published memory network, and the line of whatever is wrong in a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from trainer.errors import DataError, FileError, TrainerError
from trainer.sources import babi
from trainer.sources.babi import Babi
from trainer.sources.base import Places
from trainer.sources.columns import Rows, Table

STORY = """1 Mary moved to the bathroom.
2 John went to the hallway.
3 Where is Mary? \tbathroom\t1
4 Daniel went back.
5 Where is John? \thallway\t2
1 Sandra slept.
2 Where is Sandra? \tbed, garden\t1
"""
TEST = "1 Bill's at home.\n2 Where is Bill? \thome\t1\n"


@pytest.fixture
def task(tmp_path: Path) -> Any:
    """Opens a task of these two texts."""
    (tmp_path / "babi").mkdir()

    def read(train: str | bytes = STORY, test: str | bytes = TEST, **options: Any) -> Table:
        for part, text in (("train", train), ("test", test)):
            data = text if isinstance(text, bytes) else text.encode()
            (tmp_path / "babi" / f"qa1_made_{part}.txt").write_bytes(data)
        return Babi(**options).open(Places(tmp_path))

    return read


def told(table: Table, rows: Rows | None, name: str) -> list[str]:
    """Rows as words, without what fills them up."""
    assert table.words is not None
    assert rows is not None
    return [" ".join(table.words[n] for n in np.atleast_1d(row) if n) for row in rows.columns[name]]


def test_stories_questions_and_answers(task: Any) -> None:
    table = task()
    first = "Mary moved to the bathroom . John went to the hallway ."
    assert told(table, table.train, "story") == [first, f"{first} Daniel went back .", "Sandra slept ."]
    assert told(table, table.train, "question") == ["Where is Mary ?", "Where is John ?", "Where is Sandra ?"]
    assert told(table, table.train, "answer") == ["bathroom", "hallway", "bed, garden"]
    assert told(table, table.test, "story") == ["Bill ' s at home ."]
    assert table.words is not None
    assert table.words[:6] == ("<pad>", "'", ".", "?", "Bill", "Daniel")
    assert list(table.words[1:]) == sorted(set(table.words[1:]))


def test_only_supporting_sentences(task: Any) -> None:
    table = task(only_supporting=True)
    expected = ["Mary moved to the bathroom .", "John went to the hallway .", "Sandra slept ."]
    assert told(table, table.train, "story") == expected


def test_words_after_the_last_question_have_no_number(task: Any) -> None:
    """Keras's example knows the words of the rows; what follows the last question is in none."""
    assert "Zebra" not in task(STORY + "3 Zebra ran.\n").words


def test_fields_are_known_before_as_far_as_they_can_be(task: Any) -> None:
    unopened = Babi(story_maxlen=9, query_maxlen=3)
    assert {n: f.shape for n, f in unopened.fields().items()} == {"story": (9,), "question": (3,), "answer": ()}
    assert Babi().fields()["story"].shape == (None,)
    table = task()
    assert {n: f.shape for n, f in table.fields.items()} == {"story": (16,), "question": (4,), "answer": ()}
    assert table.fields["answer"].classes == table.words
    assert sorted(table.digests) == ["qa1_made_test.txt", "qa1_made_train.txt"]


def published(path: Path) -> list[tuple[list[str], list[str], str]]:
    """(story, question, answer) of each row, worked out anew: words are runs of letters, marks are single."""
    rows, story = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        number, rest = line.split(" ", 1)
        story = [] if number == "1" else story
        question, *others = rest.split("\t")
        said = re.findall(r"[A-Za-z]+|[.?]", question)
        if others:
            rows.append((story, said, others[0]))
        else:
            story = story + said
    return rows


@pytest.mark.parametrize("lengths", [(None, None), (30, 3), (100, 7)])
def test_real_task_equals_keras_padding(data_folder: Path, lengths: tuple[int | None, int | None]) -> None:
    table = Babi(story_maxlen=lengths[0], query_maxlen=lengths[1]).open(Places(None, data_folder, False))
    files = [data_folder / "babi" / f"qa1_single-supporting-fact_{part}.txt" for part in ("train", "test")]
    parts = [published(f) for f in files]
    every = [row for rows in parts for row in rows]
    words = sorted({w for story, question, answer in every for w in (*story, *question, answer)})
    assert table.words == ("<pad>", *words)
    # What Keras's example prints for this task.
    assert len(words) + 1 == 22
    widths = [lengths[0] or 68, lengths[1] or 4]
    assert max(len(story) for story, _, _ in every) == 68
    number = {w: i for i, w in enumerate(words, 1)}
    for rows, part in ((table.train, parts[0]), (table.test, parts[1])):
        assert rows is not None
        for name, column, width in (("story", 0, widths[0]), ("question", 1, widths[1])):
            lists = [[number[w] for w in row[column]] for row in part]
            np.testing.assert_array_equal(
                rows.columns[name], keras.utils.pad_sequences(lists, maxlen=width, dtype="int64")
            )
        np.testing.assert_array_equal(rows.columns["answer"], [number[answer] for _, _, answer in part])
    assert (len(table.train), len(table.test or ())) == (10000, 1000)


BAD = {
    "no number": ("Mary moved.\n", "1: expected a number and a sentence"),
    "nothing behind the number": ("1 Mary moved.\n2 \n", "2: expected a number and a sentence"),
    "a number of other digits": ("¹ Mary moved.\n", "1: expected a number and a sentence"),
    "a huge number": ("9" * 5000 + " Mary moved.\n", "1: expected a number and a sentence"),
    "a sentence is missing": ("1 Mary moved.\n3 Where? \ta\t1\n", "2: expected sentence 2 of the story, found 3"),
    "begins in the middle": ("2 Mary moved.\n", "1: expected sentence 1 of the story, found 2"),
    "no sentences named": ("1 Mary moved.\n2 Where? \thall\n", "2: expected a question, its answer and the sentences"),
    "no answer": ("1 Mary moved.\n2 Where? \t \t1\n", "2: expected a question, its answer"),
    "no question": ("1 Mary moved.\n2 \thall\t1\n", "2: expected a question, its answer"),
    "nobody asks": ("1 Mary moved.\n", "there are no questions"),
    "nothing": ("", "there are no questions"),
    "another encoding": (STORY.encode() + b"8 \xff\n", "8: the line holds bytes that are not utf-8"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_with_its_line(task: Any, name: str) -> None:
    text, said = BAD[name]
    with pytest.raises(DataError, match=r"qa1_made_train\.txt:") as caught:
        task(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("named", ["0", "2", "1 9", "x", "-1", "²"])
def test_a_sentence_that_is_not_there(task: Any, named: str) -> None:
    text = f"1 Mary moved.\n2 Where? \thall\t{named}\n"
    with pytest.raises(DataError, match=r"train\.txt:2: expected numbers of earlier sentences, from 1 to 1"):
        task(text, only_supporting=True)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"qa3_\*_train.txt and qa3_\*_test.txt are not here") as caught:
        Babi(task=3).open(Places(tmp_path, None, False))
    assert "babi_tasks_1-20_v1-2.tar.gz" in str(caught.value)
    (tmp_path / "babi").mkdir()
    for name in ("qa1_a_train.txt", "qa1_b_train.txt", "qa1_a_test.txt", "qa10_c_test.txt"):
        (tmp_path / "babi" / name).write_text(STORY)
    with pytest.raises(FileError, match=r"expected one file, found qa1_a_train.txt and qa1_b_train.txt"):
        Babi().open(Places(tmp_path, None, False))
    (tmp_path / "babi" / "qa1_b_train.txt").unlink()
    assert len(Babi(path=str(tmp_path / "babi")).open(Places(None, None, False)).train) == 3


@pytest.mark.parametrize("value", [0, 21, "1", True])
def test_tasks_are_one_to_twenty(value: Any) -> None:
    with pytest.raises(ValueError, match="a task from 1 to 20"):
        Babi(task=value)


def test_stories_that_would_fill_the_memory_are_refused(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(babi, "MOST_NUMBERS", 40)
    with pytest.raises(DataError, match="3 stories of length 16 are too much to hold"):
        task()
    repeated = "1 Mary moved to the hall.\n2 Where? \thall\t" + "1 " * 30 + "\n"
    with pytest.raises(DataError, match=r"train\.txt:2: the sentences .* are too much to hold"):
        task(repeated, only_supporting=True)


@pytest.mark.parametrize("only_supporting", [False, True])
def test_mutants_are_rows_or_a_clean_refusal(task: Any, only_supporting: bool) -> None:
    random, seen = np.random.default_rng(4), {"rows": 0, "refused": 0}
    for _ in range(200):
        data = bytearray(STORY.encode())
        for at in random.integers(0, len(data), random.integers(1, 4)):
            data[at] = random.choice(list(b"\t \n19.?\xff\0a"))
        try:
            table = task(bytes(data), only_supporting=only_supporting)
        except TrainerError as error:
            seen["refused"] += "qa1_made_train.txt" in str(error)
        else:
            assert table.train.columns["story"].max() < len(table.words)
            seen["rows"] += 1
    assert sum(seen.values()) == 200
    assert min(seen.values()) > 20
