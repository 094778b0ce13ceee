//! The first frame of a GIF, on its screen as Pillow lays it: the rest is transparent, or has the
//! palette's first color.

use super::{CUT_SHORT, Decoded, MAX_ALLOCATION, Note, Notes, check_size, one_line};
use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};
use image::metadata::Orientation;
use image::{DynamicImage, Rgba, RgbaImage};
use std::num::NonZeroU64;

struct Frame {
    /// Indices into the palette; `None` where the file has none.
    indices: Vec<Option<u8>>,
    palette: Vec<u8>,
    transparent: Option<u8>,
    left: u32,
    top: u32,
    width: u32,
    screen: [u32; 2],
    /// Why the frame isn't complete.
    error: Option<String>,
}

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    let frame = frame(bytes)?;
    let missing = frame.indices.iter().filter(|index| index.is_none()).count();
    if missing == frame.indices.len() {
        let reason = frame.error.unwrap_or_default();
        return Err(format!("none of its rows can be decoded: {reason}"));
    }
    let mut notes = Notes::default();
    if frame.error.is_some() {
        notes.add(Note::Lenient);
    }
    let image = DynamicImage::ImageRgba8(composed(&frame));
    // A share of the frame's pixels, as one of the image's.
    let all = u64::from(image.width()) * u64::from(image.height());
    let missing = missing as u64 * all / frame.indices.len() as u64;
    Ok(Decoded { image, orientation: Orientation::NoTransforms, missing, fault: None, notes })
}

fn frame(bytes: &[u8]) -> Result<Frame, String> {
    // Pixels that differ between two fillings of the buffer are the ones that weren't decoded.
    let [(mut first, dark), (_, light)] = [0, 0xff].map(|fill| filled(bytes, fill));
    first.as_mut().map_err(|reason| reason.clone())?;
    let mut frame = first?;
    let pairs = dark.into_iter().zip(light);
    frame.indices = pairs.map(|(dark, light)| (dark == light).then_some(dark)).collect();
    Ok(frame)
}

/// The frame without its pixels, and these in a buffer that was filled before.
fn filled(bytes: &[u8], fill: u8) -> (Result<Frame, String>, Vec<u8>) {
    let mut pixels = Vec::new();
    let frame = read(bytes, fill, &mut pixels);
    (frame, pixels)
}

fn read(bytes: &[u8], fill: u8, pixels: &mut Vec<u8>) -> Result<Frame, String> {
    let failed = |error: DecodingError| match error {
        DecodingError::UnexpectedEof => CUT_SHORT.to_owned(),
        other => one_line(&other.to_string()),
    };
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.allow_unknown_blocks(true);
    if let Some(limit) = NonZeroU64::new(MAX_ALLOCATION) {
        options.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    let mut decoder = options.read_info(bytes).map_err(failed)?;
    let screen = [decoder.width(), decoder.height()].map(u32::from);
    let info = decoder.next_frame_info().map_err(failed)?.ok_or("it has no frame")?;
    let [left, top, width, height] = [info.left, info.top, info.width, info.height].map(u32::from);
    let transparent = info.transparent;
    let screen = [screen[0].max(left + width), screen[1].max(top + height)];
    check_size(screen[0], screen[1])?;
    check_size(width, height)?;
    pixels.resize(width as usize * height as usize, fill);
    let error = decoder.read_into_buffer(pixels).err().map(failed);
    let palette = decoder.palette().unwrap_or_default().to_vec();
    Ok(Frame { indices: Vec::new(), palette, transparent, left, top, width, screen, error })
}

fn composed(frame: &Frame) -> RgbaImage {
    let color = |index: u8| {
        let gray = [index; 3];
        let start = usize::from(index) * 3;
        // A file without a palette is gray, as in Pillow; an index outside of it is black.
        let rgb = match frame.palette.get(start..start + 3) {
            Some(rgb) => rgb,
            None if frame.palette.is_empty() => &gray,
            None => &[0; 3],
        };
        let alpha = if frame.transparent == Some(index) { 0 } else { 255 };
        Rgba([rgb[0], rgb[1], rgb[2], alpha])
    };
    let around = color(frame.transparent.unwrap_or(0));
    let mut image = RgbaImage::from_pixel(frame.screen[0], frame.screen[1], around);
    for (row, line) in (frame.top..).zip(frame.indices.chunks_exact(frame.width as usize)) {
        for (column, index) in (frame.left..).zip(line) {
            let pixel = index.map_or(Rgba([128, 128, 128, 255]), color);
            image.put_pixel(column, row, pixel);
        }
    }
    image
}
