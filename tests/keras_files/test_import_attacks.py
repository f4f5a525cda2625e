"""Model files made to do harm, and damaged ones: a clean error each, soon, in bounds, and no code run."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.keras_files import attacks
from trainer.errors import FileError, TrainerError
from trainer.keras_files.importing import Asked, import_file
from trainer.train.terms import Options

SECONDS, MEMORY = 2.0, 500_000
"Of an attack, kilobytes of all of them."
MUTANTS, MORE_MUTANTS, VARIANTS = 40, 2000, 300


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("attacks")
    command = [sys.executable, "-m", "tests.keras_files.attacked", str(folder)]
    home = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=home, timeout=300)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_an_attack_is_refused(name: str, attacked: dict[str, Any]) -> None:
    found = attacked["found"][name]
    assert found["error"] == "FileError", found
    assert found["seen"] == []
    # Time of this process and of the waiting for its child, which shares the machine with other tests.
    assert found["seconds"] < SECONDS
    assert found["wall"] < 5 * SECONDS
    assert len(found["says"]) < 2000
    assert not set(found["says"]) & {"\x1b", "\u202e", "\x07"} or name == "words_that_move_the_cursor"


def test_nothing_ran_and_nothing_swelled(attacked: dict[str, Any]) -> None:
    assert len(attacked["found"]) == len(attacks.ATTACKS) > 60
    assert not attacked["marker"]
    assert attacked["memory"] < MEMORY


def test_the_watch_sees_what_it_watches_for(tmp_path: Path) -> None:
    """A negative control: the hook of `attacked` notes an import, a pickle and an opened secret."""
    script = f"""
import sys
from pathlib import Path
from tests.keras_files import attacked
sys.path.insert(0, {str(tmp_path)!r})
sys.addaudithook(attacked.watch)
attacked.watching = True
import evil_module, pickle, marshal
open({str(tmp_path / attacks.SECRET)!r})
pickle.loads(pickle.dumps(Path, 4))
marshal.loads(marshal.dumps(1))
attacked.watching = False
print(attacked.seen)
"""
    (tmp_path / "evil_module.py").write_text("")
    (tmp_path / attacks.SECRET).write_text("")
    home = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=home)
    assert all(word in done.stdout for word in ("evil_module", "secret.txt", "find_class", "marshal.loads"))


JUNK: list[Any] = [None, True, 0, -1, 1.5, 1e300, 10**30, "", "x", "dense", "\x1b[1m", [], {}, [[]], [None], {"x": {}}]
JUNK += [{"class_name": "Dense", "config": {}}, {"class_name": "GlorotUniform", "config": None}, ["dense", 0, 0]]
JUNK += [attacks.tensor("x"), attacks.tensor("dense", 3), {"class_name": "__keras_tensor__"}, [None, None], "linear"]


def sound() -> dict[str, Any]:
    """A graph with most of what a description can hold."""
    inner = {**attacks.chain(attacks.dense(name="inner")), "name": "model"}
    inner["config"]["name"] = "model"
    wrapped = attacks.layer("TimeDistributed", name="each", layer=attacks.dense(name="held"))
    return attacks.graph(
        attacks.called(attacks.dense(name="one"), attacks.node(attacks.tensor("x")), attacks.node(attacks.tensor("x"))),
        {**inner, "inbound_nodes": [attacks.node(attacks.tensor("x"))]},
        attacks.called(
            attacks.layer("Concatenate", name="both", axis=-1),
            attacks.node([attacks.tensor("one"), attacks.tensor("one", 1), attacks.tensor("model")]),
        ),
        attacks.called(attacks.layer("RepeatVector", name="times", n=3), attacks.node(attacks.tensor("both"))),
        attacks.called(wrapped, attacks.node(attacks.tensor("times"))),
        attacks.called(attacks.layer("LSTM", name="lstm", units=2), attacks.node(attacks.tensor("each"), mask=None)),
        attacks.called(attacks.dense(), attacks.node(attacks.tensor("lstm"))),
    )


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a value."""
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [(value, key) for key, _ in inner] + [place for _, v in inner for place in places(v)]


