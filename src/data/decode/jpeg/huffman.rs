//! The Huffman codes of a baseline JPEG, read from its coded data.

use std::cell::RefCell;
use std::rc::Rc;

/// Coefficients of a block.
const BLOCK: u32 = 64;
/// Bits that the tables look ahead.
const AHEAD: u32 = 11;
/// Tables that a thread keeps: those of luma and color, each of means and others.
const KEPT: usize = 4;

thread_local! {
    /// The latest tables with their contents: the files of a set mostly have the same.
    static LATEST: RefCell<Vec<(Vec<u8>, Rc<Codes>)>> = const { RefCell::new(Vec::new()) };
}

/// A Huffman code: a symbol is a byte.
pub(super) struct Codes {
    /// For each value of the next [`AHEAD`] bits: symbol and length of the code; length 0 for a
    /// longer one.
    direct: Vec<(u8, u8)>,
    /// For each value of the next [`AHEAD`] bits: the coefficients that they tell of.
    runs: Vec<Run>,
    /// For each length: the first code that is too large for it, in 16 bits; and what added to a
    /// code gives the position of its symbol.
    limits: [(u32, i32); 17],
    symbols: Vec<u8>,
}

/// Some coefficients in a row.
#[derive(Clone, Copy, Default)]
struct Run {
    /// Bits of their codes and values; 0 if the first code is a long or an invalid one.
    bits: u8,
    /// How many they are: fewer than a block has.
    count: u8,
    /// 1 if the block ends behind them, else 0.
    ends: u8,
}

impl Codes {
    /// The codes with these numbers of codes of each length.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Rc<Codes>> {
        LATEST.with_borrow_mut(|latest| {
            let content = [counts, symbols].concat();
            if let Some((_, codes)) = latest.iter().find(|(earlier, _)| *earlier == content) {
                return Some(Rc::clone(codes));
            }
            let codes = Rc::new(Codes::build(counts, symbols)?);
            if latest.len() == KEPT {
                latest.remove(0);
            }
            latest.push((content, Rc::clone(&codes)));
            Some(codes)
        })
    }

    fn build(counts: &[u8; 16], symbols: &[u8]) -> Option<Codes> {
        let mut direct = vec![(0, 0); 1 << AHEAD];
        let mut limits = [(0, 0); 17];
        let (mut code, mut position) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            limits[length as usize].1 = position as i32 - code as i32;
            for _ in 0..count {
                if length <= AHEAD {
                    let first = (code << (AHEAD - length)) as usize;
                    let same = direct.get_mut(first..first + (1 << (AHEAD - length)))?;
                    same.fill((*symbols.get(position)?, length as u8));
                }
                (code, position) = (code + 1, position + 1);
            }
            (code <= 1 << length).then_some(())?;
            limits[length as usize].0 = code << (16 - length);
            code <<= 1;
        }
        let runs = (0..1 << AHEAD).map(|ahead| Run::of(&direct, ahead)).collect();
        Some(Codes { direct, runs, limits, symbols: symbols.to_vec() })
    }

    /// The next symbol; its code is skipped.
    #[inline]
    pub(super) fn next(&self, bits: &mut Bits) -> Option<u8> {
        bits.refill();
        let (symbol, length) = self.direct[bits.peek(AHEAD) as usize];
        if length > 0 {
            bits.skip(u32::from(length));
            return Some(symbol);
        }
        self.next_long(bits)
    }

    fn next_long(&self, bits: &mut Bits) -> Option<u8> {
        let ahead = bits.peek(16);
        let length = (AHEAD + 1..=16).find(|&length| ahead < self.limits[length as usize].0)?;
        bits.skip(length);
        let position = (ahead >> (16 - length)) as i32 + self.limits[length as usize].1;
        self.symbols.get(usize::try_from(position).ok()?).copied()
    }

    /// Skips the coefficients of a block behind its mean.
    #[inline]
    pub(super) fn skip_block(&self, bits: &mut Bits) -> Option<()> {
        let mut at = 1;
        while at < BLOCK {
            bits.refill();
            let Run { bits: length, count, ends } = self.runs[bits.peek(AHEAD) as usize];
            // Behind the last coefficient, the bits are those of the next block.
            if length > 0 && at + u32::from(count + ends) <= BLOCK {
                bits.skip(u32::from(length));
                if ends == 1 {
                    return Some(());
                }
                at += u32::from(count);
                continue;
            }
            let symbol = self.next(bits)?;
            let (zeros, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            match (zeros, size) {
                (0, 0) => return Some(()),
                (15, 0) => {}
                (_, 0) => return None,
                _ => bits.skip(size),
            }
            at += zeros + 1;
        }
        (at == BLOCK).then_some(())
    }
}

