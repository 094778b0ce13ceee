//! Residual networks (He, Zhang, Ren and Sun, 2015), as torchvision builds them: version 1.5, with
//! a bottleneck's stride in its 3x3 convolution.

use super::{BackboneInfo, Build};
use crate::nn::{Builder, Graph, Head, NnError, Op, Value, Window};

const LAYER_GROUPS: &[&str] = &["conv1", "layer1", "layer2", "layer3", "layer4"];

const fn entry(name: &'static str, features: usize, build: Build) -> BackboneInfo {
    BackboneInfo {
        name,
        input_size: 224,
        layer_groups: LAYER_GROUPS,
        features,
        build,
        auxiliary: None,
    }
}

pub(super) const RESNET18: BackboneInfo =
    entry("resnet18", 512, |head, input| resnet(basic, [2, 2, 2, 2], head, input));
pub(super) const RESNET34: BackboneInfo =
    entry("resnet34", 512, |head, input| resnet(basic, [3, 4, 6, 3], head, input));
pub(super) const RESNET50: BackboneInfo =
    entry("resnet50", 2048, |head, input| resnet(bottleneck, [3, 4, 6, 3], head, input));
pub(super) const RESNET101: BackboneInfo =
    entry("resnet101", 2048, |head, input| resnet(bottleneck, [3, 4, 23, 3], head, input));
pub(super) const RESNET152: BackboneInfo =
    entry("resnet152", 2048, |head, input| resnet(bottleneck, [3, 8, 36, 3], head, input));

/// Builds a residual block with `width` inner channels and a stride.
type Block = fn(&mut Builder, Value, usize, usize) -> Result<Value, NnError>;

fn resnet(
    block: Block,
    depths: [usize; 4],
    head: &Head,
    input: (usize, usize),
) -> Result<Graph, NnError> {
    let (mut builder, x) = Builder::new(input.0, input.1, 3);
    let b = &mut builder;
    b.layer_group("conv1");
    let x = b.convolution("conv1", x, 64, Window::square(7, 2, 3))?;
    let x = b.batch_norm("bn1", x)?;
    let x = b.relu(x)?;
    let mut x = b.add("maxpool", Op::MaxPool(Window::square(3, 2, 1)), &[x])?;
    for (layer, &depth) in depths.iter().enumerate() {
        let name = LAYER_GROUPS[layer + 1];
        b.layer_group(name);
        for index in 0..depth {
            let stride = if layer > 0 && index == 0 { 2 } else { 1 };
            x = b.within(&format!("{name}.{index}"), |b| block(b, x, 64 << layer, stride))?;
        }
    }
    let x = b.add("avgpool", Op::AdaptivePool { height: 1, width: 1 }, &[x])?;
    let x = b.add("flatten", Op::Flatten, &[x])?;
    b.features(x);
    b.dense_head("fc", x, head)?;
    builder.finish()
}

/// torchvision's `BasicBlock`: two 3x3 convolutions.
pub(super) fn basic(
    b: &mut Builder,
    x: Value,
    width: usize,
    stride: usize,
) -> Result<Value, NnError> {
    let y = b.convolution("conv1", x, width, Window::square(3, stride, 1))?;
    let y = b.batch_norm("bn1", y)?;
    let y = b.relu(y)?;
    let y = b.convolution("conv2", y, width, Window::square(3, 1, 1))?;
    let y = b.batch_norm("bn2", y)?;
    join(b, x, y, stride)
}

/// torchvision's `Bottleneck`: 1x1 to `width` channels, 3x3, 1x1 to four times `width`.
pub(super) fn bottleneck(
    b: &mut Builder,
    x: Value,
    width: usize,
    stride: usize,
) -> Result<Value, NnError> {
    let y = b.convolution("conv1", x, width, Window::square(1, 1, 0))?;
    let y = b.batch_norm("bn1", y)?;
    let y = b.relu(y)?;
    let y = b.convolution("conv2", y, width, Window::square(3, stride, 1))?;
    let y = b.batch_norm("bn2", y)?;
    let y = b.relu(y)?;
    let y = b.convolution("conv3", y, 4 * width, Window::square(1, 1, 0))?;
    let y = b.batch_norm("bn3", y)?;
    join(b, x, y, stride)
}

/// Adds the shortcut, projected where the shapes differ, and applies ReLU.
fn join(b: &mut Builder, x: Value, y: Value, stride: usize) -> Result<Value, NnError> {
    let channels = b.shape(y).channels;
    let shortcut = if stride == 1 && b.shape(x).channels == channels {
        x
    } else {
        b.within("downsample", |b| {
            let x = b.convolution("0", x, channels, Window::square(1, stride, 0))?;
            b.batch_norm("1", x)
        })?
    };
    let sum = b.add("add", Op::Add, &[y, shortcut])?;
    b.relu(sum)
}
