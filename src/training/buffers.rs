//! Reads, writes and arithmetic on device buffers with dfdx's public API. On the CPU buffers are
//! slices. On other devices data passes through the SGD kernel, the only public way between a
//! buffer and a tensor.

use super::TrainingError;
use crate::nn::{Backend, Buffer, Cpu, Number};
use dfdx::tensor::{Storage, Tensor};
use dfdx::tensor_ops::{Momentum, SgdConfig, WeightDecay};
use std::any::Any;

/// Lanes of [`square_sum`]: the order of summation depends only on the length.
const LANES: usize = 16;

pub(super) fn zeros<D: Backend<N>, N: Number>(
    device: &D,
    count: usize,
) -> Result<Buffer<D, N>, TrainingError> {
    Storage::<N>::try_alloc_len(device, count).map_err(TrainingError::device)
}

pub(super) fn length<D: Backend<N>, N: Number>(device: &D, buffer: &Buffer<D, N>) -> usize {
    Storage::<N>::len(device, buffer)
}

/// The buffer as a slice, if it is in host memory.
fn host<D: Backend<N>, N: Number>(buffer: &Buffer<D, N>) -> Option<&[N]> {
    let buffer: &dyn Any = buffer;
    buffer.downcast_ref::<Buffer<Cpu, N>>().map(|buffer| buffer.as_slice())
}

fn host_mut<D: Backend<N>, N: Number>(buffer: &mut Buffer<D, N>) -> Option<&mut [N]> {
    let buffer: &mut dyn Any = buffer;
    buffer.downcast_mut::<Buffer<Cpu, N>>().map(|buffer| buffer.as_mut_slice())
}

/// Copies a buffer to the host.
pub(super) fn read<D: Backend<N>, N: Number>(
    device: &D,
    buffer: &Buffer<D, N>,
) -> Result<Vec<N>, TrainingError> {
    match host::<D, N>(buffer) {
        Some(numbers) => Ok(numbers.to_vec()),
        None => Ok(scaled::<D, N>(device, buffer, 1.0)?.as_vec()),
    }
}

/// Copies numbers to a new buffer on the device.
pub(super) fn write<D: Backend<N>, N: Number>(
    device: &D,
    numbers: Vec<N>,
) -> Result<Buffer<D, N>, TrainingError> {
    let mut buffer = zeros::<D, N>(device, numbers.len())?;
    match host_mut::<D, N>(&mut buffer) {
        Some(slice) => slice.copy_from_slice(&numbers),
        None => {
            let shape = (numbers.len(),);
            let tensor =
                device.try_tensor_from_vec(numbers, shape).map_err(TrainingError::device)?;
            copy::<D, N>(device, tensor, &mut buffer)?;
        }
    }
    Ok(buffer)
}

pub(super) fn scale<D: Backend<N>, N: Number>(
    device: &D,
    buffer: &mut Buffer<D, N>,
    factor: f64,
) -> Result<(), TrainingError> {
    match host_mut::<D, N>(buffer) {
        Some(numbers) => numbers.iter_mut().for_each(|number| *number *= N::of(factor)),
        None => {
            let tensor = scaled::<D, N>(device, buffer, factor)?;
            copy::<D, N>(device, tensor, buffer)?;
        }
    }
    Ok(())
}

/// Adds another buffer of the same length in place.
pub(super) fn add<D: Backend<N>, N: Number>(
    device: &D,
    buffer: &mut Buffer<D, N>,
    other: &Buffer<D, N>,
) -> Result<(), TrainingError> {
    match (host_mut::<D, N>(buffer), host::<D, N>(other)) {
        (Some(numbers), Some(others)) => {
            numbers.iter_mut().zip(others).for_each(|(number, other)| *number += *other);
        }
        _ => {
            let mut sum = scaled::<D, N>(device, buffer, 1.0)?;
            let zeros = &mut zeros::<D, N>(device, length::<D, N>(device, buffer))?;
            let step = SgdConfig { lr: -1.0, momentum: None, weight_decay: None };
            step.try_update(&mut sum, zeros, other).map_err(TrainingError::device)?;
            copy::<D, N>(device, sum, buffer)?;
        }
    }
    Ok(())
}

