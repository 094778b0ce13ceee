//! JPEG: strict first. What only decodes leniently is noted, and the rows at its end that the file
//! doesn't contain are counted.

use super::orientation::orientation;
use super::{Decoded, MAX_SIDE, Note, Notes, check_size, one_line};
use image::{DynamicImage, GrayImage, RgbImage};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// The value with which a decoder fills missing rows.
const FILL: u8 = 128;

/// The `image` crate uses the same decoder in lenient mode only and doesn't report truncated files.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    if let Some(process) = unsupported(bytes) {
        return Err(format!(
            "it is {process} JPEG, which isn't supported: save it as baseline JPEG"
        ));
    }
    let strict = decode_once(bytes, true);
    // The strict decoder doesn't mind a file that ends within the last block.
    if strict.is_ok() && !is_cut_short(bytes) {
        return strict;
    }
    strict.or_else(|strict| decode_once(bytes, false).map_err(|_| strict)).map(|mut decoded| {
        decoded.notes.add(Note::Lenient);
        decoded.missing = missing_rows(&decoded.image, bytes) * u64::from(decoded.image.width());
        decoded
    })
}

fn decode_once(bytes: &[u8], strict: bool) -> Result<Decoded, String> {
    let options = DecoderOptions::default()
        .set_strict_mode(strict)
        .set_max_width(MAX_SIDE as usize)
        .set_max_height(MAX_SIDE as usize);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| one_line(&format!("{error:?}")))?;
    let (width, height) = decoder.dimensions().ok_or("it has no size")?;
    let (width, height) = (width as u32, height as u32);
    check_size(width, height)?;
    let mut notes = Notes::default();
    let is_gray = matches!(decoder.input_colorspace(), Some(ColorSpace::Luma | ColorSpace::LumaA));
    if matches!(decoder.input_colorspace(), Some(ColorSpace::CMYK | ColorSpace::YCCK)) {
        notes.add(Note::Cmyk);
    }
    let space = if is_gray { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(|error| one_line(&format!("{error:?}")))?;
    let image = if is_gray {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
    };
    let image = image.ok_or("its decoded size differs from its header")?;
    let (exif, xmp) = metadata(bytes);
    Ok(Decoded { image, orientation: orientation(exif, xmp), missing: 0, notes })
}

/// Rows that the file lacks: those at the end that have the color of missing ones, and the row of
/// blocks before them, in which the file ends. At least one of a file without an end.
fn missing_rows(image: &DynamicImage, bytes: &[u8]) -> u64 {
    let row = image.as_bytes().len() / (image.height() as usize).max(1);
    let rows = image.as_bytes().chunks_exact(row.max(1)).rev();
    let filled = rows.take_while(|row| row.iter().all(|&value| value == FILL)).count() as u64;
    match (filled, is_cut_short(bytes)) {
        (filled, false) => filled,
        (0, true) => 1,
        (filled, true) => {
            let (height, block) = (u64::from(image.height()), block_height(bytes));
            height - (height.saturating_sub(filled + 1)) / block * block
        }
    }
}

/// The height of a row of blocks in pixels: 8 times the largest vertical sampling factor.
fn block_height(bytes: &[u8]) -> u64 {
    let frame = segments(bytes).find(|(marker, _)| matches!(marker, 0xc0..=0xc2));
    let components = frame.and_then(|(_, content)| content.get(6..)).unwrap_or_default();
    let factors = components.chunks_exact(3).map(|component| u64::from(component[1] & 15));
    8 * factors.max().unwrap_or(1).clamp(1, 4)
}

/// Whether no end marker comes after the start of the first scan.
fn is_cut_short(bytes: &[u8]) -> bool {
    let has_pair = |part: &[u8], marker| part.windows(2).rposition(|two| two == [0xff, marker]);
    let header = 2 + segments(bytes).map(|(_, content)| content.len() + 4).sum::<usize>();
    has_pair(bytes.get(header..).unwrap_or_default(), 0xd9).is_none()
}

/// The segments before the first scan: marker and content.
fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut at = 2;
    std::iter::from_fn(move || {
        // Any number of fill bytes may come before a marker.
        while bytes.get(at) == Some(&0xff) && bytes.get(at + 1) == Some(&0xff) {
            at += 1;
        }
        let &[0xff, marker, high, low] = bytes.get(at..at + 4)? else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let content = bytes.get(at + 4..at + 2 + length)?;
        at += 2 + length;
        (marker != 0xda).then_some((marker, content))
    })
}

/// The EXIF and the XMP segment.
fn metadata(bytes: &[u8]) -> (Option<&[u8]>, Option<&[u8]>) {
    let application = |start: &[u8]| {
        let mut all = segments(bytes).filter(|(marker, _)| *marker == 0xe1);
        all.find_map(|(_, content)| content.starts_with(start).then_some(content))
    };
    (application(b"Exif\0\0"), application(b"http://ns.adobe.com/xap/1.0/\0"))
}

/// The coding process of a frame that isn't decoded.
fn unsupported(bytes: &[u8]) -> Option<&'static str> {
    segments(bytes).find_map(|(marker, content)| match (marker, content.first()) {
        (0xc3 | 0xc7 | 0xcb | 0xcf, _) => Some("a lossless"),
        (0xc5 | 0xc6 | 0xcd | 0xce, _) => Some("a hierarchical"),
        (0xc9 | 0xca, _) => Some("an arithmetic-coded"),
        (0xc0..=0xc2, Some(12)) => Some("a 12-bit"),
        (0xf7, _) => Some("a JPEG-LS, not a"),
        _ => None,
    })
}
