//! Parts of wider maps, accumulation, linear layers, the images' channels.

use super::*;

/// The problems of a shape in all directions and the card's precisions.
fn each(shape: Shape, accumulate: bool, check: impl Fn(&Plan)) {
    let Some(cudnn) = cudnn() else { return };
    for name in CARDS {
        let card = card(cudnn, name);
        for &precision in precisions(name) {
            for direction in Direction::ALL {
                check(&planned(&Problem { shape, direction, precision, accumulate }, &card));
            }
        }
    }
}

#[test]
fn parts_of_a_joint_map() {
    let mut shape = square(32, 35, (192, 64), 1);
    shape.output = shape.output.within(288, 64);
    each(shape, false, |_| {});
    shape.input = shape.input.within(256, 64);
    each(shape, false, |_| {});
}

#[test]
fn parts_at_odd_channels() {
    let mut shape = square(8, 17, (20, 36), 3);
    shape.input = shape.input.within(23, 3);
    shape.output = shape.output.within(41, 5);
    each(shape, false, |_| {});
}

#[test]
fn accumulation() {
    each(square(32, 56, (64, 64), 3), true, |_| {});
    each(square(32, 14, (256, 1024), 1), true, |_| {});
    let mut shape = square(32, 17, (768, 192), 1);
    shape.input = shape.input.within(960, 192);
    each(shape, true, |_| {});
}

#[test]
fn linear_layers() {
    for batch in [1, 7, 256] {
        for (inputs, outputs) in [(2048, 1000), (512, 7), (9216, 4096), (768, 1000)] {
            each(Shape::linear(batch, inputs, outputs), false, |_| {});
        }
    }
}

#[test]
fn images_of_three_and_eight_channels() {
    let Some(cudnn) = cudnn() else { return };
    let stem = |channels| Shape {
        batch: 32,
        input: Map::new(224, 224, channels),
        output: Map::new(112, 112, 64),
        kernel: (7, 7),
        stride: (2, 2),
        padding: (3, 3),
    };
    for name in CARDS {
        let card = card(cudnn, name);
        for &precision in precisions(name) {
            for direction in [Direction::Forward, Direction::ByWeights] {
                for channels in [3, 8] {
                    planned(&Problem::new(stem(channels), direction, precision), &card);
                }
            }
        }
    }
}

#[test]
fn tensor_cores_multiply_aligned_bf16_maps() {
    let Some(cudnn) = cudnn() else { return };
    let mut shape = square(32, 56, (64, 64), 3);
    shape.output = shape.output.within(128, 64);
    for name in &CARDS[1..] {
        let card = card(cudnn, name);
        for direction in Direction::ALL {
            let plan = planned(&Problem::new(shape, direction, Precision::Bf16), &card);
            assert!(plan.notes().tensor_cores(), "{name}: {}", plan.problem());
        }
    }
}
