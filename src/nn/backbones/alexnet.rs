//! AlexNet (Krizhevsky, Sutskever and Hinton, 2012) in the form of "One weird trick for
//! parallelizing convolutional neural networks" (2014), as torchvision builds it. Its features are
//! the output of the second linear layer (after ReLU).

use super::BackboneInfo;
use crate::nn::{Builder, Graph, Head, NnError, Op, Value, Window};

pub(super) const ALEXNET: BackboneInfo = BackboneInfo {
    name: "alexnet",
    input_size: 224,
    layer_groups: &["features", "classifier"],
    features: 4096,
    build: alexnet,
    auxiliary: None,
};

fn alexnet(head: &Head, input: (usize, usize)) -> Result<Graph, NnError> {
    let (mut builder, mut x) = Builder::new(input.0, input.1, 3);
    let b = &mut builder;
    b.layer_group("features");
    let pool = Op::MaxPool(Window::square(3, 2, 0));
    // (index in torchvision's Sequential, channels, window, whether a pooling follows)
    for (index, channels, window, pooled) in [
        (0, 64, Window::square(11, 4, 2), true),
        (3, 192, Window::square(5, 1, 2), true),
        (6, 384, Window::square(3, 1, 1), false),
        (8, 256, Window::square(3, 1, 1), false),
        (10, 256, Window::square(3, 1, 1), true),
    ] {
        x = b.add(
            &format!("features.{index}"),
            Op::Convolution { channels, window, bias: true },
            &[x],
        )?;
        x = b.add(&format!("features.{}", index + 1), Op::Relu, &[x])?;
        if pooled {
            x = b.add(&format!("features.{}", index + 2), pool, &[x])?;
        }
    }
    x = b.add("avgpool", Op::AdaptivePool { height: 6, width: 6 }, &[x])?;
    b.layer_group("classifier");
    x = classifier(b, x, 4096)?;
    b.features(x);
    b.dense_head("classifier.6", x, head)?;
    builder.finish()
}

/// The classifier without its last layer: dropout, linear to `width`, ReLU, twice.
pub(super) fn classifier(b: &mut Builder, x: Value, width: usize) -> Result<Value, NnError> {
    let mut x = b.add("flatten", Op::Flatten, &[x])?;
    for index in [0, 3] {
        x = b.add(&format!("classifier.{index}"), Op::Dropout { probability: 0.5 }, &[x])?;
        x = b.add(&format!("classifier.{}", index + 1), Op::Linear { channels: width }, &[x])?;
        x = b.add(&format!("classifier.{}", index + 2), Op::Relu, &[x])?;
    }
    Ok(x)
}
