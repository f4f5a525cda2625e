"""Draws configurations of the layers for which Keras needs TensorFlow, and writes what it computes for them.

The tests have no TensorFlow: they read `preprocessing.json`, which this made with Keras 3.15.1 on TensorFlow 2.21.0.
Run it in an environment with both: `KERAS_BACKEND=tensorflow python make_preprocessing.py > preprocessing.json`.
"""

from __future__ import annotations

import json
import random
import sys

import keras
import numpy as np
import tensorflow as tf

WORDS = [
    "a",
    "b",
    "the",
    "The",
    "cat",
    "Katze",
    "größe",
    "ÉTÉ",
    "naïve",
    "word",
    "don't",
    "end.",
    "x-y",
    "漢字",
    "7",
    "[UNK]",
    "seventeen-letters",
    "a phrase of thirty-three letters!!",
    "many words " * 7,
    "long " * 40,
    "z" * 64,
    "z" * 65,
]
SHORT = [w for w in WORDS if len(w) < 40]
SPACES = [" ", "  ", "\t", "\n", " \u00a0", "\x1c", "\u2003"]


def shape(r: random.Random, *more: tuple[int, ...]) -> tuple[int, ...]:
    return r.choice([(4,), (4, 1), (3, 3), *more])


def array(r: random.Random, size: tuple[int, ...], pool: list) -> list:
    return np.array([r.choice(pool) for _ in range(int(np.prod(size)))], object).reshape(size).tolist()


def sentence(r: random.Random, pool: list[str] = WORDS) -> str:
    return "".join(r.choice(pool) + r.choice(SPACES) for _ in range(r.randint(0, 7))) + r.choice(["", "!", " ", "Fin"])


def integers(r: random.Random) -> list[int]:
    return [r.randint(-5, 30) for _ in range(12)] + [2**40 + 1, -(2**33), 10**18]


def salt(r: random.Random) -> object:
    return r.choice([None, None, r.randint(0, 999), [r.randint(0, 2**63), r.randint(0, 99)]])


def modes(r: random.Random, size: tuple[int, ...], every: list[str]) -> str:
    return r.choice(every if len(size) > 1 else [m for m in every if m in ("int", "one_hot")])


def hashing(r: random.Random) -> dict:
    size, text = shape(r, (3, 2, 2)), r.random() < 0.6
    every = ["int", "one_hot", "multi_hot", "count"] if len(size) < 3 else ["int"]
    pool = [*WORDS, ""] if text else integers(r)
    options = {"num_bins": r.randint(1, 60), "salt": salt(r), "output_mode": modes(r, size, every)}
    options["mask_value"] = r.choice([None, r.choice(pool)])
    x = array(r, size, pool)
    if not text and r.random() < 0.3 and options["mask_value"] is None:
        x = (np.array(x, "float64") * 0.37).astype("float32").tolist()
    return {"options": options, "x": x}


def crossing(r: random.Random) -> dict:
    pools = [r.choice([WORDS, integers(r)]) for _ in range(r.randint(2, 4))]
    columns = [array(r, (5, 1), p) for p in pools]
    options = {"num_bins": r.randint(1, 50), "output_mode": r.choice(["int", "one_hot"])}
    return {"options": options, "columns": columns}


def lookup(r: random.Random, pool: list, mask: list, oov: object) -> dict:
    size = shape(r)
    options = {"num_oov_indices": r.choice([1, 1, 2, 3, 7]), "mask_token": r.choice([None, *mask])}
    options["output_mode"] = modes(r, size, ["int", "one_hot", "multi_hot", "count", "tf_idf"])
    if r.random() < 0.3:
        options["oov_token"] = r.choice([oov, pool[0]])
    made = {"options": options, "x": array(r, size, [*pool, *mask])}
    given = r.random() < 0.5
    if given:
        tokens = r.sample([p for p in pool if p not in mask and p != options.get("oov_token", oov)], r.randint(1, 5))
        start = options["num_oov_indices"] + (options["mask_token"] is not None and options["output_mode"] == "int")
        if r.random() < 0.3:
            special = [options["mask_token"]] * (start - options["num_oov_indices"])
            tokens = special + [options.get("oov_token", oov)] * options["num_oov_indices"] + tokens
        options["vocabulary"] = tokens
        if options["output_mode"] == "tf_idf":
            options["idf_weights"] = [round(r.random() * 3, 3) for _ in tokens]
        if options["output_mode"] == "int" and r.random() < 0.35:
            options["invert"] = True
            made["x"] = array(r, size, list(range(14)))
    else:
        made["adapt"] = array(r, (r.randint(2, 12), r.randint(1, 4)), [*pool[: r.randint(2, len(pool))], *mask])
    if r.random() < 0.5:
        options["max_tokens"] = r.randint(12 if not given else 20, 24)
        options["pad_to_max_tokens"] = r.random() < 0.5
    return made


