"""Compares every kernel of src/cuda/kernels.cu, run on the CPU, with numpy in f64, over shapes odd and even, with gaps
between rows, in both element types; five orders of threads must give the same bytes. Needs numpy. Run by check.sh.

Usage: python tests/cuda/check.py LIBRARY
"""

import ctypes
import itertools
import sys

import numpy as np

LIBRARY = ctypes.CDLL(sys.argv[1])
LIBRARY.host_kernel_name.restype = ctypes.c_char_p
RANDOM = np.random.default_rng(7)
U32, U64, F32, F64 = ctypes.c_uint, ctypes.c_ulonglong, ctypes.c_float, ctypes.c_double
TYPES = ["f32", "bf16"]
# Relative to the largest value of the result.
TOLERANCE = {"f32": 2e-6, "bf16": 5e-3}
SEEDS = [0, 1, 2, 3, 4]
CHECKED = set()


def to_bf16(x):
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), ((bits >> 16) | 0x40).astype(np.uint16), rounded)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def aligned(count, dtype):
    """An array that starts at a multiple of 16 bytes and ends where its allocation ends."""
    size = count * np.dtype(dtype).itemsize
    raw = np.zeros(size + 16, np.uint8)
    skip = -raw.ctypes.data % 16
    return raw[skip : skip + size].view(dtype)


class Map:
    """A map of type `kind` with rows, channels, stride and channel offset."""

    def __init__(self, kind, values, stride=None, offset=0):
        self.kind, (self.rows, self.channels) = kind, values.shape
        self.stride = stride or self.channels
        self.offset = offset
        count = offset + (self.rows - 1) * self.stride + self.channels
        self.array = aligned(count, np.float32 if kind == "f32" else np.uint16)
        self.array[:] = 77
        self.view()[:] = values if kind == "f32" else to_bf16(values)

    def view(self):
        size = self.array.itemsize
        return np.lib.stride_tricks.as_strided(
            self.array[self.offset :], (self.rows, self.channels), (self.stride * size, size))

    def values(self):
        view = np.array(self.view())
        return view.astype(np.float64) if self.kind == "f32" else from_bf16(view).astype(np.float64)

    def gaps(self):
        mask = np.ones(len(self.array), bool)
        for row in range(self.rows):
            begin = self.offset + row * self.stride
            mask[begin : begin + self.channels] = False
        return self.array[mask]

    def pointer(self):
        return self.array.ctypes.data + self.offset * self.array.itemsize


def run(name, grid, arguments, outputs, block=256):
    """Runs a kernel in each order of threads; all must write the same bytes."""
    CHECKED.add(name)
    values = []
    for argument in arguments:
        if argument is None:
            values.append(ctypes.c_void_p(0))
        elif isinstance(argument, Map):
            values.append(ctypes.c_void_p(argument.pointer()))
        elif isinstance(argument, np.ndarray):
            values.append(ctypes.c_void_p(argument.ctypes.data))
        else:
            values.append(U32(argument) if isinstance(argument, (int, np.integer)) else argument)
    sizes = (U32 * 64)()
    count = LIBRARY.host_argument_sizes(name.encode(), sizes, 64)
    assert count == len(values), f"{name}: {count} parameters, {len(values)} given"
    assert [ctypes.sizeof(v) for v in values] == list(sizes[:count]), f"{name}: {list(sizes[:count])}"
    pointers = (ctypes.c_void_p * count)(*[ctypes.addressof(value) for value in values])
    arrays = [output.array if isinstance(output, Map) else output for output in outputs]
    before = [array.copy() for array in arrays]
    first = None
    for seed in SEEDS:
        for array, old in zip(arrays, before):
            array[...] = old
        LIBRARY.host_seed(U64(seed))
        assert LIBRARY.host_launch(name.encode(), (U32 * 3)(grid, 1, 1), (U32 * 3)(block, 1, 1), pointers) == 0, name
        now = [array.tobytes() for array in arrays]
        first = first or now
        assert now == first, f"{name}: another order of threads gave other bytes"
    for output in outputs:
        if isinstance(output, Map):
            assert np.all(output.gaps() == 77), f"{name}: wrote between rows"


def close(name, got, wanted, tolerance):
    wanted = np.asarray(wanted, np.float64)
    got = np.asarray(got, np.float64)
    assert got.shape == wanted.shape, f"{name}: {got.shape} against {wanted.shape}"
    assert np.array_equal(np.isnan(got), np.isnan(wanted)), f"{name}: NaN elsewhere"
    error = np.max(np.abs(np.nan_to_num(got - wanted)), initial=0)
    scale = max(np.max(np.abs(np.nan_to_num(wanted)), initial=0), 1e-3)
    assert error <= tolerance * scale, f"{name}: error {error} of {scale}"


