"""Compares augmentation with torchvision's: the same operations with the same parameters, and the distributions of
random parameters.

    PIPE_AUGMENT=FOLDER cargo test --lib compared
    python3 tests/augment.py FOLDER

The first command writes images and random values, the second one prints the differences. Needs numpy, torch and
torchvision. Differences are in levels of 0..255; of geometry, only where torchvision has no fill. It fails where one is
larger than its limit.
"""

import json
import sys

import numpy as np
import torch
from torchvision.transforms import InterpolationMode, autoaugment
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

BILINEAR = InterpolationMode.BILINEAR
# Largest mean and largest difference in levels, by operation. torchvision rounds each of RandAugment's to whole levels.
LIMITS = {"rand_augment": (1.0, 2.0)}
DEFAULT = (0.05, 0.5)
# Largest distance of two distributions (Kolmogorov and Smirnov) of 20,000 draws each: p = 0.001.
DISTANCE = 0.0195


def applied(op, given, image):
    """The image, of floats in 0..1, after an operation; and where the result isn't a fill."""
    everywhere = torch.ones(1, *image.shape[1:])
    if op == "resized_crop":
        left, top, width, height = (int(value) for value in given)
        size = list(image.shape[1:])
        # At the edge of the crop, torchvision doesn't see the pixels beside it.
        everywhere[:, [0, -1]] = everywhere[:, :, [0, -1]] = 0
        return F.resized_crop(image, top, left, height, width, size, BILINEAR, antialias=False), everywhere
    if op == "affine":
        shear = [given["shear"], 0.0]

        def turn(one):
            return F.affine(one, given["angle"], given["translate"], given["scale"], shear, BILINEAR)

        return turn(image), turn(everywhere)
    if op == "perspective":
        last = image.shape[1] - 1
        corners = [[0, 0], [last, 0], [last, last], [0, last]]
        moved = [[int(x), int(y)] for x, y in given]
        return F.perspective(image, corners, moved, BILINEAR), F.perspective(everywhere, corners, moved, BILINEAR)
    if op == "brightness":
        return F.adjust_brightness(image, given), everywhere
    if op == "contrast":
        return F.adjust_contrast(image, given), everywhere
    if op == "saturation":
        return F.adjust_saturation(image, given), everywhere
    if op == "hue":
        return F.adjust_hue(image, given), everywhere
    if op == "grayscale":
        return F.rgb_to_grayscale(image, num_output_channels=3), everywhere
    if op == "gaussian_blur":
        return F.gaussian_blur(image, [given["taps"]] * 2, [given["sigma"]] * 2), everywhere
    if op == "rand_augment":
        return rand_augment(given, image), everywhere
    raise SystemExit(f"unknown operation {op}")


def rand_augment(given, image):
    bytes_ = (image * 255).round().to(torch.uint8)
    space = autoaugment.RandAugment()._augmentation_space(31, tuple(image.shape[1:]))
    magnitudes, signed = space[given["name"]]
    magnitude = float(magnitudes[given["bin"]]) if magnitudes.ndim > 0 else 0.0
    magnitude *= given["sign"] if signed else 1
    result = autoaugment._apply_op(bytes_, given["name"], magnitude, InterpolationMode.NEAREST, None)
    return result.float() / 255


