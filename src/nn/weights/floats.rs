//! Decodes floating-point values of 16, 32 and 64 bits to `f32` or `f64`, and checks that weights
//! are finite.

use crate::nn::number::Number;

/// The type of floating-point values in a file, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Float {
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
}

/// Decodes `bytes`; an incomplete value at the end is ignored.
pub(super) fn values<N: Number>(bytes: &[u8], of: Float) -> Vec<N> {
    match of {
        Float::F32 => bytes.as_chunks().0.iter().map(|&b| N::from(f32::from_le_bytes(b))).collect(),
        Float::F64 => bytes.as_chunks().0.iter().map(|&b| N::of(f64::from_le_bytes(b))).collect(),
        Float::BF16 => {
            bytes.as_chunks().0.iter().map(|&b| N::from(bf16(u16::from_le_bytes(b)))).collect()
        }
        Float::F16 => {
            bytes.as_chunks().0.iter().map(|&b| N::from(half(u16::from_le_bytes(b)))).collect()
        }
    }
}

fn bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Decodes an IEEE 754 binary16.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits >> 10 & 31);
    let fraction = f32::from(bits & 1023) / 1024.0;
    sign * match exponent {
        0 => fraction * 2f32.powi(-14),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction) * 2f32.powi(exponent - 15),
    }
}

/// Checks that all values of the tensor `name` are finite.
///
/// # Errors
/// A message with the tensor and the first value that isn't.
pub(super) fn finite<N: Number>(name: &str, values: &[N]) -> Result<(), String> {
    match values.iter().enumerate().find(|&(_, &value)| !value.into().is_finite()) {
        Some((index, value)) => {
            Err(format!("{name} contains {value:?} at index {index}: the weights are damaged"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary16_is_decoded() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
            (0, 0.0),
        ] {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7c00).is_infinite() && half(0x7e00).is_nan());
    }
}
