//! Numbers in a file whose byte order its header declares. Everything outside the file is `None`.

/// The order of a number's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    fn array<const N: usize>(self, bytes: &[u8], at: usize) -> Option<[u8; N]> {
        let mut array: [u8; N] = bytes.get(at..at.checked_add(N)?)?.try_into().ok()?;
        // As little-endian from here on.
        if self == Order::Big {
            array.reverse();
        }
        Some(array)
    }

    pub(super) fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        self.array(bytes, at).map(u16::from_le_bytes)
    }

    pub(super) fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        self.array(bytes, at).map(u32::from_le_bytes)
    }

    pub(super) fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        self.array(bytes, at).map(u64::from_le_bytes)
    }

    /// The value of a tag with one value of a numeric TIFF type, whose field is at `at` in a
    /// directory of classic TIFF: values of more than 4 bytes are elsewhere.
    pub(super) fn number(self, bytes: &[u8], kind: u16, at: usize) -> Option<f64> {
        let at = match length(kind)? {
            1..=4 => at,
            _ => self.u32(bytes, at)? as usize,
        };
        self.number_at(bytes, kind, at)
    }

    /// A number of a TIFF type at its position.
    pub(super) fn number_at(self, bytes: &[u8], kind: u16, at: usize) -> Option<f64> {
        let quotient = |above: f64, below: f64| (below != 0.0).then(|| above / below);
        Some(match kind {
            1 | 7 => f64::from(*bytes.get(at)?),
            3 => f64::from(self.u16(bytes, at)?),
            4 | 13 => f64::from(self.u32(bytes, at)?),
            5 => {
                quotient(self.u32(bytes, at)?.into(), self.u32(bytes, at.checked_add(4)?)?.into())?
            }
            6 => f64::from(*bytes.get(at)? as i8),
            8 => f64::from(self.u16(bytes, at)? as i16),
            9 => f64::from(self.u32(bytes, at)? as i32),
            10 => {
                let below = self.u32(bytes, at.checked_add(4)?)? as i32;
                quotient((self.u32(bytes, at)? as i32).into(), below.into())?
            }
            11 => f64::from(f32::from_bits(self.u32(bytes, at)?)),
            12 => f64::from_bits(self.u64(bytes, at)?),
            16 | 18 => self.u64(bytes, at)? as f64,
            17 => self.u64(bytes, at)? as i64 as f64,
            _ => return None,
        })
    }
}

/// Bytes of one value of a numeric TIFF type.
pub(super) fn length(kind: u16) -> Option<usize> {
    Some(match kind {
        1 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => return None,
    })
}