def elements(rows, channels):
    return min(max(1, -(-rows * channels // 2048)), 4096)


def chunk_of(rows, channels):
    return max(1, -(-8192 // channels), -(-rows // 512))


def blocks(count, each):
    return -(-count // each)


def random_map(kind, rows, channels, gap=None, scale=1.0, shift=0.0):
    values = (RANDOM.standard_normal((rows, channels)) * scale + shift).astype(np.float32)
    stride, offset = gap or (channels, 0)
    return Map(kind, values, stride, offset)


def layouts():
    """Rows, channels, and stride and offset of gaps."""
    for rows, channels in [(1, 1), (1, 8), (7, 3), (33, 16), (129, 40), (1000, 64), (5, 2056), (300, 24), (9000, 4)]:
        yield rows, channels, None
        yield rows, channels, (channels + 16, 8)
        yield rows, channels, (channels + 5, 1)


def floats(count, low=-1.0, high=1.0):
    return RANDOM.uniform(low, high, count).astype(np.float32)


def check_elementwise(kind):
    tolerance = TOLERANCE[kind]
    for rows, channels, gap in layouts():
        grid = elements(rows, channels)
        x, y, out = (random_map(kind, rows, channels, gap) for _ in range(3))
        old = out.values()
        run(f"relu_{kind}", grid, [x, x.stride, out, out.stride, rows, channels], [out])
        close("relu", out.values(), np.maximum(x.values(), 0), 0)
        run(f"copy_{kind}", grid, [x, x.stride, out, out.stride, rows, channels, 0], [out])
        close("copy", out.values(), x.values(), 0)
        run(f"copy_{kind}", grid, [y, y.stride, out, out.stride, rows, channels, 1], [out])
        close("accumulate", out.values(), x.values() + y.values(), tolerance)
        run(f"add_{kind}", grid, [x, x.stride, y, y.stride, out, out.stride, rows, channels], [out])
        close("add", out.values(), x.values() + y.values(), tolerance)
        for add in [0, 1]:
            out = random_map(kind, rows, channels, gap)
            old = out.values() * add
            run(f"relu_backward_{kind}", grid,
                [x, x.stride, y, y.stride, out, out.stride, rows, channels, add], [out])
            close("relu_backward", out.values(), old + np.where(y.values() > 0, x.values(), 0), tolerance)
            wide = np.zeros((rows, channels), np.float32) + 2
            run(f"to_f32_{kind}", grid, [x, x.stride, wide, channels, rows, channels, add], [wide])
            close("to_f32", wide, x.values() + 2 * add, 1e-6)
            out = random_map(kind, rows, channels, gap)
            old = out.values() * add
            key = np.array([RANDOM.integers(2**63)], np.uint64)
            threshold = round(0.3 * 2**24)
            run(f"dropout_{kind}", grid, [x, x.stride, out, out.stride, rows, channels, key, threshold,
                                          F32(1 / 0.7), add], [out])
            close("dropout", out.values(), old + x.values() * dropped(key[0], rows * channels, threshold)
                  .reshape(rows, channels) / 0.7, tolerance)
        narrow = RANDOM.standard_normal((rows, max(channels - 2, 1))).astype(np.float32)
        run(f"from_f32_{kind}", grid, [narrow, narrow.shape[1], out, out.stride, rows, channels], [out])
        padded = np.zeros((rows, channels))
        padded[:, : narrow.shape[1]] = narrow
        close("from_f32", out.values(), padded, tolerance)
        bias = floats(channels)
        for relu in [0, 1]:
            place = random_map(kind, rows, channels, gap)
            wanted = place.values() + bias
            run(f"bias_{kind}", grid, [place, place.stride, bias, place, place.stride, rows, channels, relu], [place])
            close("bias", place.values(), np.maximum(wanted, 0) if relu else wanted, tolerance)
        run(f"zero_{kind}", grid, [out, out.stride, rows, channels], [out])
        close("zero", out.values(), np.zeros((rows, channels)), 0)


def dropped(key, count, threshold):
    with np.errstate(over="ignore"):
        z = np.uint64(key) + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)) >= threshold


def check_norm(kind):
    tolerance = TOLERANCE[kind]
    for rows, channels, gap in layouts():
        chunk = chunk_of(rows, channels)
        if rows == 1000:
            chunk = 77
        chunks, grid = blocks(rows, chunk), elements(rows, channels)
        # A mean far from 0, where sums of squares would cancel.
        x = random_map(kind, rows, channels, gap, shift=300.0 if kind == "f32" else 3.0)
        residual, dy = random_map(kind, rows, channels, gap), random_map(kind, rows, channels, gap)
        weight, bias = floats(channels, 0.5, 1.5), floats(channels)
        running = [floats(channels, 2.0, 4.0), floats(channels, 0.5, 1.5)]
        values, epsilon = x.values(), 1e-3
        partial = np.full((chunks, 2, channels), np.nan, np.float32)
        run(f"norm_statistics_{kind}", chunks, [x, x.stride, partial, rows, channels, chunk], [partial])
        mean, variance = values.mean(0), values.var(0)
        for of_batch in [1, 0]:
            moments = np.full((4, channels), np.nan, np.float32)
            if of_batch:
                kept = [one.copy() for one in running]
                run("norm_finish", blocks(channels, 32), [partial, weight, bias, *kept, moments, F64(epsilon), rows,
                                                          channels, chunk], [*kept, moments])
                close("running mean", kept[0], 0.9 * running[0] + 0.1 * mean, 2e-6)
                unbiased = variance * rows / max(rows - 1, 1)
                close("running variance", kept[1], 0.9 * running[1] + 0.1 * unbiased, 2e-5)
            else:
                run("norm_running", blocks(channels, 256), [*running, weight, bias, moments, F64(epsilon), channels],
                    [moments])
                mean, variance = running[0].astype(np.float64), running[1].astype(np.float64)
            inverse = 1 / np.sqrt(variance + epsilon)
            close("moments", moments[[0, 1, 3]], [mean, weight * inverse, inverse], 2e-5)
            normal = (values - mean) * inverse
            for relu, extra in [(0, None), (1, None), (1, residual), (0, residual)]:
                out = random_map(kind, rows, channels, gap)
                run(f"norm_apply_{kind}", grid, [x, x.stride, extra, residual.stride, out, out.stride, moments, rows,
                                                 channels, relu], [out])
                wanted = normal * weight + bias + (extra.values() if extra else 0)
                wanted = np.maximum(wanted, 0) if relu else wanted
                close("norm_apply", out.values(), wanted, 30 * tolerance if kind == "f32" else tolerance)
                mask = 0 if not relu else (1 if extra else 2)
                check_norm_backward(kind, x, out, dy, moments, normal, inverse, weight, of_batch, mask, chunk)


def check_norm_backward(kind, x, y, dy, moments, normal, inverse, weight, of_batch, mask, chunk):
    rows, channels = x.rows, x.channels
    chunks, grid, tolerance = blocks(rows, chunk), elements(rows, channels), 100 * TOLERANCE["f32"]
    tolerance = max(tolerance, 2 * TOLERANCE[kind])
    masked = np.where(y.values() > 0, dy.values(), 0) if mask else dy.values()
    partial = np.full((chunks, 2, channels), np.nan, np.float32)
    given = y if mask == 1 else None
    run(f"norm_backward_sums_{kind}", chunks, [dy, dy.stride, x, x.stride, given, y.stride, moments, partial, rows,
                                               channels, chunk, mask], [partial])
    add = mask % 2
    coefficients = np.full((2, channels), np.nan, np.float32)
    dweight, dbias = np.ones(channels, np.float32), np.ones(channels, np.float32)
    run("norm_backward_finish", blocks(channels, 32), [partial, moments, coefficients, dweight, dbias, rows, channels,
                                                       chunk, of_batch, add], [coefficients, dweight, dbias])
    size = np.abs(masked).sum(0).max() / 1e3 + 1
    close("dweight", (dweight - add) / size, (masked * normal).sum(0) / size, tolerance)
    close("dbias", (dbias - add) / size, masked.sum(0) / size, tolerance)
    wanted = masked
    if of_batch:
        wanted = masked - masked.mean(0) - normal * (masked * normal).mean(0)
    wanted = wanted * weight * inverse
    gap = (x.stride, x.offset)
    for again in [0, 1]:
        dx, dresidual = random_map(kind, rows, channels, gap), random_map(kind, rows, channels, gap)
        old, old_residual = dx.values() * again, dresidual.values() * again
        factors = coefficients if of_batch or again else None
        source = x if factors is not None or mask == 2 else None
        run(f"norm_backward_{kind}", grid, [dy, dy.stride, source, x.stride, given, y.stride, moments, factors, dx,
                                            dx.stride, dresidual, dresidual.stride, rows, channels, mask, again,
                                            again], [dx, dresidual])
        scale = np.abs(weight * inverse).max() + 1
        close("dx", dx.values() / scale, (old + wanted) / scale, tolerance)
        close("dresidual", dresidual.values(), old_residual + masked, TOLERANCE[kind])


def check_column_sums(kind):
    for rows, channels, gap in layouts():
        chunk = chunk_of(rows, channels)
        dy, y, masked = (random_map(kind, rows, channels, gap) for _ in range(3))
        for relu in [False, True]:
            partial = np.full((blocks(rows, chunk), channels), np.nan, np.float32)
            run(f"column_sums_{kind}", blocks(rows, chunk), [dy, dy.stride, y if relu else None, y.stride,
                                                             masked if relu else None, masked.stride, partial, rows,
                                                             channels, chunk], [partial, masked])
            wanted = np.where(y.values() > 0, dy.values(), 0) if relu else dy.values()
            if relu:
                close("masked", masked.values(), wanted, 0)
            for add in [0, 1]:
                out = np.ones(channels, np.float32)
                run("column_sums_finish", blocks(channels, 32), [partial, out, len(partial), channels, add], [out])
                close("column_sums", out, wanted.sum(0) + add, 2e-5)


class Pooling(ctypes.Structure):
    _fields_ = [(name, U32) for name in "batch height width out_height out_width kernel_height kernel_width "
                "stride_height stride_width padding_height padding_width kind".split()]


def windows(size, out, kernel, stride, padding, kind):
    if kind == 2:
        return [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)], None
    spans = [(max(i * stride - padding, 0), min(i * stride + kernel - padding, size)) for i in range(out)]
    return spans, [min(i * stride + kernel, size + 2 * padding) - i * stride for i in range(out)]


def pool_cases():
    for batch, height, width, channels, kernel, stride, padding in [
            (2, 7, 9, 3, (3, 3), (2, 2), (1, 1)), (1, 8, 8, 16, (3, 3), (2, 2), (0, 0)),
            (2, 5, 5, 8, (3, 3), (1, 1), (1, 1)), (1, 6, 7, 1, (2, 3), (3, 1), (1, 0)),
            (3, 1, 1, 24, (1, 1), (1, 1), (0, 0)),
            (1, 20, 17, 5, (5, 5), (3, 3), (0, 0))]:
        for ceil in [0, 1]:
            out = [(size + 2 * p - k + (s - 1) * ceil) // s + 1
                   for size, p, k, s in zip((height, width), padding, kernel, stride)]
            out = [min(o, -(-(size + p) // s)) for o, size, p, s in zip(out, (height, width), padding, stride)]
            yield channels, Pooling(batch, height, width, *out, *kernel, *stride, *padding, 0)


def cells_of(p, y, x):
    rows, tall = windows(p.height, p.out_height, p.kernel_height, p.stride_height, p.padding_height, p.kind)
    columns, wide = windows(p.width, p.out_width, p.kernel_width, p.stride_width, p.padding_width, p.kind)
    pixels = [(r, c) for r in range(*rows[y]) for c in range(*columns[x])]
    return pixels, tall[y] * wide[x] if p.kind == 1 else len(pixels)


def check_pools(kind):
    tolerance = TOLERANCE[kind]
    cases = list(pool_cases())
    for channels, p in cases:
        for gap in [None, (channels + 8, 8), (channels + 3, 2)]:
            for nan in [False, True]:
                check_max_pool(kind, channels, p, gap, nan)
    means = [(channels, Pooling(p.batch, p.height, p.width, p.out_height, p.out_width, p.kernel_height, p.kernel_width,
                                p.stride_height, p.stride_width, p.padding_height, p.padding_width, padded))
             for channels, p in cases for padded in [0, 1]]
    means += [(channels, Pooling(2, height, width, *out, 0, 0, 0, 0, 0, 0, 2)) for channels, height, width, out in
              [(16, 13, 13, (6, 6)), (3, 7, 5, (1, 1)), (8, 4, 4, (6, 5)), (1, 9, 30, (2, 7))]]
    for channels, p in means:
        for gap in [None, (channels + 8, 8), (channels + 3, 2)]:
            x = random_map(kind, p.batch * p.height * p.width, channels, gap)
            out = random_map(kind, p.batch * p.out_height * p.out_width, channels, gap)
            run(f"mean_pool_{kind}", elements(out.rows, channels), [x, x.stride, out, out.stride, channels, p], [out])
            values = x.values().reshape(p.batch, p.height, p.width, channels)
            wanted = np.zeros((p.batch, p.out_height, p.out_width, channels))
            spread = np.zeros_like(values)
            dy = random_map(kind, out.rows, channels, gap)
            gradient = dy.values().reshape(wanted.shape)
            for y in range(p.out_height):
                for c in range(p.out_width):
                    pixels, count = cells_of(p, y, c)
                    for r, q in pixels:
                        wanted[:, y, c] += values[:, r, q] / count
                        spread[:, r, q] += gradient[:, y, c] / count
            close("mean_pool", out.values(), wanted.reshape(-1, channels), tolerance)
            for add in [0, 1]:
                dx = random_map(kind, x.rows, channels, gap)
                old = dx.values() * add
                run(f"mean_pool_backward_{kind}", elements(x.rows, channels), [dy, dy.stride, dx, dx.stride, channels,
                                                                               p, add], [dx])
                close("mean_pool_backward", dx.values(), old + spread.reshape(-1, channels), tolerance)


def check_max_pool(kind, channels, p, gap, nan):
    values = RANDOM.integers(-3, 4, (p.batch * p.height * p.width, channels)).astype(np.float32)  # with ties
    if nan:
        values[RANDOM.random(values.shape) < 0.1] = np.nan
        values[RANDOM.random(values.shape) < 0.3] = -np.inf
    stride, offset = gap or (channels, 0)
    x = Map(kind, values, stride, offset)
    out = random_map(kind, p.batch * p.out_height * p.out_width, channels, gap)
    dy = random_map(kind, out.rows, channels, gap)
    cells = aligned(out.rows * channels, np.uint8)
    run(f"max_pool_{kind}", elements(out.rows, channels), [x, x.stride, out, out.stride, cells, channels, p],
        [out, cells])
    values = values.reshape(p.batch, p.height, p.width, channels)
    wanted = np.zeros((p.batch, p.out_height, p.out_width, channels))
    gradient, spread = dy.values().reshape(wanted.shape), np.zeros(values.shape)
    for y in range(p.out_height):
        for c in range(p.out_width):
            pixels, _ = cells_of(p, y, c)
            window = np.stack([values[:, r, q] for r, q in pixels])
            wanted[:, y, c] = best = window.max(0)
            left = gradient[:, y, c].copy()
            for r, q in pixels:
                hit = values[:, r, q] == best
                spread[:, r, q] += np.where(hit, left, 0)
                left[hit] = 0
    assert np.array_equal(out.values().reshape(wanted.shape), wanted, equal_nan=True), "max_pool"
    for add in [0, 1]:
        dx = random_map(kind, x.rows, channels, gap)
        old = dx.values() * add
        run(f"max_pool_backward_{kind}", elements(x.rows, channels), [dy, dy.stride, cells, dx, dx.stride, channels, p,
                                                                      add], [dx])
        close("max_pool_backward", dx.values(), old + spread.reshape(-1, channels), TOLERANCE[kind])


class Pixels(ctypes.Structure):
    _fields_ = [("batch", U32), ("size", U32), ("side", U32), ("channels", U32), ("colors", U32), ("scale", F32 * 3),
                ("shift", F32 * 3)]


RECIPE = np.dtype([("first", np.int64, 2), ("right", np.int64, 2), ("down", np.int64, 2),
                   ("projection", np.float64, 8), ("projective", np.uint32), ("gray", np.uint32),
                   ("erased", np.uint32, 4), ("change", np.uint32, 4), ("amount", np.float32, 4)])
BRIGHTNESS, CONTRAST, SATURATION, HUE = 1, 2, 3, 4
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def recipe(first, right=(1, 0), down=(0, 1), projection=None, changes=(), gray=0, erased=(0, 0, 0, 0)):
    """Positions in pixels; `changes` are pairs of what and how much."""
    one = np.zeros(1, RECIPE)
    if projection is None:
        one["first"], one["right"], one["down"] = (np.round(np.multiply(v, 2.0**32)) for v in (first, right, down))
    else:
        # What isn't used must not matter.
        one["first"], one["projection"], one["projective"] = 77, projection, 1
    one["gray"], one["erased"] = gray, erased
    for i, (what, amount) in enumerate(changes):
        one["change"][0, i], one["amount"][0, i] = what, amount
    return one


def sources(one, side):
    y, x = np.mgrid[:side, :side].astype(np.float64)
    if not one["projective"]:
        first, right, down = (one[name] / 2.0**32 for name in ("first", "right", "down"))
        return [first[axis] + x * right[axis] + y * down[axis] for axis in (0, 1)]
    a, b, c, d, e, f, g, h = one["projection"]
    x, y = x + 0.5, y + 0.5
    depth = g * x + h * y + 1
    depth = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    return [(a * x + b * y + c) / depth, (d * x + e * y + f) / depth]


def luma_of(colors):
    return colors @ np.array([0.299, 0.587, 0.114])


def turned(colors, shift):
    """By hue, saturation and value, sector by sector."""
    high, low = colors.max(-1), colors.min(-1)
    span = np.where(high > low, high - low, 1)
    r, g, b = np.moveaxis(colors, -1, 0)
    hue = np.select([high == r, high == g], [(g - b) / span, (b - r) / span + 2], (r - g) / span + 4)
    hue = np.where(high > low, (hue + 6 * shift) % 6, 0)
    sector, part = np.floor(hue).astype(int) % 6, hue - np.floor(hue)
    fall, rise = high - (high - low) * part, low + (high - low) * part
    table = [(high, rise, low), (fall, high, low), (low, high, rise), (low, fall, high), (rise, low, high),
             (high, low, fall)]
    return np.stack([np.choose(sector, [row[i] for row in table]) for i in range(3)], -1)


def view_of(record, one, side):
    """The normalized view and the mean before its contrast, in f64."""
    size = len(record)
    x, y = (np.clip(at, 0, size - 1) for at in sources(one, side))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = np.minimum(left + 1, size - 1), np.minimum(top + 1, size - 1)
    levels = record.astype(np.float64)
    dx, dy = (x - left)[..., None], (y - top)[..., None]
    colors = ((1 - dy) * ((1 - dx) * levels[top, left] + dx * levels[top, right])
              + dy * ((1 - dx) * levels[bottom, left] + dx * levels[bottom, right]))
    mean = np.nan
    for what, amount in zip(one["change"], one["amount"].astype(np.float64)):
        if what == HUE:
            colors = turned(colors, amount)
        elif what:
            mean = luma_of(colors).mean() if what == CONTRAST else mean
            gray = {BRIGHTNESS: 0, CONTRAST: mean, SATURATION: luma_of(colors)[..., None]}[what]
            colors = np.clip(gray + (colors - gray) * amount, 0, 255)
    if one["gray"]:
        colors = np.repeat(luma_of(colors)[..., None], 3, -1)
    colors = (colors / 255 - MEAN) / DEVIATION
    left, top, right, bottom = one["erased"]
    colors[top:bottom, left:right] = 0
    return colors, mean


def recipes_for(size, side):
    """Lists of recipes that make a batch each."""
    middle = (size - side) / 2
    last = middle + side - 1
    yield [recipe((size - side, 0)), recipe((last, middle), (-1, 0)), recipe((middle, last), down=(0, -1))]
    crops = [recipe((0.3 * size, -0.4), (0.61, 0), (0, 0.77)), recipe((size - 1, 2.5), (-1.7, 0), (0, 0.01))]
    turns = [recipe((size * 0.5, -size * 0.3), (0.8, 0.6), (-0.7, 0.9)), recipe((-3 * size, 9), (2, -5), (40, 0.1))]
    yield crops + turns
    # The second one's horizon is in the view, and the third one's on a pixel's middle.
    yield [recipe(None, projection=projection) for projection in [
        (0.9, 0.1, -0.5, 0.05, 1.1, 0.7, 1e-3, -2e-3), (1.3, -0.2, 1, 0.4, 0.8, -2, -1.9 / side, 0.3 / side),
        (1, 0, -0.5, 0, 1, -0.5, -2, 0), (1, 0, middle - 0.5, 0, 1, middle - 0.5, 0, 0)]]
    yield [recipe((middle, middle), erased=erased) for erased in [
        (0, 0, 1, 1), (side - 1, side - 1, side, side), (0, 0, side, side), (side // 2, 0, side, side // 2),
        (0, side // 3, side // 2, side)]]


def recipes_of_colors():
    changes = [(BRIGHTNESS, 1.3), (CONTRAST, 0.6), (SATURATION, 1.7), (HUE, -0.4)]
    for amounts in [changes, [(BRIGHTNESS, 0.5), (CONTRAST, 2.1), (SATURATION, 0), (HUE, 0.1)]]:
        orders = [recipe((1, 0), changes=order) for order in itertools.permutations(amounts)]
        yield orders + [recipe((0, 1), changes=[one]) for one in amounts]
        yield [recipe((0, 1), changes=amounts[i:], gray=1, erased=(i, 1, 2 * i, 9)) for i in range(5)]
    yield [recipe((0, 0), changes=[(HUE, shift)]) for shift in np.linspace(-0.5, 0.5, 13)]


def check_views(kind, records, recipes, side, channels=3, gap=None):
    batch, size = records.shape[:2]
    records = records.copy()
    recipes = np.concatenate(recipes)
    wanted = np.zeros((batch, side, side, channels))
    wanted_means = np.zeros(batch)
    for i in range(batch):
        wanted[i, :, :, :3], wanted_means[i] = view_of(records[i], recipes[i], side)
    colors = int(np.any(recipes["change"]) or np.any(recipes["gray"]))
    scale, shift = 1 / (255 * DEVIATION), -MEAN / DEVIATION
    pixels = Pixels(batch, size, side, channels, colors, (F32 * 3)(*scale), (F32 * 3)(*shift))
    means = None
    if np.any(recipes["change"] == CONTRAST):
        means = np.full(batch, np.nan, np.float32)
        run("augment_means", batch, [records, recipes, means, pixels], [means])
        close("augment_means", means, wanted_means, 1e-6)
    out = random_map(kind, batch * side * side, channels, gap)
    run(f"augment_{kind}", batch * blocks(side * side, 256),
        [records, recipes, means, out, out.stride, pixels], [out])
    close("augment", out.values(), wanted.reshape(-1, channels), 3e-6 if kind == "f32" else 4e-3)


def check_augment(kind):
    for size, side in [(9, 7), (8, 8), (37, 23), (1, 1), (5, 17)]:
        for recipes in recipes_for(size, side):
            records = RANDOM.integers(0, 256, (len(recipes), size, size, 3)).astype(np.uint8)
            for channels, gap in [(3, None), (8, None), (4, None), (3, (11, 5)), (8, (24, 8))]:
                check_views(kind, records, recipes, side, channels, gap)
    for recipes in recipes_of_colors():
        records = RANDOM.integers(0, 256, (len(recipes), 20, 20, 3)).astype(np.uint8)
        # Ties of channels, where the hue's sector changes, and grays, which have no hue.
        records[:, :4, :, 1] = records[:, :4, :, 0]
        records[:, 2:6, :, 2] = records[:, 2:6, :, 1]
        check_views(kind, records, recipes, 19)


def check_cross_entropy(kind):
    for rows, classes, gap in [(1, 1, None), (4, 10, None), (3, 1000, (1003, 1)), (17, 129, None)]:
        logits = random_map(kind, rows, classes, gap, scale=4.0)
        targets = RANDOM.random((rows, classes)).astype(np.float32)
        targets[:, ::3] = 0
        dlogits, losses = random_map(kind, rows, classes, gap), np.zeros(rows)
        factor = 0.4 / rows
        run(f"cross_entropy_{kind}", rows, [logits, logits.stride, targets, dlogits, dlogits.stride, losses, classes,
                                            F64(factor)], [dlogits, losses], block=128)
        values, wanted = logits.values(), targets.astype(np.float64)
        shifted = values - values.max(1, keepdims=True)
        log_softmax = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        close("losses", losses, -(wanted * log_softmax).sum(1), 1e-12)
        gradient = factor * (wanted.sum(1, keepdims=True) * np.exp(log_softmax) - wanted)
        close("dlogits", dlogits.values(), gradient, TOLERANCE[kind])
        for add in [0, 1]:
            total = np.ones(1)
            run("cross_entropy_total", 1, [losses, total, rows, F64(1 / rows), add], [total])
            close("total", total, [losses.mean() + add], 1e-12)


class Segment(ctypes.Structure):
    _fields_ = [("offset", U64), ("length", U32)] + [(name, F32) for name in (
        "rate", "decay", "first", "second", "epsilon", "correction_first", "correction_second")] + [
        ("nesterov", U32), ("unused", U32)]


def one_f32(x):
    return np.float32(x)


def check_optimizer():
    lengths, segments, offset = [1, 4096, 5000, 3, 10001, 64], [], 0
    for index, length in enumerate(lengths):
        segments.append([offset, length])
        offset += length + (index % 3)  # some segments don't start at multiples of 4
    table = [(s, first) for s, (_, length) in enumerate(segments) for first in range(0, length, 4096)]
    starts = np.array(table, np.uint32)
    gradients = floats(offset)
    for momentum, nesterov, decay, clip in [(0.0, 0, 0.0, None), (0.9, 0, 0.01, None), (0.9, 1, 0.01, 0.37)]:
        rules = (Segment * len(segments))(*[Segment(o, n, 0.1 / (i + 1), decay, momentum, 0, 0, 0, 0, nesterov, 0)
                                            for i, (o, n) in enumerate(segments)])
        rules_array = np.frombuffer(rules, np.uint8)
        parameters, first, copy = floats(offset), floats(offset), np.full(offset, 77, np.uint16)
        want_parameters, want_first = parameters.copy(), first.copy()
        for i, (o, n) in enumerate(segments):
            part = slice(o, o + n)
            g = gradients[part] * one_f32(clip if clip else 1)
            if decay:
                g = g + one_f32(decay) * want_parameters[part]
            if momentum:
                want_first[part] = g + one_f32(momentum) * want_first[part]
                g = g + one_f32(momentum) * want_first[part] if nesterov else want_first[part]
            want_parameters[part] -= g * one_f32(0.1 / (i + 1))
        factor = np.array([clip], np.float32) if clip else None
        run("sgd", len(table), [parameters, gradients, first, copy, rules_array, starts, factor],
            [parameters, first, copy])
        assert np.array_equal(parameters, want_parameters) and np.array_equal(first, want_first), "sgd"
        inside = np.concatenate([np.arange(o, o + n) for o, n in segments])
        assert np.array_equal(copy[inside], to_bf16(parameters)[inside]), "sgd: copy"
        assert np.all(np.delete(copy, inside) == 77), "sgd: wrote between segments"
    check_adamw(segments, table, starts, gradients, offset)
    check_clip(segments, table, starts, gradients)


def check_adamw(segments, table, starts, gradients, size):
    rate, decay, betas, epsilon, step = 0.01, 0.05, [one_f32(0.9), one_f32(0.999)], one_f32(1e-8), 3
    one = one_f32(1)
    corrections = [one / (one - beta * beta * beta) for beta in betas]
    values = [rate, rate * decay, *betas, epsilon, *corrections, 0, 0]
    rules = (Segment * len(segments))(*[Segment(o, n, *values) for o, n in segments])
    rules_array = np.frombuffer(rules, np.uint8)
    parameters, first, second, copy = floats(size), floats(size), floats(size, 0, 1), np.zeros(size, np.uint16)
    want = [parameters.copy(), first.copy(), second.copy()]
    for o, n in segments:
        p, m, v = (array[o : o + n] for array in want)
        g = gradients[o : o + n]
        m[:] = m * betas[0] + g * (one - betas[0])
        v[:] = v * betas[1] + (g * g) * (one - betas[1])
        delta = one_f32(rate) * (m * corrections[0]) / (np.sqrt(v * corrections[1]) + epsilon)
        p -= delta + one_f32(rate * decay) * p
    run("adamw", len(table), [parameters, gradients, first, second, copy, rules_array, starts, None],
        [parameters, first, second, copy])
    for got, wanted in zip([parameters, first, second], want):
        assert np.array_equal(got, wanted), "adamw"
    before = parameters.copy()
    run("adamw", len(table), [parameters, gradients, first, second, copy, rules_array, starts,
                              np.array([-1], np.float32)], [parameters, first, second, copy])
    assert np.array_equal(parameters, before), "adamw changed parameters though the norm is not finite"


def check_clip(segments, table, starts, gradients):
    rules = (Segment * len(segments))(*[Segment(o, n) for o, n in segments])
    rules_array = np.frombuffer(rules, np.uint8)
    inside = np.concatenate([gradients[o : o + n] for o, n in segments]).astype(np.float64)
    norm = np.sqrt((inside**2).sum())
    for scale, limit in [(1, norm / 2), (1, norm * 2), (np.nan, 1.0), (1, np.inf)]:
        partial, got, factor = np.full(len(table), np.nan), np.zeros(1), np.zeros(1, np.float32)
        scaled = gradients.copy()
        scaled[segments[2][0] + 1] *= one_f32(scale)
        run("square_sums", len(table), [scaled, rules_array, starts, partial], [partial])
        run("clip", 1, [partial, len(table), F64(limit), got, factor], [got, factor])
        if np.isnan(scale):
            assert np.isnan(got[0]) and factor[0] == -1, "clip: NaN"
        else:
            close("norm", got, [norm], 1e-12)
            assert factor[0] == np.float32(min(1, limit / norm)), "clip"


def check_arenas():
    for count in [1, 3, 4, 4097, 20001]:
        for skip in [0, 1]:
            grid = min(max(1, blocks(count, 4096)), 4096)
            whole = aligned(count + skip, np.float32)
            whole[:] = floats(count + skip)
            target, source = whole[skip:], floats(count)
            old = target.copy()
            run("arena_add", grid, [target, source, U64(count)], [target])
            assert np.array_equal(target, old + source), "arena_add"
            run("arena_scale", grid, [source, F32(0.3), U64(count)], [source])
            half = aligned(count + skip, np.uint16)[skip:]
            source[0] = np.nan
            run("arena_to_bf16", grid, [source, half, U64(count)], [half])
            assert np.array_equal(half, to_bf16(source)), "arena_to_bf16"
            for add in [0, 1]:
                old = target.copy() * np.float32(add)
                run("arena_from_bf16", grid, [half, target, U64(count), add], [target])
                assert np.array_equal(target, old + from_bf16(half), equal_nan=True), "arena_from_bf16"
                target[0] = 1


class Convolution(ctypes.Structure):
    _fields_ = [(name, U32) for name in "batch height width channels out_height out_width out_channels kernel_height "
                "kernel_width stride_height stride_width padding_height padding_width".split()]


def check_convolutions(kind):
    tolerance = max(TOLERANCE[kind], 1e-5)
    for batch, height, width, channels, filters, kernel, stride, padding in [
            (2, 7, 6, 3, 5, (3, 3), (2, 2), (1, 1)), (1, 5, 5, 8, 4, (1, 1), (1, 1), (0, 0)),
            (1, 6, 9, 2, 3, (1, 7), (1, 1), (0, 3)), (2, 1, 1, 16, 9, (1, 1), (1, 1), (0, 0)),
            (1, 11, 11, 3, 2, (5, 4), (3, 2), (2, 1))]:
        out = [(size + 2 * p - k) // s + 1 for size, p, k, s in zip((height, width), padding, kernel, stride)]
        shape = Convolution(batch, height, width, channels, *out, filters, *kernel, *stride, *padding)
        for gap in [0, 3]:
            x = random_map(kind, batch * height * width, channels, (channels + gap, gap))
            dy = random_map(kind, batch * out[0] * out[1], filters, (filters + gap, gap))
            y = random_map(kind, dy.rows, filters, (filters + gap, gap))
            weights = random_map(kind, filters, kernel[0] * kernel[1] * channels)
            sides = [size + 2 * p + s for size, p, s in zip((height, width), padding, stride)]
            padded = np.zeros((batch, *sides, channels))
            inner = (slice(None), slice(padding[0], padding[0] + height), slice(padding[1], padding[1] + width))
            padded[inner] = x.values().reshape(batch, height, width, channels)
            w = weights.values().reshape(filters, *kernel, channels)
            gradient = dy.values().reshape(batch, *out, filters)
            wanted, spread, dw = np.zeros((batch, *out, filters)), np.zeros_like(padded), np.zeros_like(w)
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    at = (slice(None), slice(i, i + stride[0] * out[0], stride[0]),
                          slice(j, j + stride[1] * out[1], stride[1]))
                    wanted += padded[at] @ w[:, i, j].T
                    spread[at] += gradient @ w[:, i, j]
                    dw[:, i, j] = np.einsum("nyxk,nyxc->kc", gradient, padded[at])
            run(f"convolution_{kind}", blocks(y.rows * filters, 256), [x, x.stride, weights, y, y.stride, shape], [y])
            close("convolution", y.values(), wanted.reshape(-1, filters), tolerance)
            for add in [0, 1]:
                dx = random_map(kind, x.rows, channels, (channels + gap, gap))
                old = dx.values() * add
                run(f"convolution_by_input_{kind}", blocks(x.rows * channels, 256),
                    [dy, dy.stride, weights, dx, dx.stride, shape, add], [dx])
                close("convolution_by_input", dx.values(), old + spread[inner].reshape(-1, channels), tolerance)
                for rounded in [0, 1]:
                    dweights = random_map(kind if rounded else "f32", filters, weights.channels)
                    old = dweights.values() * add
                    run(f"convolution_by_weights_{kind}", blocks(dw.size, 256),
                        [x, x.stride, dy, dy.stride, dweights, shape, rounded, add], [dweights])
                    close("convolution_by_weights", dweights.values(), old + dw.reshape(filters, -1), tolerance)


def main():
    for kind in TYPES:
        for check in [check_elementwise, check_norm, check_column_sums, check_pools, check_augment,
                      check_cross_entropy, check_convolutions]:
            check(kind)
            print(f"{check.__name__[6:]} ({kind}): ok", flush=True)
    check_optimizer()
    check_arenas()
    names = set()
    while LIBRARY.host_kernel_name(len(names)):
        names.add(LIBRARY.host_kernel_name(len(names)).decode())
    assert names == CHECKED, f"not checked: {sorted(names - CHECKED)}"
    print(f"{len(names)} kernels, {len(SEEDS)} orders of threads each: ok")


main()
