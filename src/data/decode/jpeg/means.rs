//! The mean color of each 8 x 8 block of a baseline JPEG. A block begins with its mean; everything
//! else is skipped bit by bit, without a transform, so this takes a fraction of the time of
//! decoding. Only files without any irregularity are read; all others are left to the decoder.

use super::huffman::{Bits, Codes};
use super::{check_size, segments};
use crate::data::resize::Pixels;
use std::rc::Rc;

/// An eighth of an image.
pub(in crate::data::decode) struct Means {
    /// One pixel for each block; at the right and bottom edge, blocks may go beyond the image.
    pub pixels: Pixels,
    /// Width of the image itself.
    pub width: u32,
    /// Height of the image itself.
    pub height: u32,
}

/// The means of a JPEG whose sides have at least `least` pixels. None if it isn't a regular
/// baseline JPEG of gray or YCbCr in one scan.
pub(in crate::data::decode) fn means(bytes: &[u8], least: u32) -> Option<Means> {
    let header = Header::read(bytes)?;
    let is_large = header.width.min(header.height) >= least;
    (is_large && check_size(header.width, header.height).is_ok()).then_some(())?;
    let planes = header.planes(bytes.get(header.scan..)?)?;
    Some(header.to_pixels(&planes))
}

struct Header {
    width: u32,
    height: u32,
    /// One or three.
    components: Vec<Component>,
    /// Blocks of luma in a unit of coding, along each side: 1 or 2. One of each other component.
    units: [u32; 2],
    /// Units between two restart markers; 0 without any.
    restart: u32,
    /// Where the coded data begins.
    scan: usize,
}

struct Component {
    /// The quantization of the means.
    step: i32,
    means: Rc<Codes>,
    others: Rc<Codes>,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Header> {
        let mut steps = [None; 4];
        let mut codes: [[Option<Rc<Codes>>; 4]; 2] = Default::default();
        let (mut frame, mut restart, mut end) = (None, 0, 2);
        for (marker, content) in segments(bytes) {
            end += content.len() + 4;
            match marker {
                0xdb => read_steps(content, &mut steps)?,
                0xc4 => read_codes(content, &mut codes)?,
                0xc0 | 0xc1 if frame.is_none() => frame = Some(content),
                0xc0..=0xcf => return None,
                0xdd => restart = u32::from(u16::from_be_bytes(content.try_into().ok()?)),
                // Adobe's, with a transform other than YCbCr.
                0xee if content.starts_with(b"Adobe") && content.get(11) != Some(&1) => {
                    return None;
                }
                _ => {}
            }
        }
        let frame = Frame::read(frame?)?;
        let (selected, scan) = read_scan(bytes.get(end..)?)?;
        (selected.len() == frame.components.len()).then_some(())?;
        let mut components = Vec::new();
        for (&(id, quantization), (selected, [means, others])) in
            frame.components.iter().zip(selected)
        {
            (id == selected).then_some(())?;
            components.push(Component {
                step: (*steps.get(quantization)?)?,
                means: codes[0].get(means)?.clone()?,
                others: codes[1].get(others)?.clone()?,
            });
        }
        let Frame { width, height, units, .. } = frame;
        Some(Header { width, height, components, units, restart, scan: end + scan })
    }

    /// Units along each side.
    fn count(&self) -> [u32; 2] {
        [self.width.div_ceil(8 * self.units[0]), self.height.div_ceil(8 * self.units[1])]
    }

    /// The means of each component, row by row; those of luma over all its blocks.
    fn planes(&self, data: &[u8]) -> Option<Vec<Vec<u8>>> {
        let [across, down] = self.count();
        let [wide, high] = self.units;
        let mut planes: Vec<Vec<u8>> = vec![vec![0; (across * wide * down * high) as usize]];
        planes.resize(self.components.len(), vec![0; (across * down) as usize]);
        let mut bits = Bits::new(data);
        let mut last = [0i32; 3];
        for unit in 0..across * down {
            if self.restart > 0 && unit > 0 && unit % self.restart == 0 {
                bits.restart((unit / self.restart - 1) as u8 % 8)?;
                last = [0; 3];
            }
            let (row, column) = (unit / across, unit % across);
            for block in 0..wide * high {
                let (y, x) = (row * high + block / wide, column * wide + block % wide);
                planes[0][(y * across * wide + x) as usize] =
                    self.components[0].mean(&mut bits, &mut last[0])?;
            }
            for (at, component) in self.components.iter().enumerate().skip(1) {
                planes[at][unit as usize] = component.mean(&mut bits, &mut last[at])?;
            }
            bits.within()?;
        }
        bits.end()?;
        Some(planes)
    }

