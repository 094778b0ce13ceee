//! The Huffman codes of a baseline JPEG, read from its coded data.

/// Longest code that the table of codes holds directly.
const DIRECT: u32 = 11;

/// A Huffman code: a symbol is a byte.
#[derive(Clone)]
pub(super) struct Codes {
    /// For each value of the next [`DIRECT`] bits: symbol and length of the code; length 0 for a
    /// longer one.
    direct: Vec<(u8, u8)>,
    /// For each length: the first code that is too large for it, in 16 bits; and what added to a
    /// code gives the position of its symbol.
    limits: [(u32, i32); 17],
    symbols: Vec<u8>,
}

impl Codes {
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Codes> {
        let mut direct = vec![(0, 0); 1 << DIRECT];
        let mut limits = [(0, 0); 17];
        let (mut code, mut position) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            limits[length as usize].1 = position as i32 - code as i32;
            for _ in 0..count {
                if length <= DIRECT {
                    let first = (code << (DIRECT - length)) as usize;
                    let same = direct.get_mut(first..first + (1 << (DIRECT - length)))?;
                    same.fill((*symbols.get(position)?, length as u8));
                }
                (code, position) = (code + 1, position + 1);
            }
            (code <= 1 << length).then_some(())?;
            limits[length as usize].0 = code << (16 - length);
            code <<= 1;
        }
        Some(Codes { direct, limits, symbols: symbols.to_vec() })
    }

    /// The next symbol; its code is skipped.
    pub(super) fn next(&self, bits: &mut Bits) -> Option<u8> {
        bits.refill();
        let ahead = bits.peek(16);
        let (symbol, length) = self.direct[(ahead >> (16 - DIRECT)) as usize];
        if length > 0 {
            bits.skip(u32::from(length));
            return Some(symbol);
        }
        let length = (DIRECT + 1..=16).find(|&length| ahead < self.limits[length as usize].0)?;
        bits.skip(length);
        let position = (ahead >> (16 - length)) as i32 + self.limits[length as usize].1;
        self.symbols.get(usize::try_from(position).ok()?).copied()
    }
}

/// Reads coded data up to the next marker.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, from the highest one.
    buffer: u64,
    /// Bits in the buffer.
    count: u32,
    /// Bits at its end that aren't from the data.
    padding: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Bits<'a> {
        Bits { data, at: 0, buffer: 0, count: 0, padding: 0 }
    }

    /// At least 32 bits, enough for a code and the number that follows it.
    #[inline]
    fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(next) = self.data.get(self.at..).and_then(|rest| rest.first_chunk::<4>())
            && !next.contains(&0xff)
        {
            self.buffer |= u64::from(u32::from_be_bytes(*next)) << (32 - self.count);
            (self.at, self.count) = (self.at + 4, self.count + 32);
            return;
        }
        while self.count < 32 {
            let byte = match self.data.get(self.at..) {
                Some([0xff, 0, ..]) => {
                    self.at += 2;
                    0xff
                }
                Some([byte, ..]) if *byte != 0xff => {
                    self.at += 1;
                    *byte
                }
                // A marker, or the end.
                _ => {
                    self.padding += 8;
                    0
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline]
    fn peek(&self, count: u32) -> u32 {
        (self.buffer >> (64 - count)) as u32
    }

    #[inline]
    pub(super) fn skip(&mut self, count: u32) {
        self.buffer <<= count;
        self.count -= count;
    }

    /// A number of `count` bits, as JPEG writes it: negative ones begin with 0.
    pub(super) fn signed(&mut self, count: u32) -> i32 {
        if count == 0 {
            return 0;
        }
        let value = self.peek(count) as i32;
        self.skip(count);
        if value < 1 << (count - 1) { value - (1 << count) + 1 } else { value }
    }

    /// None if more bits were read than there are before the next marker.
    pub(super) fn within(&self) -> Option<()> {
        (self.padding <= self.count).then_some(())
    }

    /// The marker here; none if data is left before it, or was read beyond it.
    fn marker(&self) -> Option<u8> {
        let left = self.count.checked_sub(self.padding)?;
        match self.data.get(self.at..)? {
            [0xff, marker, ..] if left < 8 && *marker != 0 => Some(*marker),
            _ => None,
        }
    }

    pub(super) fn restart(&mut self, number: u8) -> Option<()> {
        (self.marker()? == 0xd0 + number).then_some(())?;
        (self.at, self.buffer, self.count, self.padding) = (self.at + 2, 0, 0, 0);
        Some(())
    }

    pub(super) fn end(&self) -> Option<()> {
        (self.marker()? == 0xd9).then_some(())
    }
}
