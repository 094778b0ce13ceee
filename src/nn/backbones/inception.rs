//! Inception V3 (Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, 2015), as torchvision builds it,
//! optionally with the auxiliary head of the paper's section 4. Images are normalized with mean and
//! standard deviation 0.5. torchvision's `transform_input` isn't implemented: it converts images
//! normalized with ImageNet's mean and standard deviation to this (a test compares the two to
//! 1e-12).

use super::BackboneInfo;
use crate::nn::{Builder, Graph, Head, NnError, Op, Value, Window};

pub(super) const INCEPTION_V3: BackboneInfo = BackboneInfo {
    name: "inception_v3",
    input_size: 299,
    layer_groups: &[
        "Conv2d_1a_3x3",
        "Conv2d_2a_3x3",
        "Conv2d_2b_3x3",
        "Conv2d_3b_1x1",
        "Conv2d_4a_3x3",
        "Mixed_5b",
        "Mixed_5c",
        "Mixed_5d",
        "Mixed_6a",
        "Mixed_6b",
        "Mixed_6c",
        "Mixed_6d",
        "Mixed_6e",
        "Mixed_7a",
        "Mixed_7b",
        "Mixed_7c",
    ],
    features: 2048,
    build: |head, input| inception_v3(head, input, false),
    auxiliary: Some(|head, input| inception_v3(head, input, true)),
};

const POINT: Window = Window { kernel: (1, 1), stride: (1, 1), padding: (0, 0) };
/// 1x7 and 7x1 that keep the map's size.
const WIDE_7: Window = Window { kernel: (1, 7), stride: (1, 1), padding: (0, 3) };
const TALL_7: Window = Window { kernel: (7, 1), stride: (1, 1), padding: (3, 0) };
const WIDE_3: Window = Window { kernel: (1, 3), stride: (1, 1), padding: (0, 1) };
const TALL_3: Window = Window { kernel: (3, 1), stride: (1, 1), padding: (1, 0) };
/// 3x3 that keeps the map's size.
const SAME_3: Window = Window { kernel: (3, 3), stride: (1, 1), padding: (1, 1) };
/// 3x3 that halves it.
const HALF_3: Window = Window { kernel: (3, 3), stride: (2, 2), padding: (0, 0) };

fn inception_v3(head: &Head, input: (usize, usize), auxiliary: bool) -> Result<Graph, NnError> {
    let (mut builder, x) = Builder::new(input.0, input.1, 3);
    let b = &mut builder;
    let x = stem(b, x)?;
    let x = layer_group(b, "Mixed_5b", |b| block_a(b, x, 32))?;
    let x = layer_group(b, "Mixed_5c", |b| block_a(b, x, 64))?;
    let x = layer_group(b, "Mixed_5d", |b| block_a(b, x, 64))?;
    let x = layer_group(b, "Mixed_6a", |b| block_b(b, x))?;
    let x = layer_group(b, "Mixed_6b", |b| block_c(b, x, 128))?;
    let x = layer_group(b, "Mixed_6c", |b| block_c(b, x, 160))?;
    let x = layer_group(b, "Mixed_6d", |b| block_c(b, x, 160))?;
    let branch = layer_group(b, "Mixed_6e", |b| block_c(b, x, 192))?;
    let x = layer_group(b, "Mixed_7a", |b| block_d(b, branch))?;
    let x = layer_group(b, "Mixed_7b", |b| block_e(b, x))?;
    let x = layer_group(b, "Mixed_7c", |b| block_e(b, x))?;
    let x = b.add("avgpool", Op::AdaptivePool { height: 1, width: 1 }, &[x])?;
    let mut x = b.add("flatten", Op::Flatten, &[x])?;
    b.features(x);
    if *head == Head::Original {
        x = b.add("dropout", Op::Dropout { probability: 0.5 }, &[x])?;
    }
    b.dense_head("fc", x, head)?;
    if auxiliary {
        b.auxiliary();
        b.within(crate::nn::AUXILIARY, |b| auxiliary_head(b, branch, head.classes()))?;
    }
    builder.finish()
}

