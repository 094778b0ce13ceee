//! JPEG: strict first. What only decodes leniently is noted, and the rows at its end that the file
//! doesn't contain are counted.

mod huffman;
mod means;
mod missing;
mod segments;

pub(super) use means::means;

use super::orientation::orientation;
use super::{CUT_SHORT, Decoded, Note, Notes, check_size, one_line};
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use segments::segments;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

/// The `image` crate uses the same decoder in lenient mode only and doesn't report truncated files.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    if let Some(process) = unsupported(bytes) {
        return Err(format!(
            "it is {process} JPEG, which isn't supported: save it as baseline JPEG"
        ));
    }
    // The decoder reads zeros behind an end marker; without one it notices that rows are missing.
    let endless = segments::without_end(bytes);
    let data = endless.as_deref().unwrap_or(bytes);
    let mut decoded = match decode_once(data, true) {
        // The strict decoder doesn't mind a file that ends within the last block.
        Ok(decoded) if !missing::is_cut_short(bytes) => return Ok(decoded),
        Ok(decoded) => decoded,
        Err(reason) => decode_leniently(data).ok_or(reason)?,
    };
    decoded.notes.add(Note::Lenient);
    let rows = missing::rows(&decoded.image, bytes);
    decoded.missing = rows * u64::from(decoded.image.width());
    Ok(decoded)
}

/// Decodes as much of a damaged file as possible.
fn decode_leniently(bytes: &[u8]) -> Option<Decoded> {
    let decoded = decode_once(bytes, false);
    // The decoder wants whole segments between scans and an end.
    decoded.or_else(|_| decode_once(&segments::completed(bytes), false)).ok()
}

fn decode_once(bytes: &[u8], strict: bool) -> Result<Decoded, String> {
    let options = DecoderOptions::default()
        .set_strict_mode(strict)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(reason)?;
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
    let pixels = decoder.decode().map_err(reason)?;
    let image = if is_gray {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
    };
    let image = image.ok_or("its decoded size differs from its header")?;
    Ok(Decoded { image, orientation: orientation_of(bytes), missing: 0, fault: None, notes })
}

/// The orientation by the metadata.
pub(super) fn orientation_of(bytes: &[u8]) -> Orientation {
    let (exif, xmp) = metadata(bytes);
    orientation(exif, xmp)
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

/// Why a file can't be decoded, as what is wrong with it.
fn reason(error: DecodeErrors) -> String {
    match error {
        DecodeErrors::IoErrors(_) | DecodeErrors::ExhaustedData => CUT_SHORT.to_owned(),
        DecodeErrors::ZeroError => "it has no pixels".to_owned(),
        DecodeErrors::DqtError(_) => "a quantization table is damaged or missing".to_owned(),
        DecodeErrors::HuffmanDecode(_) => "a Huffman table is damaged or missing".to_owned(),
        DecodeErrors::SofError(_) => "its frame header is damaged".to_owned(),
        DecodeErrors::SosError(_) => "the header of a scan is damaged".to_owned(),
        DecodeErrors::MCUError(_) => "its compressed data is damaged".to_owned(),
        other => one_line(&format!("{other:?}")),
    }
}