def strings(r: random.Random) -> dict:
    made = lookup(r, r.sample(WORDS, 9), ["", "the"], "[UNK]")
    made["options"]["salt"] = salt(r)
    return made


def numbers(r: random.Random) -> dict:
    made = lookup(r, r.sample(sorted(set(integers(r))), 8), [0, 99], -1)
    made["options"]["oov_method"] = r.choice(["floormod", "farmhash"])
    if made["options"]["oov_method"] == "farmhash":
        made["options"]["salt"] = salt(r)
    return made


def texts(r: random.Random) -> dict:
    options = {
        "standardize": r.choice(["lower_and_strip_punctuation", "lower", "strip_punctuation", None]),
        "split": r.choice(["whitespace", "whitespace", "character", None]),
        "ngrams": r.choice([None, None, 1, 2, 3, [2], [1, 3], [3, 2]]),
        "output_mode": r.choice(["int", "int", "multi_hot", "count", "tf_idf"]),
    }
    width = 3 if options["split"] is None else 1
    rows = [[sentence(r, SHORT) for _ in range(width)] for _ in range(8)]
    made = {"options": options, "x": [*rows[4:], [sentence(r, SHORT) for _ in range(width)]]}
    if options["output_mode"] == "int":
        options["output_sequence_length"] = r.choice([None, 1, 5, 30])
        if options["split"] is None and options["ngrams"] is None and options["output_sequence_length"] is None:
            options["output_sequence_length"] = 3
    elif r.random() < 0.3:
        options["max_tokens"] = r.randint(70, 90)
        options["pad_to_max_tokens"] = True
    if r.random() < 0.3:
        options["vocabulary"] = ["the", "cat", "e", "katze", "the cat", "größe", "dont"]
        if options["output_mode"] == "tf_idf":
            options["idf_weights"] = [0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    else:
        made["adapt"] = rows[:6]
        if "max_tokens" not in options and r.random() < 0.4:
            options["max_tokens"] = r.randint(4, 12)
    return made


DRAWS = {
    "Hashing": (hashing, 150), "HashedCrossing": (crossing, 100), "StringLookup": (strings, 200),
    "IntegerLookup": (numbers, 200), "TextVectorization": (texts, 200),
}  # fmt: skip


def tensor(values: list) -> tf.Tensor:
    flat = np.array(values, object).reshape(-1).tolist()
    return tf.constant(
        values, tf.string if isinstance(flat[0], str) else None if isinstance(flat[0], float) else tf.int64
    )


def short(value: object) -> object:
    """Whole numbers without a fraction, to keep the file small."""
    if isinstance(value, list):
        return [short(v) for v in value]
    return int(value) if value == int(value) else value


def computed(name: str, draw: dict) -> dict:
    options = {k: tuple(v) if k == "ngrams" and isinstance(v, list) else v for k, v in draw["options"].items()}
    layer = getattr(keras.layers, name)(**options)
    if "adapt" in draw:
        layer.adapt(tensor(draw["adapt"]))
        draw["vocabulary"] = [v.item() if isinstance(v, np.generic) else v for v in layer.get_vocabulary()]
    x = [tensor(c) for c in draw["columns"]] if "columns" in draw else tensor(draw["x"])
    out = layer(x).numpy()
    draw["out"] = np.vectorize(lambda v: v.decode() if isinstance(v, bytes) else v, otypes=[object])(out).tolist()
    if out.dtype.kind == "f":
        draw["out"] = [short(v) for v in np.round(out.astype("float64"), 6).tolist()]
    return draw


def main() -> None:
    if keras.config.backend() != "tensorflow":
        sys.exit("set KERAS_BACKEND=tensorflow")
    made, failed = {}, 0
    for name, (draw, count) in DRAWS.items():
        made[name] = []
        r = random.Random(name)
        while len(made[name]) < count:
            drawn = draw(r)
            try:
                made[name].append(computed(name, drawn))
            except Exception as error:
                failed += 1
                print(name, drawn["options"], str(error)[:200], file=sys.stderr)
    print(failed, "draws were refused by Keras", file=sys.stderr)
    lines = [
        f'"{n}": [\n' + ",\n".join(json.dumps(d, ensure_ascii=False, separators=(",", ":")) for d in ds) + "\n]"
        for n, ds in made.items()
    ]
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