    fn to_pixels(&self, planes: &[Vec<u8>]) -> Means {
        let [width, height] = [self.width.div_ceil(8), self.height.div_ceil(8)];
        let [across, _] = self.count();
        let [wide, high] = self.units;
        let mut bytes = Vec::with_capacity((width * height) as usize * planes.len());
        for y in 0..height {
            for x in 0..width {
                let luma = planes[0][(y * across * wide + x) as usize];
                let unit = (y / high * across + x / wide) as usize;
                match planes {
                    [_, blue, red] => bytes.extend(to_rgb([luma, blue[unit], red[unit]])),
                    _ => bytes.push(luma),
                }
            }
        }
        let pixels = Pixels { bytes, width, height, channels: planes.len() };
        Means { pixels, width: self.width, height: self.height }
    }
}

/// JFIF's conversion.
fn to_rgb([luma, blue, red]: [u8; 3]) -> [u8; 3] {
    let (luma, blue, red) = (f32::from(luma), f32::from(blue) - 128.0, f32::from(red) - 128.0);
    // The conversion rounds down, and what is out of range to its end.
    [luma + 1.402 * red, luma - 0.344_136 * blue - 0.714_136 * red, luma + 1.772 * blue]
        .map(|level| (level + 0.5) as u8)
}

struct Frame {
    width: u32,
    height: u32,
    /// Id and quantization table of each.
    components: Vec<(u8, usize)>,
    units: [u32; 2],
}

impl Frame {
    fn read(content: &[u8]) -> Option<Frame> {
        let &[8, h1, h0, w1, w0, count, ref rest @ ..] = content else { return None };
        let (fields, more) = rest.as_chunks::<3>();
        (more.is_empty() && fields.len() == usize::from(count)).then_some(())?;
        let factors: Vec<[u32; 2]> = fields
            .iter()
            .map(|[_, both, _]| [u32::from(both >> 4), u32::from(both & 15)])
            .collect();
        let units = match factors.as_slice() {
            // Blocks of a single component aren't grouped.
            [_] => [1, 1],
            [luma, [1, 1], [1, 1]] if luma.iter().all(|factor| (1..=2).contains(factor)) => *luma,
            _ => return None,
        };
        // Components named so hold red, green and blue.
        let is_rgb = fields.iter().map(|[id, ..]| *id).eq(*b"RGB");
        (!is_rgb).then_some(Frame {
            width: u32::from(u16::from_be_bytes([w1, w0])),
            height: u32::from(u16::from_be_bytes([h1, h0])),
            components: fields.iter().map(|[id, _, table]| (*id, usize::from(*table))).collect(),
            units,
        })
    }
}

/// Id of a component, and its tables of codes for means and others.
type Selected = Vec<(u8, [usize; 2])>;

/// The components of the scan and the length of its header.
fn read_scan(bytes: &[u8]) -> Option<(Selected, usize)> {
    let &[0xff, 0xda, high, low, count, ref rest @ ..] = bytes else { return None };
    let count = usize::from(count);
    let length = usize::from(u16::from_be_bytes([high, low]));
    // All coefficients at once, as in every baseline scan.
    (length == 6 + 2 * count && rest.get(2 * count..2 * count + 3)? == [0, 63, 0]).then_some(())?;
    let (pairs, _) = rest.get(..2 * count)?.as_chunks::<2>();
    let selected =
        pairs.iter().map(|[id, tables]| (*id, [tables >> 4, tables & 15].map(usize::from)));
    Some((selected.collect(), 2 + length))
}

fn read_steps(mut content: &[u8], steps: &mut [Option<i32>; 4]) -> Option<()> {
    while let [head, rest @ ..] = content {
        let (step, length) = match head >> 4 {
            0 => (i32::from(*rest.first()?), 64),
            1 => (i32::from(u16::from_be_bytes(*rest.first_chunk()?)), 128),
            _ => return None,
        };
        *steps.get_mut(usize::from(head & 15))? = (step > 0).then_some(step);
        content = rest.get(length..)?;
    }
    Some(())
}

