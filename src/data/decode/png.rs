//! PNG, row by row: what a file that is cut short or damaged still has is decoded, and the pixels
//! that it lacks are counted. A checksum that is wrong makes a file a damaged one.

use super::buffers::{of_bytes, of_words};
use super::orientation::orientation;
use super::{CUT_SHORT, Decoded, MAX_ALLOCATION, Note, Notes, check_size, one_line};
use image::DynamicImage;
use png::{BitDepth, DecodingError, InterlaceInfo, Limits, Transformations};
use std::io::{Cursor, ErrorKind};

/// The value of missing pixels.
const FILL: u8 = 128;

struct Rows {
    image: DynamicImage,
    /// Pixels that were decoded.
    decoded: u64,
    /// Why not all were.
    error: Option<DecodingError>,
}

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    let mut notes = Notes::default();
    let mut fault = None;
    let mut rows = rows(bytes, false);
    if rows.as_ref().map_or(true, |rows| rows.error.is_some()) {
        notes.add(Note::Lenient);
        let decoded = rows.as_ref().map_or(0, |rows| rows.decoded);
        let lenient = self::rows(bytes, true).ok().filter(|lenient| lenient.decoded >= decoded);
        if let Some(lenient) = lenient {
            if lenient.error.is_none() {
                fault = Some("a checksum in it is wrong");
            }
            rows = Ok(lenient);
        }
    }
    let rows = rows?;
    let missing = u64::from(rows.image.width()) * u64::from(rows.image.height()) - rows.decoded;
    if rows.decoded == 0 {
        let reason = rows.error.map_or_else(String::new, reason);
        return Err(format!("none of its rows can be decoded: {reason}"));
    }
    let (exif, xmp) = metadata(bytes);
    Ok(Decoded { image: rows.image, orientation: orientation(exif, xmp), missing, fault, notes })
}

fn rows(bytes: &[u8], lenient: bool) -> Result<Rows, String> {
    let limits = Limits { bytes: MAX_ALLOCATION as usize };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::EXPAND);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.ignore_checksums(lenient);
    let header = decoder.read_header_info().map_err(reason)?;
    let (width, height) = (header.width, header.height);
    check_size(width, height)?;
    let mut reader = decoder.read_info().map_err(reason)?;
    let (color, depth) = reader.output_color_type();
    let size = reader.output_buffer_size().ok_or("it is too large")?;
    let stride = reader.output_line_size(width).ok_or("it is too large")?;
    let mut pixels = vec![FILL; size];
    let bits = (color.samples() * depth as usize) as u8;
    let mut decoded = 0;
    let error = loop {
        match reader.next_interlaced_row() {
            Ok(None) => break None,
            Err(error) => break Some(error),
            Ok(Some(row)) => match row.interlace() {
                InterlaceInfo::Null(_) => {
                    let start = (decoded / u64::from(width)) as usize * stride;
                    let Some(out) = pixels.get_mut(start..start + stride) else { break None };
                    out.copy_from_slice(row.data());
                    decoded += u64::from(width);
                }
                InterlaceInfo::Adam7(pass) => {
                    png::expand_interlaced_row(&mut pixels, stride, row.data(), pass, bits);
                    decoded += row.data().len() as u64 * 8 / u64::from(bits.max(1));
                }
            },
        }
    };
    let whole = u64::from(width) * u64::from(height);
    // Damage behind the last row isn't damage to the image.
    let error = error.filter(|error| decoded < whole || is_damage(error));
    let channels = color.samples();
    let image = if depth == BitDepth::Sixteen {
        let words = pixels.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        of_words(words.collect(), width, height, channels)
    } else {
        of_bytes(pixels, width, height, channels)
    };
    let image = image.ok_or("its decoded size differs from its header")?;
    Ok(Rows { image, decoded: decoded.min(whole), error })
}

fn reason(error: DecodingError) -> String {
    match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            CUT_SHORT.to_owned()
        }
        other => one_line(&other.to_string()),
    }
}

/// Whether an error behind the last row says that the rows themselves may be wrong.
fn is_damage(error: &DecodingError) -> bool {
    !matches!(error, DecodingError::IoError(_))
}

/// The EXIF and the XMP chunk, wherever they are.
fn metadata(bytes: &[u8]) -> (Option<&[u8]>, Option<&[u8]>) {
    let (mut exif, mut xmp, mut at) = (None, None, 8);
    while let Some(start) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([start[0], start[1], start[2], start[3]]) as usize;
        let Some(content) = bytes.get(at + 8..(at + 8).saturating_add(length)) else { break };
        match &start[4..] {
            b"eXIf" => exif = exif.or(Some(content)),
            b"iTXt" if content.starts_with(b"XML:com.adobe.xmp\0\0") => xmp = Some(content),
            _ => {}
        }
        at += length + 12;
    }
    (exif, xmp)
}