impl Run {
    /// What the next bits tell of: the first coefficient, whose value may go beyond them, and
    /// those that are wholly within them.
    fn of(direct: &[(u8, u8)], ahead: u32) -> Run {
        let mut run = Run::default();
        while u32::from(run.bits) < AHEAD && run.ends == 0 {
            let rest = (ahead << run.bits) & ((1 << AHEAD) - 1);
            let (symbol, length) = direct[rest as usize];
            let (zeros, size) = (symbol >> 4, symbol & 15);
            let (bits, count) = (run.bits + length + size, run.count + zeros + 1);
            let is_known = length > 0
                && u32::from(run.bits + length) <= AHEAD
                && (run.bits == 0 || u32::from(bits) <= AHEAD)
                && u32::from(count) < BLOCK;
            match (zeros, size) {
                _ if !is_known => break,
                (0, 0) => run = Run { bits, ends: 1, ..run },
                (1..15, 0) => break,
                _ => run = Run { bits, count, ends: 0 },
            }
        }
        run
    }
}

/// Reads coded data up to the next marker.
pub(super) struct Bits<'a> {
    /// From the marker on at which the data ends.
    rest: &'a [u8],
    /// The data up to there: without the zeros that are written behind 255.
    data: Vec<u8>,
    at: usize,
    /// The next bits, from the highest one.
    buffer: u64,
    /// Bits in the buffer.
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Bits<'a> {
        let mut bits = Bits { rest: data, data: Vec::new(), at: 0, buffer: 0, count: 0 };
        bits.read();
        bits
    }

    /// Reads up to the next marker.
    fn read(&mut self) {
        (self.at, self.buffer, self.count) = (0, 0, 0);
        self.data.clear();
        loop {
            while let Some((chunk, rest)) = self.rest.split_first_chunk::<8>()
                && !has_marker(u64::from_le_bytes(*chunk))
            {
                self.data.extend_from_slice(chunk);
                self.rest = rest;
            }
            let end = self.rest.iter().position(|&byte| byte == 0xff).unwrap_or(self.rest.len());
            self.data.extend_from_slice(&self.rest[..end]);
            self.rest = &self.rest[end..];
            let [0xff, 0, rest @ ..] = self.rest else { break };
            self.data.push(0xff);
            self.rest = rest;
        }
    }

    /// At least 56 bits, more than a code and the number that follows it have; behind the end of the
    /// data, zeros.
    #[inline]
    fn refill(&mut self) {
        let next = match self.data.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(next) => u64::from_be_bytes(*next),
            None => self.last_bytes(),
        };
        self.buffer |= next >> self.count;
        self.at += (63 - self.count as usize) >> 3;
        self.count |= 56;
    }

    #[cold]
    fn last_bytes(&self) -> u64 {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let mut bytes = [0; 8];
        bytes[..rest.len()].copy_from_slice(rest);
        u64::from_be_bytes(bytes)
    }

    #[inline]
    fn peek(&self, count: u32) -> u32 {
        (self.buffer >> (64 - count)) as u32
    }

    #[inline]
    fn skip(&mut self, count: u32) {
        self.buffer <<= count;
        self.count -= count;
    }

    /// A number of `count` bits, as JPEG writes it: negative ones begin with 0.
    #[inline]
    pub(super) fn signed(&mut self, count: u32) -> i32 {
        if count == 0 {
            return 0;
        }
        let value = self.peek(count) as i32;
        self.skip(count);
        if value < 1 << (count - 1) { value - (1 << count) + 1 } else { value }
    }

    /// Bits that were not read. None if more were read than there are before the next marker.
    fn left(&self) -> Option<usize> {
        (self.data.len() * 8 + self.count as usize).checked_sub(self.at * 8)
    }

    /// None if more bits were read than there are before the next marker.
    pub(super) fn within(&self) -> Option<()> {
        self.left().map(drop)
    }

    /// The marker here; none if data is left before it, or was read beyond it.
    fn marker(&self) -> Option<u8> {
        match (self.left()?, self.rest) {
            (0..8, [0xff, marker, ..]) => Some(*marker),
            _ => None,
        }
    }

    pub(super) fn restart(&mut self, number: u8) -> Option<()> {
        (self.marker()? == 0xd0 + number).then_some(())?;
        self.rest = self.rest.get(2..)?;
        self.read();
        Some(())
    }

    pub(super) fn end(&self) -> Option<()> {
        (self.marker()? == 0xd9).then_some(())
    }
}

