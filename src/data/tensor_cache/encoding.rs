//! How the pixels of a record are stored: as they are, or as JPEG where that is smaller. The same
//! pixels give the same bytes on every machine.

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// Raised whenever the same pixels become other JPEG bytes, so that earlier records aren't copied.
const ENCODER: u32 = 1;

/// How a tensor cache stores its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Storage {
    /// The pixels as they are.
    #[default]
    Raw,
    /// JPEG of this quality, 1 to 100, with the color at half the resolution (4:2:0). A record that
    /// wouldn't be smaller is stored as it is.
    Jpeg { quality: u8 },
}

/// How a record is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Raw = 0,
    Jpeg = 1,
}

impl Storage {
    /// Bytes of a record with this side in pixels: exactly, or about as many as photographs take.
    pub fn estimated_bytes(self, side: u32) -> u64 {
        let pixels = u64::from(side) * u64::from(side);
        match self {
            Storage::Raw => 3 * pixels,
            Storage::Jpeg { quality } => (pixels as f64 * bytes_per_pixel(quality)) as u64,
        }
    }

    /// Its part of the fingerprint of records; empty for raw ones.
    pub(super) fn fingerprint(self) -> String {
        match self {
            Storage::Raw => String::new(),
            Storage::Jpeg { quality } => format!(" jpeg {ENCODER} {quality}"),
        }
    }

    /// A record of `size * size * 3` bytes of RGB as it is stored.
    pub(super) fn encode(self, pixels: Vec<u8>, size: u32) -> (Encoding, Vec<u8>) {
        match self {
            Storage::Raw => (Encoding::Raw, pixels),
            Storage::Jpeg { quality } => match jpeg(&pixels, size, quality) {
                Some(jpeg) if jpeg.len() < pixels.len() => (Encoding::Jpeg, jpeg),
                _ => (Encoding::Raw, pixels),
            },
        }
    }
}

/// Of photographs with much detail, about, by quality; of smooth ones it is half as much.
fn bytes_per_pixel(quality: u8) -> f64 {
    const USUAL: [(f64, f64); 5] =
        [(1.0, 0.04), (50.0, 0.13), (75.0, 0.2), (95.0, 0.5), (100.0, 1.2)];
    let quality = f64::from(quality.clamp(1, 100));
    let above = USUAL.iter().position(|(at, _)| *at >= quality).unwrap_or(4).max(1);
    let ((from, low), (to, high)) = (USUAL[above - 1], USUAL[above]);
    low + (high - low) * (quality - from) / (to - from)
}

/// None if the encoder can't take an image of this size.
fn jpeg(pixels: &[u8], size: u32, quality: u8) -> Option<Vec<u8>> {
    let side = u16::try_from(size).ok()?;
    let mut bytes = Vec::with_capacity(pixels.len() / 4);
    let mut encoder = Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(pixels, side, side, ColorType::Rgb).ok()?;
    Some(bytes)
}

impl Encoding {
    pub(super) fn numbered(number: u32) -> Option<Encoding> {
        [Encoding::Raw, Encoding::Jpeg].into_iter().find(|one| *one as u32 == number)
    }

    /// The pixels of a stored record: `size * size * 3` bytes of RGB. The error is a reason.
    pub(super) fn pixels(self, stored: &[u8], size: usize) -> Result<Cow<'_, [u8]>, String> {
        match self {
            Encoding::Raw => Ok(Cow::Borrowed(stored)),
            Encoding::Jpeg => decode_jpeg(stored, size).map(Cow::Owned),
        }
    }
}

/// The pixels of a JPEG record: `size * size * 3` bytes of RGB. The error is a reason.
fn decode_jpeg(bytes: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(size)
        .set_max_height(size)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().map_err(|error| format!("{error:?}"))?;
    if decoder.dimensions() != Some((size, size)) || pixels.len() != size * size * 3 {
        return Err("it has another size".to_owned());
    }
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use crate::store::Digest;

    /// A smooth square with a little noise.
    fn square(size: u32) -> Vec<u8> {
        let mut stream = Stream::new(1, "square", &[u64::from(size)]);
        let level = |at: u32| (at * 255 / size.max(1)) as u8 / 2;
        let pixels = (0..size * size).flat_map(|at| {
            let grain = (stream.bits() & 7) as u8;
            [level(at % size) + grain, level(at / size) + grain, 90 + grain]
        });
        pixels.collect()
    }

    #[test]
    fn jpeg_records_are_smaller_close_and_always_the_same_bytes() {
        let pixels = square(64);
        let (encoding, bytes) = Storage::Jpeg { quality: 95 }.encode(pixels.clone(), 64);
        assert_eq!(encoding, Encoding::Jpeg);
        assert!(bytes.len() * 3 < pixels.len(), "{}", bytes.len());
        let decoded = decode_jpeg(&bytes, 64).unwrap();
        let far = pixels.iter().zip(&decoded).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(far.unwrap() <= 16, "{far:?}");
        // Another digest means another `ENCODER`.
        assert_eq!(Digest::of(&bytes).short(), "d905a54e1963");
    }

    #[test]
    fn noise_and_tiny_records_are_stored_as_they_are() {
        let mut stream = Stream::new(1, "noise", &[]);
        let noise: Vec<u8> = (0..16 * 16 * 3).map(|_| stream.bits() as u8).collect();
        for (pixels, size) in [(noise, 16), (square(8), 8)] {
            let (encoding, bytes) = Storage::Jpeg { quality: 95 }.encode(pixels.clone(), size);
            assert!(encoding == Encoding::Raw && bytes == pixels, "{size}");
        }
    }

    #[test]
    fn a_cut_record_or_one_of_another_size_is_refused() {
        let (_, bytes) = Storage::Jpeg { quality: 95 }.encode(square(32), 32);
        assert!(decode_jpeg(&bytes, 32).is_ok());
        assert!(decode_jpeg(&bytes, 31).is_err() && decode_jpeg(&bytes, 33).is_err());
        for length in 0..bytes.len() / 2 {
            assert!(decode_jpeg(&bytes[..length], 32).is_err(), "{length}");
        }
    }
}
