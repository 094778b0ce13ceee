//! What cuDNN notes about an engine's arithmetic, and which of it a precision allows. Pure data.

use super::Precision;

/// The numerical notes of an engine, as a set of cuDNN's numbers. Newer libraries may have notes
/// that the headers here lack; they are kept, and not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NumericalNotes(u64);

const TENSOR_CORE: i32 = 0;
const DOWN_CONVERT_INPUTS: i32 = 1;
const REDUCED_PRECISION_REDUCTION: i32 = 2;
const NONDETERMINISTIC: i32 = 4;

impl NumericalNotes {
    pub(super) fn new(numbers: &[i32]) -> NumericalNotes {
        let bits = numbers.iter().filter(|number| (0..64).contains(*number));
        NumericalNotes(bits.fold(0, |set, number| set | 1 << number))
    }

    pub(super) fn from_bits(bits: u64) -> NumericalNotes {
        NumericalNotes(bits)
    }

    /// One bit per note, for saved plans.
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    fn has(self, note: i32) -> bool {
        self.0 & 1 << note != 0
    }

    /// Whether the engine multiplies on tensor cores.
    pub fn tensor_cores(self) -> bool {
        self.has(TENSOR_CORE)
    }

    /// Whether the same input always gives the same bytes.
    pub fn deterministic(self) -> bool {
        !self.has(NONDETERMINISTIC)
    }

    /// Whether an engine may be used: never one whose result depends on timing, that sums in less
    /// than f32, or that converts its input. Rounding to tf32 isn't such a conversion.
    pub(super) fn allowed(self, precision: Precision) -> bool {
        let exact = ![NONDETERMINISTIC, REDUCED_PRECISION_REDUCTION, DOWN_CONVERT_INPUTS]
            .into_iter()
            .any(|note| self.has(note));
        exact && (precision != Precision::F32 || !self.tensor_cores())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nondeterministic_and_inexact_engines_are_never_allowed() {
        for precision in Precision::ALL {
            assert!(NumericalNotes::new(&[]).allowed(precision));
            assert!(!NumericalNotes::new(&[NONDETERMINISTIC]).allowed(precision));
            assert!(!NumericalNotes::new(&[REDUCED_PRECISION_REDUCTION]).allowed(precision));
            assert!(!NumericalNotes::new(&[DOWN_CONVERT_INPUTS]).allowed(precision));
        }
    }

    #[test]
    fn f32_excludes_tensor_cores() {
        let notes = NumericalNotes::new(&[TENSOR_CORE]);
        assert!(!notes.allowed(Precision::F32));
        assert!(notes.allowed(Precision::Tf32));
        assert!(notes.allowed(Precision::Bf16));
    }

    #[test]
    fn unknown_notes_are_no_reason_to_fail() {
        assert!(NumericalNotes::new(&[-1, 63, 64, i32::MAX]).allowed(Precision::F32));
    }
}
