"""Runs exported models with the programs that they are for: the ONNX file with onnx.checker and ONNX Runtime, the weights
with torchvision and timm. Not part of the suite.

    cargo build --release
    python3 tests/onnx.py target/release/pipe [BACKBONE…]

Needs torch, torchvision, timm, safetensors, onnx, onnxruntime and Pillow. For every backbone it writes random weights with
torchvision, lets pipe read and export them, runs the code of MODEL.md in the folder of the export, and prints the largest
differences of logits from torchvision's network. Then the same for trained classifiers with hidden layers. Fails where a
difference is larger than LIMIT times the largest logit.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# This file has the name of a package that it imports.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import numpy as np
import onnx
import torch
import torchvision
from PIL import Image

LIMIT = 1e-4
CLASSES = ["disc", "bar", "frame"]
BACKBONES = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "inception_v3", "alexnet"]

PIPELINE = """
[dataset]
labels = {{ from = "file_name", pattern = '^(?<index>\\d+)_(?<class>\\w+)$' }}
split = {{ method = "exact", train = 0.5, validation = 0.25, test = 0.25 }}
[stages.fetch]
source = "path:images"
[stages.preprocess]
needs = {{ images = "fetch" }}
{preprocess}
[stages.train]
needs = {{ data = "preprocess"{needs} }}
backbone = "{backbone}"
{train}
"""

PUBLISHED = """
[stages.weights]
kind = "fetch"
source = "path:weights.pth"
"""


def pipe(*arguments):
    ran = subprocess.run([PIPE, *arguments], capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(f"pipe {' '.join(arguments)}: {ran.stdout}{ran.stderr}")
    return ran.stdout


def images(folder, count=12):
    folder.mkdir()
    draw = np.random.default_rng(1)
    for index in range(count):
        small = draw.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((400, 300), Image.Resampling.BICUBIC)
        image.save(folder / f"{index}_{CLASSES[index % 3]}.png")


def network(backbone):
    """torchvision's network with random weights and plausible running statistics."""
    torch.manual_seed(3)
    options = {"aux_logits": False, "init_weights": False} if backbone == "inception_v3" else {}
    model = getattr(torchvision.models, backbone)(**options)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    if any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()):
        model.train()
        with torch.no_grad():
            model(torch.randn(8, 3, 128, 128))
    return model.eval()


def blocks(card):
    """The blocks of Python in a model card, by the word that tells them apart."""
    found = re.findall(r"```python\n(.*?)```", card, re.S)
    words = {"torchvision": "torchvision.models", "timm": "create_model", "onnx": "onnxruntime", "transform": "T.Compose"}
    return {name: code for name, word in words.items() for code in found if word in code}


def run(code, wanted, **given):
    exec(code, given)
    return given[wanted]


def compared(name, expected, found):
    difference = float(np.abs(expected - found).max())
    scale = float(np.abs(expected).max())
    flips = int((expected.argmax(1) != found.argmax(1)).sum())
    print(f"  {name:<24} {difference:.2e} (largest logit {scale:.3g}), {flips} of {len(expected)} flipped")
    return difference <= LIMIT * scale


def checked(export, expected_of=None):
    """Runs everything in the folder of an export, and compares with the logits of torchvision's network."""
    os.chdir(export)
    code = blocks(Path("MODEL.md").read_text())
    transform = run(code["transform"], "transform")
    paths = sorted(Path("../images").glob("*.png"))
    batch = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    with torch.no_grad():
        own = run(code["torchvision"], "model")(batch).numpy()
        expected = own if expected_of is None else expected_of(batch).numpy()
        right = [compared("torchvision, strict", expected, own)]
        if "timm" in code:
            model = run(code["timm"], "model")
            right.append(compared("timm", expected, model(batch).numpy()))
            known = json.loads(Path("config.json").read_text())
            assert model.pretrained_cfg["crop_pct"] == known["pretrained_cfg"]["crop_pct"]
        else:
            print("  timm                     no config.json")
    file = onnx.load("model.onnx")
    onnx.checker.check_model(file, full_check=True)
    onnx.shape_inference.infer_shapes(file, strict_mode=True, data_prop=True)
    metadata = {entry.key: entry.value for entry in file.metadata_props}
    assert json.loads(metadata["classes"]) == json.loads(Path("export.json").read_text())["classes"]
    assert not {node.op_type for node in file.graph.node} & {"BatchNormalization", "Dropout"}
    normalized = run(code["onnx"], "logits", images=batch.numpy())
    right.append(compared("ONNX Runtime", expected, normalized))
    one = run(code["onnx"], "probabilities", images=batch[:1].numpy())
    assert one.shape[0] == 1 and abs(one.sum() - 1) < 1e-5
    os.chdir("../pixels")
    known = json.loads(Path("export.json").read_text())["preprocessing"]
    mean, std = (np.array(known[name], dtype=np.float32).reshape(1, 3, 1, 1) for name in ("mean", "std"))
    pixels = np.rint((batch.numpy() * std + mean) * 255).astype(np.float32)
    onnx.checker.check_model("model.onnx", full_check=True)
    code = blocks(Path("MODEL.md").read_text())["onnx"]
    right.append(compared("ONNX Runtime, pixels", expected, run(code, "logits", images=pixels)))
    os.chdir("..")
    probabilities = {}
    for row in json.loads(pipe("predict", "@0", "images", "--json", "--top", "2000"))["rows"]:
        probabilities[row["path"]] = dict(row["top"])
    classes = json.loads(metadata["classes"])
    ours = np.array([[probabilities[f"images/{path.name}"][name] for name in classes] for path in paths])
    theirs = torch.softmax(torch.from_numpy(expected), 1).numpy()
    # From image files: decoding and resizing included.
    difference = np.abs(ours - theirs).max()
    print(f"  pipe predict             {difference:.2e} (probabilities, from image files)")
    right.append(difference < 1e-2)
    return all(right)


def exported(backbone, preprocess, train, needs="", more=""):
    Path("pipeline.toml").write_text(
        PIPELINE.format(backbone=backbone, preprocess=preprocess, train=train, needs=needs) + more
    )
    pipe("run", "pipeline.toml")
    pipe("export", "@0", "--format", "safetensors,onnx", "--out", "both")
    pipe("export", "@0", "--format", "onnx", "--input", "pixels", "--out", "pixels")


def main():
    global PIPE
    PIPE = str(Path(sys.argv[1]).resolve())
    right = []
    for backbone in sys.argv[2:] or BACKBONES:
        model = network(backbone)
        for trained in [False, True]:
            print(f"{backbone}, {'trained, hidden layer' if trained else 'with ImageNet’s classes'}")
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                images(Path("images"))
                if trained:
                    size = 96 if backbone == "inception_v3" else 64
                    train = "epochs = 2\nbatch_size = 3\nhead = { hidden = [16], dropout = 0.25 }"
                    exported(backbone, f"size = {size}", train)
                    right.append(checked("both"))
                else:
                    torch.save(model.state_dict(), "weights.pth")
                    needs = ', weights = "weights"'
                    exported(backbone, f'input = "{backbone}"', 'head = "original"', needs, PUBLISHED)
                    right.append(checked("both", model))
                os.chdir("/")
    sys.exit(0 if all(right) else "a difference is too large")


if __name__ == "__main__":
    main()
