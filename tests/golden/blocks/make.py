"""python make.py, in this folder: one training step through each of torchvision's blocks, in float64, in evaluation afterwards.

Each network is stem (1x1 convolution with bias) -> block -> flatten -> fc, its loss the cross entropy; the auxiliary head
stands beside a global mean and fc, and adds 0.4 of its cross entropy. Values come from a formula (`numbers`), so that only
results are written, to NAME.txt: a line `loss`, lines `logits` (training mode) and `evaluated` (after the step's forward
has moved the running statistics), and for the gradient of each parameter its name and 32 sums with random signs, from which
the Euclidean distance of two gradients is estimated within an eighth. src/nn/backbones/tests/blocks.rs reads them. Made with
torch 2.15, torchvision 0.29.
"""
from collections import OrderedDict

import numpy as np
import torch
from torch import nn
from torchvision.models import inception, resnet

CLASSES = 5
MASK = (1 << 64) - 1


def key(name):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 & MASK
    return value


def bits(name, count):
    """Splitmix64 of a name's key, counted up."""
    with np.errstate(over="ignore"):
        z = np.uint64(key(name)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def numbers(name, shape):
    """Float32 numbers in [-1, 1)."""
    high = (bits(name, int(np.prod(shape))) >> np.uint64(40)).astype(np.float32)
    return (high / np.float32(1 << 23) - np.float32(1)).reshape(shape)


def start(name, parameter, role):
    values = numbers(name, tuple(parameter.shape))
    if role == "norm":
        values = values * np.float32(0.25) + np.float32(1 if name.endswith("weight") else 0)
    elif parameter.dim() > 1:
        values = values * np.sqrt(np.float32(6) / np.float32(parameter[0].numel()))
    return torch.from_numpy(values.astype(np.float64))


def sums(name, gradient):
    signs = bits("signs " + name, gradient.numel())
    flat = gradient.flatten().numpy()
    return [float(np.where(signs >> np.uint64(bit) & np.uint64(1), flat, -flat).sum()) for bit in range(32)]


def row(values):
    return " ".join(f"{value:.10e}" for value in values)


def write(name, block, channels, size, batch=3, auxiliary=None):
    pixels = torch.zeros(2, channels, *size, dtype=torch.float64)
    net = nn.ModuleDict({"stem": nn.Conv2d(3, channels, 1)}).double()
    net["block"] = block.double().train()
    made = net["block"](pixels)
    net["fc"] = nn.Linear(made[0].numel(), CLASSES).double()
    if auxiliary is not None:
        net["AuxLogits"] = auxiliary.double()
    norms = {id(p) for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    with torch.no_grad():
        for parameter_name, parameter in net.named_parameters():
            role = "norm" if id(parameter) in norms else "other"
            parameter.copy_(start(parameter_name, parameter, role))
    # Images are generated as the network reads them: image, row, column, channel.
    x = torch.from_numpy(numbers("pictures", (batch, *size, 3)).astype(np.float64)).permute(0, 3, 1, 2).contiguous()
    labels = torch.arange(batch) % CLASSES

    def forward():
        stem = net["stem"](x)
        return stem, net["fc"](net["block"](stem).flatten(1))

    stem, logits = forward()
    loss = nn.functional.cross_entropy(logits, labels)
    if auxiliary is not None:
        loss = loss + 0.4 * nn.functional.cross_entropy(net["AuxLogits"](stem), labels)
    loss.backward()
    net.eval()
    with torch.no_grad():
        evaluated = forward()[1]
    with open(f"{name}.txt", "w") as file:
        print("loss", row([loss.item()]), file=file)
        print("logits", row(logits.detach().flatten().tolist()), file=file)
        print("evaluated", row(evaluated.flatten().tolist()), file=file)
        for parameter_name, parameter in net.named_parameters():
            print(parameter_name, row(sums(parameter_name, parameter.grad)), file=file)


def projected(block, inside, outside, stride):
    downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))
    return block(inside, outside // block.expansion, stride, downsample)


def classifier(inputs, width):
    """AlexNet's up to its features, as torchvision writes it, narrower and without dropout."""
    layers = [nn.Dropout(0), nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), classifier=nn.Sequential(*layers)))


torch.manual_seed(0)
write("basic", resnet.BasicBlock(16, 16), 16, (6, 5))
write("basic_projected", projected(resnet.BasicBlock, 16, 32, 2), 16, (7, 6))
write("bottleneck", resnet.Bottleneck(32, 8), 32, (6, 5))
write("bottleneck_projected", projected(resnet.Bottleneck, 16, 64, 2), 16, (7, 6))
write("inception_a", inception.InceptionA(24, 32), 24, (6, 7))
write("inception_b", inception.InceptionB(24), 24, (7, 8))
write("inception_c", inception.InceptionC(24, 128), 24, (6, 7))
write("inception_d", inception.InceptionD(24), 24, (7, 8))
write("inception_e", inception.InceptionE(24), 24, (4, 5))
write("auxiliary", nn.AdaptiveAvgPool2d(1), 16, (17, 18), auxiliary=inception.InceptionAux(16, CLASSES))
write("alexnet_classifier", classifier(8 * 6 * 6, 64), 8, (6, 6))
