"""python make.py, in this folder: torchvision's Resize and CenterCrop (PIL backend, antialiased) of pictures drawn by a formula.

Writes WIDTHxHEIGHT-RESIZE-CROP-FILTER.png, lossless, for each size and each pair of the published presets. The test that
reads them, src/data/torchvision_tests.rs, draws the same pictures by the same formula. Made with torchvision 0.29, Pillow 13.
"""
import numpy as np
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.functional import InterpolationMode

SIZES = [(500, 333), (333, 501), (301, 301), (131, 97), (83, 222)]
PRESETS = [(256, 224), (232, 224), (342, 299)]


def picture(width, height):
    """Rectangles of 11 x 7 pixels with hard edges, a slope over them, and a fine grid."""
    x = np.arange(width)[None, :, None]
    y = np.arange(height)[:, None, None]
    c = np.arange(3)[None, None, :]
    block = (x // 11) * 73 + (y // 7) * 151 + c * 59
    value = block * block % 193 + x * 61 // width
    return np.where((x % 37 == 0) | (y % 29 == 0), 255, value).astype(np.uint8)


def write(width, height, resize, crop, mode):
    change = v2.Compose([v2.Resize(resize, interpolation=mode, antialias=True), v2.CenterCrop(crop)])
    change(Image.fromarray(picture(width, height))).save(f"{width}x{height}-{resize}-{crop}-{mode.value}.png", optimize=True)


for size in SIZES:
    for preset in PRESETS:
        write(*size, *preset, InterpolationMode.BILINEAR)
write(*SIZES[0], *PRESETS[0], InterpolationMode.BICUBIC)
write(*SIZES[3], *PRESETS[0], InterpolationMode.BICUBIC)
