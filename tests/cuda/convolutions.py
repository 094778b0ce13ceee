"""Writes convolutions.txt: the distinct convolutions and linear layers of torchvision's networks."""

import torch
import torchvision

HEADER = """\
# The distinct convolutions and linear layers (as convolutions of maps of one pixel) of torchvision's networks at their
# published input sizes. Written by convolutions.py.
# input: height width channels | output channels | kernel | stride | padding | networks
"""

networks = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "inception_v3", "alexnet"]
found = {}
for name in networks:
    options = {"init_weights": False, "aux_logits": True} if name == "inception_v3" else {}
    with torch.device("meta"):
        network = getattr(torchvision.models, name)(weights=None, **options).train()

    def record(layer, inputs, output):
        x = inputs[0]
        if isinstance(layer, torch.nn.Linear):
            key = (1, 1, layer.in_features, layer.out_features, 1, 1, 1, 1, 0, 0)
        else:
            key = (*x.shape[2:], x.shape[1], layer.out_channels, *layer.kernel_size, *layer.stride, *layer.padding)
        names = found.setdefault(key, [])
        if name not in names:
            names.append(name)

    for layer in network.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_hook(record)
    side = 299 if name == "inception_v3" else 224
    network(torch.zeros(2, 3, side, side, device="meta"))

with open(__file__.replace(".py", ".txt"), "w") as file:
    file.write(HEADER)
    for key in sorted(found):
        h, w, c, k, *rest = key
        pairs = " | ".join(f"{rest[i]} {rest[i + 1]}" for i in (0, 2, 4))
        file.write(f"{h} {w} {c} | {k} | {pairs} | {' '.join(found[key])}\n")
