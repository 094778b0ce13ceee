"""Writes the .pth files beside it, as torch writes them, and the numbers that are in them.

    python3 make.py        (made with torch 2.15; needs nothing else)

`expected.json` has a list of values for each tensor of each file that can be read. Values are exact in float32.
"""

import json
import os
import pathlib
from collections import OrderedDict

import torch

HERE = pathlib.Path(__file__).parent


def ramp(*shape, start=0.0, dtype=torch.float32):
    count = 1
    for side in shape:
        count *= side
    return (torch.arange(count, dtype=torch.float32) * 0.25 + start).reshape(shape).to(dtype)


def state():
    """A small state dict in torchvision's names, with the counter that batch norms have."""
    return OrderedDict([
        ("conv1.weight", ramp(2, 3, 2, 2, start=-3.0)),
        ("bn1.weight", ramp(2, start=1.0)),
        ("bn1.running_mean", ramp(2, start=-1.0)),
        ("bn1.num_batches_tracked", torch.tensor(7)),
        ("fc.weight", ramp(3, 2, start=5.0)),
        ("fc.bias", ramp(3)),
    ])


def strided():
    """Views: transposed, with steps, from the middle of a storage, and two tensors in one storage."""
    whole = ramp(4, 6)
    return OrderedDict([
        ("transposed", whole.t()),
        ("stepped", whole[:, ::2]),
        ("middle", whole[1:3, 2:5]),
        ("permuted", ramp(2, 3, 4).permute(2, 0, 1)),
        ("scalar", torch.tensor(2.5)),
        ("empty", torch.zeros(0, 3)),
        ("expanded", torch.tensor([1.5, 2.5]).expand(3, 2)),
    ])


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(2, 3)
        with torch.no_grad():
            self.fc.weight.copy_(ramp(3, 2))
            self.fc.bias.copy_(ramp(3))


class Malicious:
    def __init__(self, function, argument):
        self.call = (function, (argument,))

    def __reduce__(self):
        return self.call


def save(name, content, **options):
    torch.save(content, HERE / name, **options)


def values(tensors):
    floats = {name: one for name, one in tensors.items() if one.is_floating_point()}
    return {name: {"shape": list(one.shape), "data": one.detach().float().flatten().tolist()} for name, one in floats.items()}


def main():
    half = OrderedDict((name, one.to(dtype)) for (name, one), dtype in zip(
        [("half", ramp(5, start=-0.5)), ("brain", ramp(5, start=-0.5)), ("double", ramp(5, start=-0.5))],
        [torch.float16, torch.bfloat16, torch.float64]))
    parameters = OrderedDict((name, torch.nn.Parameter(one)) for name, one in state().items() if one.is_floating_point())
    parallel = OrderedDict((f"module.{name}", one) for name, one in state().items())
    nan = OrderedDict([("fc.bias", torch.tensor([1.0, float("nan")]))])
    readable = {
        "zip.pth": state(), "strided.pth": strided(), "half.pth": half, "parameters.pth": parameters,
    }
    for name, content in readable.items():
        save(name, content)
    save("legacy.pth", state(), _use_new_zipfile_serialization=False)
    save("legacy_strided.pth", strided(), _use_new_zipfile_serialization=False)
    save("protocol4.pth", state(), pickle_protocol=4)
    save("wrapped.pth", {"epoch": 3, "state_dict": state(), "optimizer": {"lr": 0.1, "state": {}}})
    save("wrapped_model.pth", {"model": parallel})
    expected = {name: values(content) for name, content in readable.items()}
    for name in ["legacy.pth", "protocol4.pth", "wrapped.pth", "wrapped_model.pth"]:
        expected[name] = values(state())
    expected["legacy_strided.pth"] = values(strided())
    (HERE / "expected.json").write_text(json.dumps(expected) + "\n")

    save("nan.pth", nan)
    save("integers.pth", OrderedDict([("fc.bias", torch.arange(3))]))
    save("nothing.pth", {"epoch": 3})
    save("module.pth", Module())
    for suffix, options in [("", {}), ("4", {"pickle_protocol": 4}), ("_legacy", {"_use_new_zipfile_serialization": False})]:
        content = state()
        content["evil"] = Malicious(os.system, "touch executed")
        save(f"malicious{suffix}.pth", content, **options)
    save("eval.pth", OrderedDict([("a", Malicious(eval, "1"))]))


if __name__ == "__main__":
    main()
