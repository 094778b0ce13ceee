"""Writes the Parquet files beside this script, as the Hugging Face Hub has them.

pyarrow 26.0.1, polars 2.1.0, pillow 13.0.0.
"""

import io
import json
import pathlib

import polars
import pyarrow
import pyarrow.parquet
from PIL import Image

HERE = pathlib.Path(__file__).parent
ROWS = 50


def image(row):
    return b"\x89PNG\r\n\x1a\n" + bytes([row]) * (40 + row)


def features(**columns):
    info = {"info": {"features": columns}}
    return {b"huggingface": json.dumps(info).encode()}


CLASS = {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}
IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def usual():
    images = [{"bytes": image(row), "path": f"{row}.png"} for row in range(ROWS)]
    images[7] = None
    images[8] = {"bytes": None, "path": "8.png"}
    labels = [row % 3 - (row == 5) * 3 for row in range(ROWS)]
    schema = pyarrow.schema(
        [("image", IMAGE), ("label", pyarrow.int64())],
        metadata=features(image={"_type": "Image"}, label=CLASS),
    )
    return pyarrow.table([pyarrow.array(images, IMAGE), labels], schema=schema)


def wide():
    images = [{"bytes": image(row), "path": None} for row in range(ROWS)]
    columns = {
        "id": (pyarrow.int32(), list(range(ROWS))),
        "img": (IMAGE, images),
        "fine_label": (pyarrow.int64(), [row % 3 for row in range(ROWS)]),
        "name": (pyarrow.string(), [None if row % 4 else f"n{row}" for row in range(ROWS)]),
        "good": (pyarrow.bool_(), [row % 2 == 0 for row in range(ROWS)]),
        "weight": (pyarrow.float64(), [row / 4 for row in range(ROWS)]),
        "short": (pyarrow.float32(), [0.5] * ROWS),
        "tags": (pyarrow.list_(pyarrow.int64()), [[row] * (row % 3) for row in range(ROWS)]),
        "when": (pyarrow.timestamp("ms"), list(range(ROWS))),
    }
    schema = pyarrow.schema(
        [(name, kind) for name, (kind, _) in columns.items()],
        metadata=features(img={"_type": "Image"}, fine_label=CLASS),
    )
    arrays = [pyarrow.array(values, kind) for kind, values in columns.values()]
    return pyarrow.table(arrays, schema=schema)


def write(name, table, **options):
    pyarrow.parquet.write_table(table, HERE / f"{name}.parquet", **options)


def pictures(count, first):
    """Squares of 16 pixels, red, green or blue by their class."""
    rows = []
    for row in range(first, first + count):
        color = [20 + row] * 3
        color[row % 3] = 255 - row
        file = io.BytesIO()
        Image.new("RGB", (16, 16), tuple(color)).save(file, "PNG")
        rows.append({"bytes": file.getvalue(), "path": f"{row}.png"})
    schema = pyarrow.schema(
        [("image", IMAGE), ("label", pyarrow.int64())],
        metadata=features(image={"_type": "Image"}, label=CLASS),
    )
    labels = [row % 3 for row in range(first, first + count)]
    return pyarrow.table([pyarrow.array(rows, IMAGE), labels], schema=schema)


write_options = {"compression": "snappy", "row_group_size": 10}
for codec in ["none", "snappy", "gzip", "zstd", "brotli", "lz4"]:
    write(codec, usual(), compression=codec, row_group_size=20)
write("train", pictures(24, 0), **write_options)
write("test", pictures(9, 24), **write_options)
write("pages", usual(), compression="snappy", data_page_size=100, write_batch_size=4)
write("pages2", usual(), compression="zstd", data_page_version="2.0", data_page_size=100, write_batch_size=4)
write("plain", usual(), compression="none", use_dictionary=False)
write("wide", wide(), row_group_size=30)
write("wide2", wide(), row_group_size=30, data_page_version="2.0", use_dictionary=False)
write("delta", usual(), use_dictionary=False, column_encoding={"label": "DELTA_BINARY_PACKED"})
write("empty", usual().slice(0, 0))
write("none_at_all", pyarrow.table({"a": [1, 2], "b": ["x", "y"]}))
# Bytes in a column of their own, texts as classes, no metadata.
write(
    "bare",
    pyarrow.table(
        {
            "text": ["a"] * ROWS,
            "jpg": [image(row) for row in range(ROWS)],
            "Category": ["cat" if row % 2 else "dog" for row in range(ROWS)],
        }
    ),
)
polars.DataFrame(
    {
        "image": [{"bytes": image(row), "path": f"{row}.png"} for row in range(ROWS)],
        "label": ["cat" if row % 2 else "dog" for row in range(ROWS)],
    }
).write_parquet(HERE / "polars.parquet")