/// Five convolutions and two max poolings, to 192 channels at an eighth of the size.
fn stem(b: &mut Builder, x: Value) -> Result<Value, NnError> {
    let x = layer_group(b, "Conv2d_1a_3x3", |b| basic(b, x, 32, HALF_3))?;
    let x = layer_group(b, "Conv2d_2a_3x3", |b| basic(b, x, 32, Window::square(3, 1, 0)))?;
    let x = layer_group(b, "Conv2d_2b_3x3", |b| basic(b, x, 64, SAME_3))?;
    let x = b.add("maxpool1", Op::MaxPool(HALF_3), &[x])?;
    let x = layer_group(b, "Conv2d_3b_1x1", |b| basic(b, x, 80, POINT))?;
    let x = layer_group(b, "Conv2d_4a_3x3", |b| basic(b, x, 192, Window::square(3, 1, 0)))?;
    b.add("maxpool2", Op::MaxPool(HALF_3), &[x])
}

/// A top-level module, which is its own layer group.
fn layer_group(
    b: &mut Builder,
    name: &str,
    build: impl FnOnce(&mut Builder) -> Result<Value, NnError>,
) -> Result<Value, NnError> {
    b.layer_group(name);
    b.within(name, build)
}

/// torchvision's `BasicConv2d`: convolution, batch norm with an epsilon of 1e-3, ReLU.
fn basic(b: &mut Builder, x: Value, channels: usize, window: Window) -> Result<Value, NnError> {
    let x = b.convolution("conv", x, channels, window)?;
    let x = b.add("bn", Op::BatchNorm { epsilon: 1e-3 }, &[x])?;
    b.relu(x)
}

/// A sequence of [`basic`] layers, each with its name, channels and window.
fn chain(
    b: &mut Builder,
    mut x: Value,
    layers: &[(&str, usize, Window)],
) -> Result<Value, NnError> {
    for &(name, channels, window) in layers {
        x = b.within(name, |b| basic(b, x, channels, window))?;
    }
    Ok(x)
}

/// Average pooling of 3x3, padding counted, then a 1x1 convolution.
fn pooled(b: &mut Builder, x: Value, channels: usize) -> Result<Value, NnError> {
    let mean =
        b.add("avg_pool2d", Op::AveragePool { window: SAME_3, count_padding: true }, &[x])?;
    chain(b, mean, &[("branch_pool", channels, POINT)])
}

/// torchvision's `InceptionA`: 1x1, 5x5, twice 3x3, pooling.
pub(super) fn block_a(b: &mut Builder, x: Value, pool: usize) -> Result<Value, NnError> {
    let one = chain(b, x, &[("branch1x1", 64, POINT)])?;
    let five =
        chain(b, x, &[("branch5x5_1", 48, POINT), ("branch5x5_2", 64, Window::square(5, 1, 2))])?;
    let twice = [
        ("branch3x3dbl_1", 64, POINT),
        ("branch3x3dbl_2", 96, SAME_3),
        ("branch3x3dbl_3", 96, SAME_3),
    ];
    let twice = chain(b, x, &twice)?;
    let pool = pooled(b, x, pool)?;
    b.add("cat", Op::Concatenate, &[one, five, twice, pool])
}

/// torchvision's `InceptionB`, which halves the map: 3x3, twice 3x3, pooling.
pub(super) fn block_b(b: &mut Builder, x: Value) -> Result<Value, NnError> {
    let three = chain(b, x, &[("branch3x3", 384, HALF_3)])?;
    let twice = [
        ("branch3x3dbl_1", 64, POINT),
        ("branch3x3dbl_2", 96, SAME_3),
        ("branch3x3dbl_3", 96, HALF_3),
    ];
    let twice = chain(b, x, &twice)?;
    let pool = b.add("max_pool2d", Op::MaxPool(HALF_3), &[x])?;
    b.add("cat", Op::Concatenate, &[three, twice, pool])
}