fn read_codes(mut content: &[u8], codes: &mut [[Option<Rc<Codes>>; 4]; 2]) -> Option<()> {
    while let [head, rest @ ..] = content {
        let counts: &[u8; 16] = rest.first_chunk()?;
        let total = counts.iter().map(|&count| usize::from(count)).sum::<usize>();
        let symbols = rest.get(16..16 + total)?;
        let table = codes.get_mut(usize::from(head >> 4))?.get_mut(usize::from(head & 15))?;
        *table = Some(Codes::new(counts, symbols)?);
        content = rest.get(16 + total..)?;
    }
    Some(())
}

impl Component {
    /// The mean of the next block, in 0..=255. `last` is that of the block before.
    fn mean(&self, bits: &mut Bits, last: &mut i32) -> Option<u8> {
        let size = u32::from(self.means.next(bits)?);
        (size <= 11).then_some(())?;
        *last = last.checked_add(bits.signed(size))?;
        let sum = last.checked_mul(self.step)?;
        self.others.skip_block(bits)?;
        let level = sum.saturating_add(4).div_euclid(8) + 128;
        Some(level.clamp(0, 255) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::decode::{DecodeOptions, Note, decode, hostile, samples};
    use image::DynamicImage;
    use image::codecs::jpeg::JpegEncoder;
    use proptest::prelude::*;

    /// Half a level from rounding, and what colors beyond the range lose.
    fn compare(bytes: &[u8]) {
        let means = means(bytes, 1).unwrap();
        let full = decode(bytes, DecodeOptions::default()).unwrap().pixels;
        assert_eq!((means.width, means.height), (full.width, full.height));
        let channels = full.channels;
        assert_eq!(channels, means.pixels.channels);
        for (at, mean) in means.pixels.bytes.iter().enumerate() {
            let (block, channel) = (at / channels, at % channels);
            let (x, y) =
                (block as u32 % means.pixels.width * 8, block as u32 / means.pixels.width * 8);
            if x + 8 > full.width || y + 8 > full.height {
                continue;
            }
            let level = |dx, dy| {
                let pixel = ((y + dy) * full.width + x + dx) as usize;
                u32::from(full.bytes[pixel * channels + channel])
            };
            let sum: u32 = (0..64).map(|at| level(at % 8, at / 8)).sum();
            let distance = (f64::from(sum) / 64.0 - f64::from(*mean)).abs();
            assert!(distance < 4.0, "{distance} in channel {channel} of block {x}, {y}");
        }
    }

    #[test]
    fn means_are_those_of_the_decoded_blocks() {
        compare(&samples::jpeg(100, 61));
        let gray = samples::halves(77, 90);
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 80).encode_image(&gray).unwrap();
        compare(&bytes);
    }

    #[test]
    fn a_file_that_ends_early_or_has_more_is_left_to_the_decoder() {
        let bytes = samples::jpeg(64, 64);
        for length in 0..bytes.len() {
            assert!(means(&bytes[..length], 1).is_none(), "{length}");
        }
        assert!(means(&bytes, 65).is_none());
    }

    proptest! {
        #[test]
        fn a_damaged_file_never_panics_and_has_the_right_size(
            at in any::<prop::sample::Index>(), value in any::<u8>(), quality in 20u8..=100,
        ) {
            let image = DynamicImage::from(samples::halves(90, 70)).into_rgb8();
            let mut bytes = Vec::new();
            JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(&image).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = value;
            if let (Some(means), Ok(full)) = (means(&bytes, 1), decode(&bytes, DecodeOptions::default())) {
                prop_assert_eq!((means.width, means.height), (full.pixels.width, full.pixels.height));
            }
        }
    }

    #[test]
    fn irregular_files_are_left_to_the_decoder() {
        for (name, bytes) in hostile::all() {
            if means(&bytes, 1).is_some() {
                let full = decode(&bytes, DecodeOptions::default());
                let full = full.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(!full.notes.has(Note::Lenient) && !full.notes.has(Note::Damaged), "{name}");
            }
        }
    }
}
