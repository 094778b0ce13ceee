//! The first directory of a TIFF or BigTIFF: its tags, and the layout of the image that they
//! declare. Offsets and counts are checked against the file before anything is allocated.

use crate::data::decode::bytes::{Order, length};
use crate::data::decode::check_size;
use std::collections::BTreeMap;

/// Longest list of numbers in a tag: strips of one row of the tallest image, in three planes.
const MAX_COUNT: u64 = 1 << 20;
/// Most samples per pixel.
const MAX_SAMPLES: usize = 16;

/// The tags of the first directory.
pub(super) struct Directory<'a> {
    bytes: &'a [u8],
    pub order: Order,
    entries: BTreeMap<u16, Entry>,
}

struct Entry {
    kind: u16,
    count: u64,
    /// Where the values are.
    at: usize,
}

/// The type of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleFormat {
    Unsigned,
    Signed,
    Float,
}

/// The size of strips or tiles, and the offset and length of each.
type Chunks = ([usize; 2], Vec<u64>, Vec<u64>);

/// The layout of the image as the directory declares it.
pub(super) struct Layout {
    pub width: usize,
    pub height: usize,
    /// Bits of a sample: 1, 2, 4, 8, 16, 32 or 64.
    pub bits: usize,
    pub format: SampleFormat,
    /// Samples of a pixel, in all planes.
    pub samples: usize,
    /// Number of planes: 1, or as many as samples.
    pub planes: usize,
    pub photometric: u64,
    pub compression: u64,
    pub predictor: u64,
    /// Whether the bits of each byte are reversed.
    pub reversed: bool,
    /// The meaning of each sample after the color: 1 premultiplied alpha, 2 alpha.
    pub extra: Vec<u64>,
    /// Width and height of a strip or tile.
    pub chunk: [usize; 2],
    pub offsets: Vec<u64>,
    /// Bytes of each chunk; empty if the file doesn't say.
    pub lengths: Vec<u64>,
    /// Pixels that share a chroma sample, across and down.
    pub subsampling: [usize; 2],
    /// Red, then green, then blue of every index.
    pub palette: Vec<u64>,
    pub orientation: Option<f64>,
}

