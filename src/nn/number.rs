//! The two precisions that forward passes are computed in, so that a kernel is written once. Knows no kernel.

use std::cell::RefCell;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Sub};

/// `f32` or `f64`.
pub(crate) trait Number:
    Copy
    + Send
    + Sync
    + 'static
    + PartialOrd
    + From<f32>
    + Into<f64>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
    + MulAssign
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Less than any number.
    const LOWEST: Self;

    /// The nearest of this precision.
    fn of(value: f64) -> Self;

    /// Whether it is none.
    fn is_nan(self) -> bool;

    /// Lends `length` values of this thread's scratch memory, whatever they hold. Not to be nested.
    fn with_scratch<R>(length: usize, work: impl FnOnce(&mut [Self]) -> R) -> R;
}

macro_rules! number {
    ($number:ty) => {
        impl Number for $number {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LOWEST: Self = Self::NEG_INFINITY;

            fn of(value: f64) -> Self {
                value as Self
            }

            fn is_nan(self) -> bool {
                self.is_nan()
            }

            fn with_scratch<R>(length: usize, work: impl FnOnce(&mut [Self]) -> R) -> R {
                thread_local! {
                    static SCRATCH: RefCell<Vec<$number>> = const { RefCell::new(Vec::new()) };
                }
                SCRATCH.with_borrow_mut(|scratch| {
                    if scratch.len() < length {
                        scratch.resize(length, 0.0);
                    }
                    work(&mut scratch[..length])
                })
            }
        }
    };
}

number!(f32);
number!(f64);
