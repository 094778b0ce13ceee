//! Shapes in words, and those that no convolution has.

use super::*;

fn reason(change: impl Fn(&mut Shape)) -> String {
    let mut shape = square(2, 8, (3, 4), 3);
    change(&mut shape);
    shape.check().expect_err("an invalid shape").to_string()
}

#[test]
fn words() {
    let mut shape = square(2, 8, (3, 4), 3);
    shape.output = shape.output.within(12, 8);
    let mut problem = Problem::new(shape, Direction::ByInput, Precision::Tf32);
    problem.accumulate = true;
    assert_eq!(
        problem.to_string(),
        "gradient by the input of the convolution of 2 maps 8x8x3 to 8x8x4 (channels 8.. of 12) \
         with a 3x3 kernel, stride 1x1, padding 1x1 in tf32, accumulated"
    );
    assert_eq!(shape.weights(), 108);
}

#[test]
fn invalid_shapes() {
    for (change, expected) in [
        ((|s| s.batch = 0) as fn(&mut Shape), "batch, kernel and stride must be at least 1"),
        (|s| s.stride.1 = 0, "batch, kernel and stride must be at least 1"),
        (|s| s.input.channels = 0, "the input has no pixels or no channels"),
        (
            |s| s.output = s.output.within(6, 3),
            "the output's 4 channels from channel 3 on don't fit a map of 6 channels",
        ),
        (
            |s| s.input = s.input.within(8, usize::MAX),
            "the input's 3 channels from channel 18446744073709551615 on don't fit",
        ),
        (|s| s.output.height = 9, "the output is 9 pixels high, expected 8"),
        (|s| s.output.width = 7, "the output is 7 pixels wide, expected 8"),
        (|s| s.kernel.0 = 11, "the kernel is larger than the padded input is high"),
        (|s| s.padding.1 = usize::MAX, "the kernel is larger than the padded input is wide"),
        (|s| s.batch = usize::MAX / 2, "the input is too large"),
        (|s| s.kernel.0 = usize::MAX / 2, "the weights are too large"),
    ] {
        let reason = reason(change);
        assert!(reason.contains(expected), "{reason}");
        assert!(reason.starts_with("invalid convolution of "), "{reason}");
    }
}