/// torchvision's `InceptionC`: 1x1, 7x7 as 1x7 and 7x1 with `inner` channels between, twice that,
/// pooling.
pub(super) fn block_c(b: &mut Builder, x: Value, inner: usize) -> Result<Value, NnError> {
    let one = chain(b, x, &[("branch1x1", 192, POINT)])?;
    let seven = [
        ("branch7x7_1", inner, POINT),
        ("branch7x7_2", inner, WIDE_7),
        ("branch7x7_3", 192, TALL_7),
    ];
    let seven = chain(b, x, &seven)?;
    let twice = [
        ("branch7x7dbl_1", inner, POINT),
        ("branch7x7dbl_2", inner, TALL_7),
        ("branch7x7dbl_3", inner, WIDE_7),
        ("branch7x7dbl_4", inner, TALL_7),
        ("branch7x7dbl_5", 192, WIDE_7),
    ];
    let twice = chain(b, x, &twice)?;
    let pool = pooled(b, x, 192)?;
    b.add("cat", Op::Concatenate, &[one, seven, twice, pool])
}

/// torchvision's `InceptionD`, which halves the map: 3x3, 7x7 and 3x3, pooling.
pub(super) fn block_d(b: &mut Builder, x: Value) -> Result<Value, NnError> {
    let three = chain(b, x, &[("branch3x3_1", 192, POINT), ("branch3x3_2", 320, HALF_3)])?;
    let seven = [
        ("branch7x7x3_1", 192, POINT),
        ("branch7x7x3_2", 192, WIDE_7),
        ("branch7x7x3_3", 192, TALL_7),
        ("branch7x7x3_4", 192, HALF_3),
    ];
    let seven = chain(b, x, &seven)?;
    let pool = b.add("max_pool2d", Op::MaxPool(HALF_3), &[x])?;
    b.add("cat", Op::Concatenate, &[three, seven, pool])
}

/// torchvision's `InceptionE`: 1x1; 1x3 and 3x1 in parallel; the same after a 3x3; pooling.
pub(super) fn block_e(b: &mut Builder, x: Value) -> Result<Value, NnError> {
    let one = chain(b, x, &[("branch1x1", 320, POINT)])?;
    let three = chain(b, x, &[("branch3x3_1", 384, POINT)])?;
    let wide = chain(b, three, &[("branch3x3_2a", 384, WIDE_3)])?;
    let tall = chain(b, three, &[("branch3x3_2b", 384, TALL_3)])?;
    let twice = chain(b, x, &[("branch3x3dbl_1", 448, POINT), ("branch3x3dbl_2", 384, SAME_3)])?;
    let twice_wide = chain(b, twice, &[("branch3x3dbl_3a", 384, WIDE_3)])?;
    let twice_tall = chain(b, twice, &[("branch3x3dbl_3b", 384, TALL_3)])?;
    let pool = pooled(b, x, 192)?;
    b.add("cat", Op::Concatenate, &[one, wide, tall, twice_wide, twice_tall, pool])
}

/// torchvision's `InceptionAux`: average pooling of 5x5, convolutions of 1x1 and 5x5, global mean,
/// linear layer. The map must have at least 17 x 17 pixels.
pub(super) fn auxiliary_head(b: &mut Builder, x: Value, classes: usize) -> Result<Value, NnError> {
    let map = b.shape(x);
    if map.height.min(map.width) < 17 {
        return Err(NnError::Graph(format!(
            "the auxiliary head needs a map of 17 x 17 pixels, and has one of {} x {}: use images of 299 pixels at least, \
             or leave it out",
            map.height, map.width
        )));
    }
    let x = b.add(
        "avg_pool2d",
        Op::AveragePool { window: Window::square(5, 3, 0), count_padding: true },
        &[x],
    )?;
    let x = chain(b, x, &[("conv0", 128, POINT), ("conv1", 768, Window::square(5, 1, 0))])?;
    let x = b.add("avgpool", Op::AdaptivePool { height: 1, width: 1 }, &[x])?;
    let x = b.add("flatten", Op::Flatten, &[x])?;
    b.add("fc", Op::Linear { channels: classes }, &[x])
}
