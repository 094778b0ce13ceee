#!/usr/bin/env python3
"""Writes the images of Debian's package `dataset-fashion-mnist` into a folder: SPLIT/CLASS/NUMBER.png.

python3 doc/fashion_mnist.py FOLDER     needs Pillow
"""

import gzip
import sys
from pathlib import Path

from PIL import Image

SOURCE = Path("/usr/share/datasets/fashion-mnist")
SIDE = 28
CLASSES = [
    "T-shirt or top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]


def read(part, content, header):
    with gzip.open(SOURCE / f"{part}-{content}-ubyte.gz") as file:
        return file.read()[header:]


def write(folder, split, part):
    pixels = read(part, "images-idx3", 16)
    for number, label in enumerate(read(part, "labels-idx1", 8)):
        path = folder / split / CLASSES[label] / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = pixels[number * SIDE * SIDE : (number + 1) * SIDE * SIDE]
        Image.frombytes("L", (SIDE, SIDE), image).save(path)


if len(sys.argv) != 2:
    sys.exit(__doc__)
for split, part in [("train", "train"), ("test", "t10k")]:
    write(Path(sys.argv[1]), split, part)