impl<'a> Directory<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Directory<'a>, String> {
        let order = if bytes.starts_with(b"II") { Order::Little } else { Order::Big };
        let cut = "it is cut short: its directory lies behind its end";
        Directory::entries(bytes, order)
            .map(|entries| Directory { bytes, order, entries })
            .ok_or_else(|| cut.to_owned())
    }

    fn entries(bytes: &[u8], order: Order) -> Option<BTreeMap<u16, Entry>> {
        let is_big = order.u16(bytes, 2)? == 43;
        let at = |at| -> Option<usize> {
            if is_big {
                usize::try_from(order.u64(bytes, at)?).ok()
            } else {
                Some(order.u32(bytes, at)? as usize)
            }
        };
        let start = at(if is_big { 8 } else { 4 })?;
        let (count, first, step, field) = if is_big {
            (order.u64(bytes, start)?, start.checked_add(8)?, 20, 12)
        } else {
            (order.u16(bytes, start)?.into(), start.checked_add(2)?, 12, 8)
        };
        let mut entries = BTreeMap::new();
        for index in 0..usize::try_from(count.min(u64::from(u16::MAX))).ok()? {
            let entry = first.checked_add(index * step)?;
            let (tag, kind) = (order.u16(bytes, entry)?, order.u16(bytes, entry + 2)?);
            let count = if is_big {
                order.u64(bytes, entry + 4)?
            } else {
                order.u32(bytes, entry + 4)?.into()
            };
            let size = count.saturating_mul(length(kind).unwrap_or(1) as u64);
            let value = entry + field;
            let is_inline = size <= if is_big { 8 } else { 4 };
            // The field itself must be there; where it points may lie outside of the file.
            let at = if is_inline { Some(value) } else { at(value) };
            entries.entry(tag).or_insert(Entry { kind, count, at: at? });
        }
        Some(entries)
    }

    /// The values of a tag; empty if it is missing, damaged or no list of numbers.
    fn floats(&self, tag: u16) -> Vec<f64> {
        let Some(entry) = self.entries.get(&tag).filter(|entry| entry.count <= MAX_COUNT) else {
            return Vec::new();
        };
        let step = length(entry.kind).unwrap_or(1);
        let values = (0..entry.count as usize).map(|index| {
            let at = entry.at.checked_add(index * step)?;
            self.order.number_at(self.bytes, entry.kind, at)
        });
        values.map_while(|value| value).collect()
    }

    fn numbers(&self, tag: u16) -> Vec<u64> {
        self.floats(tag).into_iter().map(|value| value as u64).collect()
    }

    fn number(&self, tag: u16) -> Option<u64> {
        self.numbers(tag).first().copied()
    }

    pub(super) fn has(&self, tag: u16) -> bool {
        self.entries.contains_key(&tag)
    }

    /// The bytes of a tag.
    pub(super) fn data(&self, tag: u16) -> Option<&'a [u8]> {
        let entry = self.entries.get(&tag)?;
        let length = usize::try_from(entry.count).ok()?;
        self.bytes.get(entry.at..entry.at.checked_add(length)?)
    }

    /// The layout of the image, in itself without contradiction.
    pub(super) fn layout(&self) -> Result<Layout, String> {
        let side = |tag| u32::try_from(self.number(tag).unwrap_or(0)).unwrap_or(u32::MAX);
        let (width, height) = (side(256), side(257));
        check_size(width, height)?;
        let (width, height) = (width as usize, height as usize);
        let samples = self.number(277).unwrap_or(1) as usize;
        if !(1..=MAX_SAMPLES).contains(&samples) {
            return Err(format!("it declares {samples} samples per pixel; at most {MAX_SAMPLES}"));
        }
        let bits = self.numbers(258);
        let bits_per_sample = bits.first().copied().unwrap_or(1) as usize;
        if bits.iter().any(|&other| other as usize != bits_per_sample) {
            return Err("its samples have different numbers of bits".into());
        }
        if ![1, 2, 4, 8, 16, 32, 64].contains(&bits_per_sample) {
            return Err(format!("its samples have {bits_per_sample} bits: save it with 8 or 16"));
        }
        let format = self.sample_format(bits_per_sample)?;
        let (chunk, offsets, lengths) = self.chunks(width, height)?;
        let subsampling = match self.numbers(530).as_slice() {
            &[across, down] => [across as usize, down as usize],
            _ => [2, 2],
        };
        if subsampling.iter().any(|share| ![1, 2, 4].contains(share)) {
            return Err("its chroma subsampling is invalid".into());
        }
        Ok(Layout {
            width,
            height,
            bits: bits_per_sample,
            format,
            samples,
            planes: if self.number(284) == Some(2) { samples } else { 1 },
            photometric: self.number(262).ok_or("it doesn't say what its samples mean")?,
            compression: self.number(259).unwrap_or(1),
            predictor: self.number(317).unwrap_or(1),
            reversed: self.number(266) == Some(2),
            extra: self.numbers(338),
            chunk,
            offsets,
            lengths,
            subsampling,
            palette: self.numbers(320),
            orientation: self.floats(274).first().copied(),
        })
    }

    fn sample_format(&self, bits: usize) -> Result<SampleFormat, String> {
        Ok(match (self.number(339).unwrap_or(1), bits) {
            // 4 is undefined, and read as unsigned.
            (1 | 4, _) => SampleFormat::Unsigned,
            (2, 8..) => SampleFormat::Signed,
            (3, 16..) => SampleFormat::Float,
            (other, _) => return Err(format!("its samples have the unknown format {other}")),
        })
    }

    /// The size, offsets and lengths of strips or tiles.
    fn chunks(&self, width: usize, height: usize) -> Result<Chunks, String> {
        let (chunk, offsets, lengths) = if self.has(324) {
            let side = |tag| self.number(tag).unwrap_or(0) as usize;
            ([side(322), side(323)], 324, 325)
        } else {
            let rows = self.number(278).map_or(height, |rows| rows.min(height as u64) as usize);
            ([width, rows], 273, 279)
        };
        if chunk.contains(&0) || chunk[0] > 2 * width.max(4096) || chunk[1] > 2 * height.max(4096) {
            return Err("its strips or tiles have an invalid size".into());
        }
        let offsets = self.numbers(offsets);
        if offsets.is_empty() {
            return Err("it doesn't say where its pixels are".into());
        }
        Ok((chunk, offsets, self.numbers(lengths)))
    }
}
