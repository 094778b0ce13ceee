//! What is planned: a shape, a direction and a precision. Pure data, without cuDNN.

use super::Shape;
use std::fmt;

/// What a convolution computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// y from x and w.
    Forward,
    /// The gradient by x from w and the gradient by y.
    ByInput,
    /// The gradient by w from x and the gradient by y.
    ByWeights,
}

impl Direction {
    /// All of them.
    pub const ALL: [Direction; 3] = [Direction::Forward, Direction::ByInput, Direction::ByWeights];

    fn words(self) -> &'static str {
        match self {
            Direction::Forward => "convolution",
            Direction::ByInput => "gradient by the input of the convolution",
            Direction::ByWeights => "gradient by the weights of the convolution",
        }
    }
}

/// How a convolution is computed. Sums are in f32 in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32 values and products.
    F32,
    /// f32 values, products of values rounded to tf32 where the card has tensor cores for it.
    Tf32,
    /// bf16 values.
    Bf16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::Tf32, Precision::Bf16];

    /// The type of the maps, the weights and the gradients of both: no engine writes the gradient
    /// by the weights in f32 from bf16 maps.
    pub fn element(self) -> Element {
        match self {
            Precision::F32 | Precision::Tf32 => Element::F32,
            Precision::Bf16 => Element::Bf16,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        })
    }
}

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    F32,
    Bf16,
}

impl Element {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::Bf16 => 2,
        }
    }
}

/// A convolution to plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    pub shape: Shape,
    pub direction: Direction,
    pub precision: Precision,
    /// Whether the result is added to what the output holds, with one rounding of the sum.
    pub accumulate: bool,
}

impl Problem {
    /// A problem that overwrites its output.
    pub fn new(shape: Shape, direction: Direction, precision: Precision) -> Problem {
        Problem { shape, direction, precision, accumulate: false }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let accumulated = if self.accumulate { ", accumulated" } else { "" };
        write!(f, "{} {}", self.direction.words(), self.shape)?;
        write!(f, " in {}{accumulated}", self.precision)
    }
}
