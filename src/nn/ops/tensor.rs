//! dfdx's tensors, tape and buffers as ops use them: flat, on the CPU.

use crate::nn::number::Number;
use dfdx::tensor::{Cpu, CpuError, OwnedTape, Storage, Tensor, TensorFromVec};

/// A buffer of values, such as a gradient.
pub type Buffer<N = f32> = <Cpu as Storage<N>>::Vec;

/// A flat tensor.
pub type FlatTensor<N = f32> = Tensor<(usize,), N, Cpu>;

/// The tape, or `None` when nothing is recorded.
pub type MaybeTape<N = f32> = Option<OwnedTape<N, Cpu>>;

/// A flat tensor of these values.
///
/// # Errors
/// When memory can't be allocated.
pub(crate) fn flat<N: Number>(values: Vec<N>) -> Result<FlatTensor<N>, CpuError> {
    let length = values.len();
    Cpu::default().try_tensor_from_vec(values, (length,))
}