/// Whether one of the bytes is 255.
fn has_marker(bytes: u64) -> bool {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = u64::from_le_bytes([128; 8]);
    (!bytes).wrapping_sub(ONES) & bytes & HIGH != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Codes of 2 to 16 bits with symbols of many kinds, two of which are invalid.
    fn codes() -> Rc<Codes> {
        let counts = [0, 1, 2, 2, 3, 2, 2, 3, 3, 2, 2, 2, 3, 3, 2, 5];
        let kinds = [0x00, 0x01, 0x02, 0x11, 0xf0, 0x21, 0x03, 0x31, 0x05, 0x12, 0x0a, 0x30];
        let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
        let symbols: Vec<u8> = kinds.into_iter().cycle().take(total).collect();
        Codes::new(&counts, &symbols).unwrap()
    }

    /// One symbol after the other.
    fn skip_slowly(codes: &Codes, bits: &mut Bits) -> Option<()> {
        let mut at = 1;
        while at < BLOCK {
            match codes.next(bits)? {
                0 => return Some(()),
                0xf0 => at += 16,
                symbol if symbol & 15 == 0 => return None,
                symbol => {
                    bits.signed(u32::from(symbol & 15));
                    at += u32::from(symbol >> 4) + 1;
                }
            }
        }
        (at == BLOCK).then_some(())
    }

    proptest! {
        #[test]
        fn a_marker_is_seen_among_eight_bytes(bytes in any::<[u8; 8]>(), at in 0usize..9) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.get_mut(at) {
                *byte = 255;
            }
            prop_assert_eq!(has_marker(u64::from_le_bytes(bytes)), bytes.contains(&255));
        }

        #[test]
        fn runs_are_skipped_as_their_symbols_are(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            let codes = codes();
            let (mut fast, mut slow) = (Bits::new(&data), Bits::new(&data));
            while fast.within().is_some() {
                let (one, other) = (codes.skip_block(&mut fast), skip_slowly(&codes, &mut slow));
                prop_assert_eq!(one, other);
                if one.is_none() {
                    break;
                }
                prop_assert_eq!(fast.left(), slow.left());
            }
        }
    }

    #[test]
    fn the_same_tables_are_built_once() {
        let [one, again] = [codes(), codes()];
        assert!(Rc::ptr_eq(&one, &again));
        let mut counts = [0; 16];
        counts[0] = 1;
        let other = Codes::new(&counts, &[7]).unwrap();
        assert!(!Rc::ptr_eq(&one, &other));
        assert_eq!(other.next(&mut Bits::new(&[0])), Some(7));
        assert!(Codes::new(&counts, &[]).is_none());
    }
}
