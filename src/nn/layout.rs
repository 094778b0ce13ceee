//! Converts parameter values between torchvision's memory layout and ours.
//!
//! Our layout of a convolution's weight is (kernel row, kernel column, input channel, output
//! channel), of a linear layer's (input, output), the input of a flattened map in H,W,C order: both
//! are the right-hand side of the matrix product that runs them, row by row.

use super::number::Number;
use super::parameters::{ParameterInfo, Role};
use rayon::prelude::*;

/// Outputs, input channels and pixels of a weight: PyTorch stores (out, channel, pixel), we store
/// (pixel, channel, out).
fn axes(info: &ParameterInfo) -> Option<(usize, usize, usize)> {
    match info.role {
        Role::ConvWeight => Some((info.shape[0], info.shape[1], info.shape[2] * info.shape[3])),
        Role::LinearWeight => Some((info.shape[0], info.source.channels, info.source.pixels())),
        _ => None,
    }
}

/// Lines transposed together: as many `f32` as a cache line holds.
const BLOCK: usize = 16;

/// Converts values from PyTorch's layout to ours.
pub(crate) fn from_torch<N: Number>(info: &ParameterInfo, values: &[N]) -> Vec<N> {
    let Some((outputs, channels, pixels)) = axes(info) else { return values.to_vec() };
    let mut ours = vec![N::ZERO; values.len()];
    // A line of ours is a (pixel, channel).
    ours.par_chunks_mut(BLOCK * outputs).enumerate().for_each(|(block, lines)| {
        let first = block * BLOCK;
        for output in 0..outputs {
            let source = &values[output * channels * pixels..][..channels * pixels];
            for (line, index) in lines.chunks_exact_mut(outputs).zip(first..) {
                line[output] = source[index % channels * pixels + index / channels];
            }
        }
    });
    ours
}

/// Converts values from our layout to PyTorch's.
pub(crate) fn to_torch<N: Number>(info: &ParameterInfo, values: &[N]) -> Vec<N> {
    let Some((outputs, channels, pixels)) = axes(info) else { return values.to_vec() };
    let mut torch = vec![N::ZERO; values.len()];
    // A line of torch's is an output.
    torch.par_chunks_mut(BLOCK * channels * pixels).enumerate().for_each(|(block, lines)| {
        let first = block * BLOCK;
        for (index, source) in values.chunks_exact(outputs).enumerate() {
            let target = index % channels * pixels + index / channels;
            for (line, output) in lines.chunks_exact_mut(channels * pixels).zip(first..) {
                line[target] = source[output];
            }
        }
    });
    torch
}

/// Converts values from PyTorch's layout to that of convolutions on a GPU: (output, kernel row,
/// kernel column, input channel).
pub(crate) fn torch_to_gpu(info: &ParameterInfo, values: &[f32]) -> Vec<f32> {
    let Some((_, channels, pixels)) = axes(info) else { return values.to_vec() };
    transposed(values, channels, pixels)
}

/// Converts values from the layout of convolutions on a GPU to PyTorch's.
pub(crate) fn gpu_to_torch(info: &ParameterInfo, values: &[f32]) -> Vec<f32> {
    let Some((_, channels, pixels)) = axes(info) else { return values.to_vec() };
    transposed(values, pixels, channels)
}

/// Transposes each matrix of `rows` x `columns`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    let matrices = out.par_chunks_mut(rows * columns).zip(values.par_chunks(rows * columns));
    matrices.for_each(|(out, values)| {
        for (column, line) in out.chunks_exact_mut(rows).enumerate() {
            let source = values.iter().skip(column).step_by(columns);
            line.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Shape;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn layouts_convert_both_ways(outputs in 1usize..5, channels in 1usize..5, h in 1usize..4, w in 1usize..4) {
            let info = ParameterInfo {
                name: "x".into(),
                shape: vec![outputs, channels, h, w],
                role: Role::ConvWeight,
                group: "s".into(),
                depth: 0,
                source: Shape::new(9, 9, channels),
            };
            let torch: Vec<f32> = (0..outputs * channels * h * w).map(|v| v as f32).collect();
            let ours = from_torch(&info, &torch);
            prop_assert_eq!(&to_torch(&info, &ours), &torch);
            let of_gpu = torch_to_gpu(&info, &torch);
            prop_assert_eq!(&gpu_to_torch(&info, &of_gpu), &torch);
            if channels > 1 {
                prop_assert_eq!(of_gpu[1], torch[h * w]);
            }
            // (pixel 0, channel 0, output 1) is torch's (output 1, channel 0, pixel 0).
            if outputs > 1 {
                prop_assert_eq!(ours[1], torch[channels * h * w]);
            }
        }
    }
}
