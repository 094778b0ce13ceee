//! BMP, decoded by the `image` crate. A file that is cut short is completed with zeros, and the
//! rows that it lacks are counted.

use super::bytes::Order::Little;
use super::{Decoded, MAX_ALLOCATION, MAX_SIDE, Note, Notes, check_size, one_line};
use image::codecs::bmp::BmpDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, Limits};
use std::io::Cursor;

/// The layout of the pixels, from the header.
struct Header {
    width: u64,
    height: u64,
    bits: u64,
    /// 1 or 2: run lengths.
    compression: u32,
    /// Where the pixels begin.
    start: u64,
}

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    let header = header(bytes).ok_or("its header is cut short")?;
    check_size(
        u32::try_from(header.width).unwrap_or(u32::MAX),
        u32::try_from(header.height).unwrap_or(u32::MAX),
    )?;
    let present = present_rows(bytes, &header);
    if present >= header.height {
        return decode_whole(bytes);
    }
    if present == 0 {
        return Err("none of its rows can be decoded: the file is cut short".into());
    }
    let length = header.start + header.height * row_bytes(&header);
    let mut whole = bytes.to_vec();
    if header.compression == 1 || header.compression == 2 {
        // The end of a bitmap of run lengths.
        whole.truncate(whole.len() & !1);
        whole.extend([0, 1, 0, 1]);
    } else {
        whole.resize(length as usize, 0);
    }
    let mut decoded = decode_whole(&whole)?;
    decoded.notes.add(Note::Lenient);
    decoded.missing = (header.height - present) * header.width;
    Ok(decoded)
}

fn header(bytes: &[u8]) -> Option<Header> {
    let (start, length) = (u64::from(Little.u32(bytes, 10)?), Little.u32(bytes, 14)?);
    if length == 12 {
        let [width, height, bits] = [18, 20, 24].map(|at| Little.u16(bytes, at).map(u64::from));
        return Some(Header { width: width?, height: height?, bits: bits?, compression: 0, start });
    }
    let side = |at| Little.u32(bytes, at).map(|side| u64::from((side as i32).unsigned_abs()));
    let (bits, compression) = (Little.u16(bytes, 28)?, Little.u32(bytes, 30)?);
    let (width, height) = (side(18)?, side(22)?);
    Some(Header { width, height, bits: bits.into(), compression, start })
}

/// Rows are padded to 4 bytes.
fn row_bytes(header: &Header) -> u64 {
    (header.width * header.bits).div_ceil(32) * 4
}

/// Number of rows that the file contains as a whole.
fn present_rows(bytes: &[u8], header: &Header) -> u64 {
    let data = bytes.get(header.start as usize..).unwrap_or_default();
    match header.compression {
        1 | 2 => rows_of_runs(data, header.compression == 2, header.height),
        // What other compressions contain is up to the decoder.
        0 | 3 | 6 => data.len() as u64 / row_bytes(header).max(1),
        _ => header.height,
    }
}

/// The rows of run-length coded data: pairs of count and value; 0, 0 ends a row, 0, 1 the bitmap.
fn rows_of_runs(data: &[u8], half: bool, height: u64) -> u64 {
    let (mut at, mut rows) = (0, 0);
    while rows < height {
        let Some(&[count, value]) = data.get(at..at + 2) else { return rows };
        at += 2;
        match (count, value) {
            (0, 0) => rows += 1,
            // What follows is empty on purpose.
            (0, 1) => return height,
            (0, 2) => {
                let Some(&[_, down]) = data.get(at..at + 2) else { return rows };
                at += 2;
                rows += u64::from(down);
            }
            (0, count) => {
                let length = if half { usize::from(count).div_ceil(2) } else { count.into() };
                at += length.next_multiple_of(2);
            }
            _ => {}
        }
    }
    rows
}

fn decode_whole(bytes: &[u8]) -> Result<Decoded, String> {
    let failed = |error: image::ImageError| one_line(&error.to_string());
    let mut decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOCATION);
    decoder.set_limits(limits).map_err(failed)?;
    let image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    let notes = Notes::default();
    Ok(Decoded { image, orientation: Orientation::NoTransforms, missing: 0, fault: None, notes })
}