def put_junk(draw: random.Random, holder: Any, key: Any) -> None:
    holder[key] = copy.deepcopy(draw.choice(JUNK))


def remove(draw: random.Random, holder: Any, key: Any) -> None:
    del holder[key]


def double(draw: random.Random, holder: Any, key: Any) -> None:
    if isinstance(holder, list):
        holder.insert(draw.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    else:
        holder[f"{key}_1"] = copy.deepcopy(holder[key])


def swap(draw: random.Random, holder: Any, key: Any) -> None:
    other, place = draw.choice(places(holder)) if places(holder) else (holder, key)
    other[place] = copy.deepcopy(holder[key])


CHANGES: list[Callable[[random.Random, Any, Any], None]] = [put_junk, remove, double, swap]


@pytest.mark.parametrize("part", range(4))
def test_descriptions_changed_at_random(part: int, tmp_path: Path) -> None:
    """Errors of ours, or a model: whatever stands where in a description."""
    refused: list[str] = []
    options = Options(runs=tmp_path / "runs")
    for seed in range(part, VARIANTS, 4):
        draw = random.Random(seed)
        value = sound()
        for _ in range(draw.randint(1, 3)):
            draw.choice(CHANGES)(draw, *draw.choice(places(value)))
        file = tmp_path / "changed.json"
        file.write_text(json.dumps(value))
        try:
            import_file(Asked(file), options)
        except FileError as error:
            refused.append(str(error))
    assert all(0 < len(said) < 5000 for said in refused)
    assert 3 < len(refused) < VARIANTS // 4 - 3


def test_the_description_itself_is_sound(tmp_path: Path) -> None:
    (tmp_path / "sound.json").write_text(json.dumps(sound()))
    made = import_file(Asked(tmp_path / "sound.json"), Options(runs=tmp_path / "runs"))
    assert [row.layer for row in made.rows][:3] == ["one", "model", "model/inner"]


def mutant(data: bytes, seed: int) -> bytes:
    """A file with some bytes changed, cut out, doubled, or cut off."""
    draw, made = random.Random(seed), bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8, 64])):
        if len(made) < 200:
            break
        at = draw.randrange(len(made))
        change = draw.randrange(5)
        if change == 0:
            made[at] = draw.randrange(256)
        elif change == 1:
            made[at] ^= 1 << draw.randrange(8)
        elif change == 2:
            made[at : at + draw.randrange(1, 9)] = draw.randbytes(draw.randrange(1, 9))
        elif change == 3:
            del made[at : at + draw.randrange(1, 40)]
        else:
            del made[draw.randrange(100, len(made) + 1) :]
    return bytes(made)


def hold_mutants(seeds: range, tmp_path: Path) -> None:
    attacks.archive(tmp_path / "sound.keras", sound_chain())
    attacks.whole(tmp_path / "sound.h5").close()
    (tmp_path / "sound.json").write_text(json.dumps(sound()))
    whole = [(tmp_path / f"sound.{ending}").read_bytes() for ending in ("keras", "h5", "json")]
    options = Options(runs=tmp_path / "runs")
    said: list[tuple[int, TrainerError]] = []
    for seed in seeds:
        file = tmp_path / "mutant"
        file.write_bytes(mutant(whole[seed % 3], seed))
        try:
            import_file(Asked(file), options)
        except TrainerError as error:
            said.append((seed, error))
    assert [(seed, str(error)) for seed, error in said if not isinstance(error, FileError)] == []
    assert all(len(str(error)) < 5000 for _, error in said)


def sound_chain() -> dict[str, Any]:
    return attacks.chain(attacks.dense())


def test_mutants(tmp_path: Path) -> None:
    hold_mutants(range(MUTANTS), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_more_mutants(part: int, tmp_path: Path) -> None:
    hold_mutants(range(MUTANTS + part, MUTANTS + MORE_MUTANTS, 10), tmp_path)