/// The sum of the squares, in f64.
pub(super) fn square_sum<D: Backend<N>, N: Number>(
    device: &D,
    buffer: &Buffer<D, N>,
) -> Result<f64, TrainingError> {
    match host::<D, N>(buffer) {
        Some(numbers) => Ok(sum_squares(numbers)),
        None => Ok(sum_squares(&read::<D, N>(device, buffer)?)),
    }
}

fn sum_squares<N: Number>(numbers: &[N]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &number) in lanes.iter_mut().zip(chunk) {
            *lane += number.into() * number.into();
        }
    }
    for (lane, &number) in lanes.iter_mut().zip(rest) {
        *lane += number.into() * number.into();
    }
    lanes.iter().sum()
}

/// The buffer times `factor` as a tensor: an SGD step from zero with learning rate `-factor`.
fn scaled<D: Backend<N>, N: Number>(
    device: &D,
    buffer: &Buffer<D, N>,
    factor: f64,
) -> Result<Tensor<(usize,), N, D>, TrainingError> {
    let count = length::<D, N>(device, buffer);
    let mut tensor = device.try_zeros_like(&(count,)).map_err(TrainingError::device)?;
    let step = SgdConfig { lr: -factor, momentum: None, weight_decay: None };
    step.try_update(&mut tensor, &mut zeros::<D, N>(device, count)?, buffer)
        .map_err(TrainingError::device)?;
    Ok(tensor)
}

/// Copies a tensor to a buffer of its length: the momentum after an SGD step with weight decay 1.
fn copy<D: Backend<N>, N: Number>(
    device: &D,
    mut tensor: Tensor<(usize,), N, D>,
    into: &mut Buffer<D, N>,
) -> Result<(), TrainingError> {
    let count = length::<D, N>(device, into);
    let step = SgdConfig {
        lr: 0.0,
        momentum: Some(Momentum::Classic(0.0)),
        weight_decay: Some(WeightDecay::L2(1.0)),
    };
    step.try_update(&mut tensor, into, &zeros::<D, N>(device, count)?)
        .map_err(TrainingError::device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_and_the_sgd_kernel_agree() {
        let device = Cpu::default();
        let numbers = vec![0.5, -1.25, 3.0, 1e-30];
        let mut buffer = write::<Cpu, f32>(&device, numbers.clone()).unwrap();
        assert_eq!(read::<Cpu, f32>(&device, &buffer).unwrap(), numbers);
        assert_eq!(scaled::<Cpu, f32>(&device, &buffer, 1.0).unwrap().as_vec(), numbers);
        let doubled: Vec<f32> = numbers.iter().map(|number| number * 2.0).collect();
        let tensor = scaled::<Cpu, f32>(&device, &buffer, 2.0).unwrap();
        copy::<Cpu, f32>(&device, tensor, &mut buffer).unwrap();
        assert_eq!(read::<Cpu, f32>(&device, &buffer).unwrap(), doubled);
        scale::<Cpu, f32>(&device, &mut buffer, 0.5).unwrap();
        assert_eq!(read::<Cpu, f32>(&device, &buffer).unwrap(), numbers);
        let other = write::<Cpu, f32>(&device, vec![1.0, 0.25, -3.0, 0.0]).unwrap();
        add::<Cpu, f32>(&device, &mut buffer, &other).unwrap();
        assert_eq!(read::<Cpu, f32>(&device, &buffer).unwrap(), [1.5, -1.0, 0.0, 1e-30]);
    }

    #[test]
    fn squares_are_summed_in_f64() {
        let device = Cpu::default();
        let buffer = write::<Cpu, f32>(&device, vec![0.1; 1000]).unwrap();
        let expected = f64::from(0.1f32).powi(2) * 1000.0;
        assert!((square_sum::<Cpu, f32>(&device, &buffer).unwrap() - expected).abs() < 1e-12);
        assert_eq!(
            square_sum::<Cpu, f32>(&device, &zeros::<Cpu, f32>(&device, 0).unwrap()).unwrap(),
            0.0
        );
    }
}
