"""PyTorch on the same card, for card.sh: prints lines like those of benches/card.

torch_card.py speed [MODEL ...]      images/s of training steps and inference, eager with channels_last
torch_card.py compile [MODEL ...]    the same with torch.compile
torch_card.py parity MODEL FOLDER    distances from f64 for the weights and images that benches/card wrote to FOLDER

Needs torch and torchvision, and safetensors for `parity`. Settings are those of benches/card: CARD_MODELS, CARD_SIZE,
CARD_BATCHES, CARD_STEPS, CARD_PRECISIONS, CARD_SPEED_PRECISIONS, and CARD_TORCH_DEVICE (cuda) to try it on a CPU.
"""

import copy
import os
import sys
import time

import torch
import torchvision

DEVICE = torch.device(os.environ.get("CARD_TORCH_DEVICE", "cuda"))
CUDA = DEVICE.type == "cuda"
STEPS = int(os.environ.get("CARD_STEPS", "20"))
# cuDNN tries its algorithms in the first steps.
WARM_UP = 5
AUXILIARY_WEIGHT = 0.4


def words(variable, usual):
    return os.environ.get(variable, usual).split()


def side(model):
    return int(os.environ.get("CARD_SIZE", "299" if model == "inception_v3" else "224"))


def line(*fields):
    print(*fields, sep="\t", flush=True)


def network(name):
    options = {"init_weights": False} if name == "inception_v3" else {}
    return getattr(torchvision.models, name)(weights=None, **options)


def choose(precision):
    """Which products f32 tensors use. bf16 is autocast's, as `autocast` has it."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def autocast(precision):
    return torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def loss_of(output, labels):
    cross_entropy = torch.nn.functional.cross_entropy
    if hasattr(output, "aux_logits"):
        return cross_entropy(output.logits, labels) + AUXILIARY_WEIGHT * cross_entropy(output.aux_logits, labels)
    return cross_entropy(output, labels)


def milliseconds(work):
    """Of each counted call: between events of the card, as benches/card measures."""
    for _ in range(WARM_UP):
        work()
    if not CUDA:
        times = [time.perf_counter()]
        for _ in range(STEPS):
            work()
            times.append(time.perf_counter())
        return [1e3 * (end - start) for start, end in zip(times, times[1:])]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(STEPS + 1)]
    for event in events[:-1]:
        event.record()
        work()
    events[-1].record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in zip(events, events[1:])]


def step_of(net, images, labels, precision):
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with autocast(precision):
            loss = loss_of(net(images), labels)
        loss.backward()
        optimizer.step()

    return step


def inference_of(net, images, precision):
    def inference():
        with torch.no_grad(), autocast(precision):
            net(images)

    return inference


def rate(name, batch, precision, mode, compiled):
    choose(precision)
    torch.manual_seed(1)
    net = network(name).to(DEVICE, memory_format=torch.channels_last).train(mode == "train")
    images = torch.randn(batch, 3, side(name), side(name), device=DEVICE).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (batch,), device=DEVICE)
    called = torch.compile(net) if compiled else net
    work = step_of(called, images, labels, precision) if mode == "train" else inference_of(called, images, precision)
    return batch / sorted(milliseconds(work))[STEPS // 2] * 1e3


def speed(names, compiled):
    torch.backends.cudnn.benchmark = True
    batches = [int(word) for word in words("CARD_BATCHES", "32 128 256")]
    for name in names:
        for precision in words("CARD_SPEED_PRECISIONS", "tf32 bf16"):
            for mode in ("infer", "train"):
                for batch in batches:
                    try:
                        measured = f"{rate(name, batch, precision, mode, compiled):.1f}"
                    except RuntimeError as error:
                        measured = str(error).splitlines()[0]
                    line("speed", name, batch, precision, mode, "compile" if compiled else "torch", measured)


def results(net, images, labels, precision):
    """Logits in evaluation mode, then loss and gradients in training mode."""
    choose(precision)
    net = copy.deepcopy(net).to(DEVICE, memory_format=torch.channels_last)
    with torch.no_grad(), autocast(precision):
        logits = net.eval()(images)
    with autocast(precision):
        loss = loss_of(net.train()(images), labels)
    loss.backward()
    gradients = {key: value.grad.double() for key, value in net.named_parameters()}
    return {"logits": logits.double(), "loss": loss.detach().double(), "gradients": gradients}


def distance(found, right):
    """|a - b| / |b|, of all gradients together."""
    if isinstance(right, dict):
        pairs = [(found[key].flatten(), right[key].flatten()) for key in right]
        found, right = (torch.cat(side) for side in zip(*pairs))
    return float((found - right).norm() / right.norm())


def parity(name, folder):
    from safetensors.torch import load_file

    net = network(name)
    missing, unexpected = net.load_state_dict(load_file(f"{folder}/weights.safetensors"), strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing), (missing, unexpected)
    has_dropout = False
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            # Other masks than ours would be another function.
            module.p, has_dropout = 0.0, True
    inputs = load_file(f"{folder}/inputs.safetensors")
    images = inputs["images"].permute(0, 3, 1, 2).to(DEVICE)
    labels = inputs["labels"].long().to(DEVICE)
    right = results(copy.deepcopy(net).double(), images.double(), labels, "f64")
    exact = {key: value.double().to(DEVICE) for key, value in load_file(f"{folder}/exact.safetensors").items()}
    ours = {"logits": exact["logits"].view_as(right["logits"]), "loss": exact["loss"].squeeze()}
    ours["gradients"] = {key: exact[f"gradient.{key}"].view_as(value) for key, value in right["gradients"].items()}
    for what in ("logits",) if has_dropout else ("logits", "loss", "gradients"):
        line("parity", name, "f64", what, "torch", f"{distance(right[what], ours[what]):.2e}")
    for precision in words("CARD_PRECISIONS", "f32 tf32 bf16"):
        found = results(net, images, labels, precision)
        for what in ("logits", "loss", "gradients"):
            line("parity", name, precision, what, "torch", f"{distance(found[what], right[what]):.2e}")


def main():
    what, arguments = sys.argv[1], sys.argv[2:]
    if what == "parity":
        parity(*arguments)
    elif what in ("speed", "compile"):
        speed(arguments or words("CARD_MODELS", "resnet50 inception_v3 alexnet"), what == "compile")
    else:
        sys.exit(__doc__)


main()
