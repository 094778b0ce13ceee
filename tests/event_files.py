"""Reads the event files of a run with TensorBoard's own reader and compares them with `history.csv`.

    pip install tensorboard
    python3 tests/event_files.py cache/v1/runs/ID

Prints the scalars of each training; fails where one differs from the history. Checked with tensorboard 2.21.0.
"""

import csv
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

COLUMNS = {
    "learning_rate": "learning_rate",
    "train/loss": "train_loss",
    "train/accuracy": "train_accuracy",
    "validation/loss": "validation_loss",
    "validation/accuracy": "validation_accuracy",
}
files = sorted(Path(sys.argv[1]).glob("results/*/events.out.tfevents.*"))
assert files, "there is no event file"
for file in files:
    events = EventAccumulator(str(file))
    events.Reload()
    tags = events.Tags()["scalars"]
    print(f"{file.parent.name}: {', '.join(tags)}")
    history = list(csv.DictReader(open(file.parent / "history.csv")))
    for tag, column in COLUMNS.items():
        expected = [(int(row["epoch"]), float(row[column])) for row in history if row[column]]
        found = [(event.step, event.value) for event in events.Scalars(tag)] if tag in tags else []
        assert len(found) == len(expected), (tag, found, expected)
        for (step, value), (epoch, number) in zip(found, expected):
            assert step == epoch and abs(value - number) <= 1e-6 * max(1, abs(number)), (tag, step, value, number)
    for tag in ("images_per_second", "seconds"):
        assert len(events.Scalars(tag)) == len(history), tag
    assert all(event.wall_time > 1.7e9 for event in events.Scalars("train/loss"))
print("equal to history.csv")