def compare(folder, cases):
    side = cases["side"]
    read = lambda name, kind: np.fromfile(f"{folder}/{name}", kind).reshape(side, side, 3)
    image = torch.from_numpy(read("square.u8", np.uint8).copy()).permute(2, 0, 1).float() / 255
    worst, failed = {}, False
    for case in cases["cases"]:
        op, given = case["op"], case["parameters"]
        expected, inside = applied(op, given, image)
        expected = expected.permute(1, 2, 0).numpy() * 255
        shown = inside[0].numpy() > 0.999
        difference = np.abs(read(case["file"], np.float32) - expected)[shown]
        name = f"rand_augment {given['name']}" if op == "rand_augment" else op
        mean, largest = worst.get(name, (0, 0))
        worst[name] = (max(mean, float(difference.mean())), max(largest, float(difference.max())))
    print(f"{'operation':28} {'mean':>8} {'largest':>8}   (levels of 255)")
    for name, (mean, largest) in worst.items():
        limits = LIMITS.get(name.split()[0], DEFAULT)
        wrong = mean > limits[0] or largest > limits[1]
        failed |= wrong
        print(f"{name:28} {mean:8.3f} {largest:8.3f}{'   above the limit' if wrong else ''}")
    return failed


def distance(ours, theirs):
    """The largest difference of the two cumulative distributions."""
    ours, theirs = np.sort(ours), np.sort(theirs)
    both = np.concatenate([ours, theirs])
    at = lambda values: np.searchsorted(values, both, side="right") / len(values)
    return np.abs(at(ours) - at(theirs)).max()


def draws_of_torchvision(count):
    image = torch.zeros(3, 224, 224)
    crop = v2.RandomResizedCrop(224)
    crops = [crop.make_params([image]) for _ in range(count)]
    affine = v2.RandomAffine(30, (0.1, 0.3), (0.8, 1.3), 10)
    affines = [affine.make_params([image]) for _ in range(count)]
    jitter = v2.ColorJitter(0.4, 0.3, 0.2, 0.1)
    jitters = [jitter.make_params([image]) for _ in range(count)]
    erasing = v2.RandomErasing(p=1.0)
    erased = [erasing.make_params([image]) for _ in range(count)]
    names = ["brightness", "contrast", "saturation", "hue"]
    factors = [f"{name}_factor" for name in names]
    return {
        "resized_crop": [[one["left"], one["top"], one["width"], one["height"]] for one in crops],
        "affine": [[one["angle"], *one["translate"], one["scale"], one["shear"][0]] for one in affines],
        "color_jitter": [
            [value for at in range(4) for value in (one[factors[at]], one["fn_idx"].tolist().index(at))] for one in jitters
        ],
        "erasing": [[one["j"], one["i"], one["j"] + one["w"], one["i"] + one["h"]] for one in erased],
    }


COLUMNS = {
    "resized_crop": ["left", "top", "width", "height"],
    "affine": ["degrees", "translate x", "translate y", "scale", "shear"],
    "color_jitter": [f"{name} {part}" for name in ("brightness", "contrast", "saturation", "hue") for part in ("value", "order")],
    "erasing": ["left", "top", "right", "bottom"],
}


def compare_draws(draws):
    failed = False
    torch.manual_seed(0)
    theirs = draws_of_torchvision(len(draws["resized_crop"]))
    print(f"\n{'random value':28} {'distance':>8}   (Kolmogorov and Smirnov, p < 0.001 above {DISTANCE})")
    erased = [one for one in draws["erasing"] if one is not None]
    print(f"{'erasing p':28} {len(erased) / len(draws['erasing']):8.3f}   (0.5 expected)")
    failed |= abs(len(erased) / len(draws["erasing"]) - 0.5) > 0.015
    for name, columns in COLUMNS.items():
        ours = np.array(erased if name == "erasing" else draws[name], float)
        other = np.array(theirs[name], float)
        for at, column in enumerate(columns):
            found = distance(ours[:, at], other[:, at])
            limit = DISTANCE * (np.sqrt((1 / len(ours) + 1 / len(other)) / (2 / 20000)))
            failed |= found > limit
            print(f"{name + ' ' + column:28} {found:8.4f}{'   above the limit' if found > limit else ''}")
    return failed


def main():
    folder = sys.argv[1]
    with open(f"{folder}/cases.json") as file:
        cases = json.load(file)
    failed = compare(folder, cases)
    failed |= compare_draws(cases["draws"])
    sys.exit(1 if failed else 0)


main()
