//! WebP, of an animation the first frame. The decoder needs the whole file: one that is cut short
//! is decoded with two different fillings, and the rows in which the results differ are the missing
//! ones.

use super::orientation::orientation;
use super::{Decoded, MAX_ALLOCATION, Note, Notes, check_size, one_line};
use image::{DynamicImage, ImageBuffer};
use image_webp::WebPDecoder;
use std::borrow::Cow;
use std::io::Cursor;

/// The longest filling: a file can declare 4 GB.
const MAX_FILLING: usize = 64 << 20;

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    let declared = bytes.get(4..8).and_then(|length| length.try_into().ok());
    let declared = declared.map_or(0, |length| u32::from_le_bytes(length) as usize + 8);
    if declared <= bytes.len() {
        return decode_whole(bytes);
    }
    let missing = declared - bytes.len();
    let cut = format!("it is cut short: it has {} of {declared} bytes", bytes.len());
    if missing > MAX_FILLING {
        return Err(cut);
    }
    let filled = |fill: u8| {
        let mut whole = bytes.to_vec();
        whole.resize(declared, fill);
        decode_whole(&whole).map_err(|_| cut.clone())
    };
    // Not 0xff, which decoders refuse.
    let (mut decoded, other) = (filled(0)?, filled(0x55)?);
    decoded.notes.add(Note::Lenient);
    let row = decoded.image.as_bytes().len() / (decoded.image.height() as usize).max(1);
    let rows = |image: &DynamicImage| -> Vec<Vec<u8>> {
        image.as_bytes().chunks_exact(row.max(1)).map(<[u8]>::to_vec).collect()
    };
    let pairs: Vec<bool> =
        rows(&decoded.image).iter().zip(rows(&other.image)).map(|(a, b)| *a == b).collect();
    let present = pairs.iter().take_while(|&&same| same).count();
    decoded.missing =
        (u64::from(decoded.image.height()) - present as u64) * u64::from(decoded.image.width());
    if present == 0 {
        return Err(cut);
    }
    Ok(decoded)
}

fn decode_whole(bytes: &[u8]) -> Result<Decoded, String> {
    let failed = |error: image_webp::DecodingError| one_line(&error.to_string());
    let mut decoder = WebPDecoder::new(Cursor::new(Cow::Borrowed(bytes))).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    decoder.set_memory_limit(MAX_ALLOCATION as usize);
    let size = decoder.output_buffer_size().ok_or("it is too large")?;
    let mut pixels = vec![0; size];
    decoder.read_image(&mut pixels).map_err(failed)?;
    let exif = decoder.exif_metadata().ok().flatten();
    let xmp = decoder.xmp_metadata().ok().flatten();
    let image = if decoder.has_alpha() {
        ImageBuffer::from_raw(width, height, pixels).map(DynamicImage::ImageRgba8)
    } else {
        ImageBuffer::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
    };
    Ok(Decoded {
        image: image.ok_or("its decoded size differs from its header")?,
        orientation: orientation(exif.as_deref(), xmp.as_deref()),
        missing: 0,
        fault: None,
        notes: Notes::default(),
    })
}
