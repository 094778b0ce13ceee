//! Parquet's mixture of runs of equal numbers and bit-packed numbers, for levels and for indices
//! into dictionaries.

use super::thrift::Result;
use std::ops::Range;

/// A position in a part of a buffer, which the caller keeps.
#[derive(Clone, Debug)]
pub(super) struct Hybrid {
    rest: Range<usize>,
    /// Bits of a number, at most 32.
    width: u32,
    run: Run,
}

#[derive(Clone, Debug)]
enum Run {
    Equal {
        left: u64,
        value: u32,
    },
    /// The bit at which the next number begins.
    Packed {
        left: u64,
        at: u64,
    },
}

impl Hybrid {
    /// Of the numbers of `width` bits in a part of a buffer.
    pub(super) fn new(part: Range<usize>, width: u32) -> Result<Hybrid> {
        match width <= 32 {
            true => Ok(Hybrid { rest: part, width, run: Run::Equal { left: 0, value: 0 } }),
            false => Err(damaged()),
        }
    }

    pub(super) fn next(&mut self, buffer: &[u8]) -> Result<u32> {
        loop {
            match &mut self.run {
                Run::Equal { left, value } if *left > 0 => {
                    *left -= 1;
                    return Ok(*value);
                }
                Run::Packed { left, at } if *left > 0 => {
                    let value = bits(buffer, *at, self.width).ok_or_else(damaged)?;
                    *left -= 1;
                    *at += u64::from(self.width);
                    return Ok(value);
                }
                _ => self.begin(buffer)?,
            }
        }
    }

    fn begin(&mut self, buffer: &[u8]) -> Result<()> {
        let head = self.varint(buffer)?;
        self.run = match head & 1 {
            0 => {
                let width = self.width.div_ceil(8) as usize;
                let mut value = [0; 4];
                value[..width].copy_from_slice(self.take(buffer, width)?);
                Run::Equal { left: head >> 1, value: u32::from_le_bytes(value) }
            }
            _ => {
                // Groups of 8 numbers. The last one may be cut short where its numbers aren't used.
                let groups = head >> 1;
                let stated = groups.saturating_mul(self.width.into());
                let length = stated.min(self.rest.len() as u64) as usize;
                let at = self.rest.start as u64 * 8;
                self.take(buffer, length)?;
                let left = match self.width {
                    0 => groups.saturating_mul(8),
                    width => (length as u64 * 8 / u64::from(width)).min(groups.saturating_mul(8)),
                };
                Run::Packed { left, at }
            }
        };
        Ok(())
    }

    fn varint(&mut self, buffer: &[u8]) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let &[byte] = self.take(buffer, 1)? else { return Err(damaged()) };
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    fn take<'a>(&mut self, buffer: &'a [u8], length: usize) -> Result<&'a [u8]> {
        let end = self.rest.start.checked_add(length).filter(|end| *end <= self.rest.end);
        let end = end.ok_or_else(damaged)?;
        let taken = buffer.get(self.rest.start..end).ok_or_else(damaged)?;
        self.rest.start = end;
        Ok(taken)
    }
}

/// `width` bits from the bit `at`, the lowest one first.
pub(super) fn bits(buffer: &[u8], at: u64, width: u32) -> Option<u32> {
    if width == 0 {
        return Some(0);
    }
    let first = usize::try_from(at / 8).ok()?;
    let shift = (at % 8) as u32;
    let count = (shift + width).div_ceil(8) as usize;
    let mut word = [0; 8];
    word[..count].copy_from_slice(buffer.get(first..first.checked_add(count)?)?);
    let mask = u64::MAX >> (64 - width);
    Some(((u64::from_le_bytes(word) >> shift) & mask) as u32)
}

fn damaged() -> String {
    "the levels or indices of a page are damaged".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], width: u32, count: usize) -> Result<Vec<u32>> {
        let mut hybrid = Hybrid::new(0..bytes.len(), width)?;
        (0..count).map(|_| hybrid.next(bytes)).collect()
    }

    /// The examples of Parquet's specification: a run of 4s, and 0 to 7 in 3 bits each.
    #[test]
    fn runs_and_packed_numbers_follow_each_other() {
        let bytes = [6, 4, 3, 0b1000_1000, 0b1100_0110, 0b1111_1010, 2, 1];
        assert_eq!(all(&bytes, 3, 12).unwrap(), [4, 4, 4, 0, 1, 2, 3, 4, 5, 6, 7, 1]);
        assert!(all(&bytes, 3, 13).is_err());
        for length in 0..bytes.len() {
            assert!(all(&bytes[..length], 3, 12).is_err(), "{length}");
        }
        assert_eq!(all(&[6, 0], 0, 3).unwrap(), [0, 0, 0]);
        assert!(Hybrid::new(0..1, 33).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..40), width in 0u32..33) {
            let _ = all(&bytes, width, 100);
        }
    }
}
