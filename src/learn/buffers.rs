//! Device buffers as numbers of this process and back, with nothing but dfdx's public calls. On the CPU buffers are
//! slices; elsewhere copies travel through the SGD kernel, which is the one public way between a buffer and a tensor.

use super::LearnError;
use crate::nn::{Backend, Buffer, Cpu};
use dfdx::tensor::{Storage, Tensor};
use dfdx::tensor_ops::{Momentum, SgdConfig, WeightDecay};
use std::any::Any;

/// Lanes of [`square_sum`]: a sum's order depends on nothing but its length.
const LANES: usize = 16;

/// `count` zeros.
pub fn zeros<D: Backend>(device: &D, count: usize) -> Result<Buffer<D>, LearnError> {
    Storage::<f32>::try_alloc_len(device, count).map_err(LearnError::device)
}

/// How many numbers a buffer has.
pub fn length<D: Backend>(device: &D, buffer: &Buffer<D>) -> usize {
    Storage::<f32>::len(device, buffer)
}

/// The buffer's numbers, where it lies in this process's memory.
fn host<D: Backend>(buffer: &Buffer<D>) -> Option<&[f32]> {
    let buffer: &dyn Any = buffer;
    buffer.downcast_ref::<Buffer<Cpu>>().map(|buffer| buffer.as_slice())
}

fn host_mut<D: Backend>(buffer: &mut Buffer<D>) -> Option<&mut [f32]> {
    let buffer: &mut dyn Any = buffer;
    buffer.downcast_mut::<Buffer<Cpu>>().map(|buffer| buffer.as_mut_slice())
}

/// A copy of the buffer's numbers.
pub fn read<D: Backend>(device: &D, buffer: &Buffer<D>) -> Result<Vec<f32>, LearnError> {
    match host::<D>(buffer) {
        Some(numbers) => Ok(numbers.to_vec()),
        None => Ok(scaled(device, buffer, 1.0)?.as_vec()),
    }
}

/// A buffer with these numbers.
pub fn write<D: Backend>(device: &D, numbers: Vec<f32>) -> Result<Buffer<D>, LearnError> {
    let mut buffer = zeros(device, numbers.len())?;
    match host_mut::<D>(&mut buffer) {
        Some(place) => place.copy_from_slice(&numbers),
        None => {
            let shape = (numbers.len(),);
            let tensor = device.try_tensor_from_vec(numbers, shape).map_err(LearnError::device)?;
            copy(device, tensor, &mut buffer)?;
        }
    }
    Ok(buffer)
}

/// Multiplies every number by `factor`.
pub fn scale<D: Backend>(device: &D, buffer: &mut Buffer<D>, factor: f32) -> Result<(), LearnError> {
    match host_mut::<D>(buffer) {
        Some(numbers) => numbers.iter_mut().for_each(|number| *number *= factor),
        None => {
            let tensor = scaled(device, buffer, factor)?;
            copy(device, tensor, buffer)?;
        }
    }
    Ok(())
}

/// Adds the numbers of another buffer of the same length.
pub fn add<D: Backend>(device: &D, buffer: &mut Buffer<D>, other: &Buffer<D>) -> Result<(), LearnError> {
    match (host_mut::<D>(buffer), host::<D>(other)) {
        (Some(numbers), Some(others)) => {
            numbers.iter_mut().zip(others).for_each(|(number, other)| *number += other);
        }
        _ => {
            let mut sum = scaled(device, buffer, 1.0)?;
            let zeros = &mut zeros(device, length(device, buffer))?;
            let step = SgdConfig { lr: -1.0, momentum: None, weight_decay: None };
            step.try_update(&mut sum, zeros, other).map_err(LearnError::device)?;
            copy(device, sum, buffer)?;
        }
    }
    Ok(())
}

/// The sum of the squares.
pub fn square_sum<D: Backend>(device: &D, buffer: &Buffer<D>) -> Result<f64, LearnError> {
    match host::<D>(buffer) {
        Some(numbers) => Ok(sum_squares(numbers)),
        None => Ok(sum_squares(&read(device, buffer)?)),
    }
}

fn sum_squares(numbers: &[f32]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &number) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(number) * f64::from(number);
        }
    }
    for (lane, &number) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(number) * f64::from(number);
    }
    lanes.iter().sum()
}

/// A tensor of the buffer's numbers times `factor`: zeros that a step of SGD with rate `-factor` moved.
fn scaled<D: Backend>(device: &D, buffer: &Buffer<D>, factor: f32) -> Result<Tensor<(usize,), f32, D>, LearnError> {
    let count = length(device, buffer);
    let mut tensor = device.try_zeros_like(&(count,)).map_err(LearnError::device)?;
    let step = SgdConfig { lr: -f64::from(factor), momentum: None, weight_decay: None };
    step.try_update(&mut tensor, &mut zeros(device, count)?, buffer).map_err(LearnError::device)?;
    Ok(tensor)
}

/// Puts the tensor's numbers into a buffer of its length: what momentum is after a step along a weight decay of 1.
fn copy<D: Backend>(device: &D, mut tensor: Tensor<(usize,), f32, D>, into: &mut Buffer<D>) -> Result<(), LearnError> {
    let count = length(device, into);
    let step = SgdConfig { lr: 0.0, momentum: Some(Momentum::Classic(0.0)), weight_decay: Some(WeightDecay::L2(1.0)) };
    step.try_update(&mut tensor, into, &zeros(device, count)?).map_err(LearnError::device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_between_buffers_and_numbers_agree() {
        let device = Cpu::default();
        let numbers = vec![0.5, -1.25, 3.0, 1e-30];
        let mut buffer = write(&device, numbers.clone()).unwrap();
        assert_eq!(read(&device, &buffer).unwrap(), numbers);
        assert_eq!(scaled(&device, &buffer, 1.0).unwrap().as_vec(), numbers);
        let doubled: Vec<f32> = numbers.iter().map(|number| number * 2.0).collect();
        let tensor = scaled(&device, &buffer, 2.0).unwrap();
        copy(&device, tensor, &mut buffer).unwrap();
        assert_eq!(read(&device, &buffer).unwrap(), doubled);
        scale(&device, &mut buffer, 0.5).unwrap();
        assert_eq!(read(&device, &buffer).unwrap(), numbers);
        let other = write(&device, vec![1.0, 0.25, -3.0, 0.0]).unwrap();
        add(&device, &mut buffer, &other).unwrap();
        assert_eq!(read(&device, &buffer).unwrap(), [1.5, -1.0, 0.0, 1e-30]);
    }

    #[test]
    fn squares_are_summed_in_double_precision() {
        let device = Cpu::default();
        let buffer = write(&device, vec![0.1; 1000]).unwrap();
        let expected = f64::from(0.1f32).powi(2) * 1000.0;
        assert!((square_sum(&device, &buffer).unwrap() - expected).abs() < 1e-12);
        assert_eq!(square_sum(&device, &zeros(&device, 0).unwrap()).unwrap(), 0.0);
    }
}
