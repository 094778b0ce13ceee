"""Compares what hostile files decode to with Pillow. Not part of the suite.

    mkdir /tmp/hostile
    PIPE_HOSTILE=/tmp/hostile cargo test --lib hostile
    python3 tests/hostile.py /tmp/hostile

Prints the mean difference of each file that both read, and which only one of them reads. Damaged
files are kept by both, and transparency is ignored by both.
"""
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps

warnings.simplefilter("ignore")
ImageFile.LOAD_TRUNCATED_IMAGES = True
Image.MAX_IMAGE_PIXELS = 100_000_000
LIMIT = 3.0
counts = {"both read": 0, "both refuse": 0, "only pipe reads": 0, "only Pillow reads": 0}
worst = []
for outcome in sorted(Path(sys.argv[1]).glob("*.outcome")):
    path = outcome.with_suffix("")
    words = outcome.read_text()
    try:
        with Image.open(path) as image:
            image.seek(0)
            theirs = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    except Exception as error:
        theirs, reason = None, f"{type(error).__name__}: {error}"
    ours = path.with_name(path.name + ".ppm")
    if ours.exists():
        ours = np.asarray(Image.open(ours).convert("RGB")).astype(int)
        if theirs is None:
            counts["only pipe reads"] += 1
            print(f"{path.name}: only pipe reads it [{words}]; Pillow: {reason}")
        elif ours.shape != theirs.shape:
            worst.append(path.name)
            print(f"{path.name}: {ours.shape} instead of {theirs.shape}")
        else:
            counts["both read"] += 1
            difference = np.abs(ours - theirs).mean()
            if difference > LIMIT:
                worst.append(path.name)
            print(f"{path.name}: mean difference {difference:.2f} [{words}]")
    elif theirs is None:
        counts["both refuse"] += 1
    else:
        counts["only Pillow reads"] += 1
        print(f"{path.name}: only Pillow reads it; pipe: {words}")
print(counts, f"above {LIMIT}: {worst}")
