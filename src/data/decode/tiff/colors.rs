//! From the samples of a TIFF to an image of 8 or 16 bits, by the meaning that its directory
//! declares.

use super::directory::{Layout, SampleFormat};
use super::{Samples, YCBCR};
use crate::data::decode::buffers::{of_bytes, of_words};
use crate::data::decode::{Note, Notes};
use image::DynamicImage;

const WHITE_IS_ZERO: u64 = 0;
const BLACK_IS_ZERO: u64 = 1;
const RGB: u64 = 2;
const PALETTE: u64 = 3;
const CMYK: u64 = 5;
/// Meaning of an extra sample.
const PREMULTIPLIED: u64 = 1;
const STRAIGHT: u64 = 2;
/// Corel's number for straight alpha.
const COREL: u64 = 999;

/// The meaning of a sample after the color.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alpha {
    None,
    Straight,
    Premultiplied,
}

/// Refuses colors that aren't decoded.
pub(super) fn check(layout: &Layout) -> Result<(), String> {
    let name = match layout.photometric {
        WHITE_IS_ZERO | BLACK_IS_ZERO | RGB | PALETTE | CMYK | YCBCR => {
            let colors = colors(layout);
            if layout.samples < colors {
                return Err(format!(
                    "its pixels have {} samples instead of {colors}",
                    layout.samples
                ));
            }
            return match (layout.photometric, layout.bits, layout.format) {
                (PALETTE, 1..=16, SampleFormat::Unsigned) => palette(layout),
                (PALETTE, ..) => Err("the indices of its palette have too many bits".into()),
                (CMYK | YCBCR, 8, SampleFormat::Unsigned) => Ok(()),
                (CMYK, ..) => Err("its CMYK samples don't have 8 bits: save it as RGB".into()),
                (YCBCR, ..) => Err("its YCbCr samples don't have 8 bits: save it as RGB".into()),
                _ => Ok(()),
            };
        }
        4 => "a mask",
        8..=10 => "in CIE L*a*b*",
        32_803 | 34_892 => "a camera's raw file",
        32_844 | 32_845 => "in LogLuv",
        other => {
            return Err(format!(
                "its photometric interpretation {other} isn't supported: save it as RGB"
            ));
        }
    };
    Err(format!("it is {name}, which isn't supported: save it as RGB"))
}

fn palette(layout: &Layout) -> Result<(), String> {
    let expected = 3usize << layout.bits;
    if layout.palette.len() < expected {
        let found = layout.palette.len();
        return Err(format!("its palette has {found} values instead of {expected}"));
    }
    Ok(())
}

/// Number of samples that are color.
fn colors(layout: &Layout) -> usize {
    match layout.photometric {
        RGB | YCBCR => 3,
        CMYK => 4,
        _ => 1,
    }
}

/// As Pillow reads them: RGB with a fourth sample that nothing is said of has alpha.
fn alpha(layout: &Layout) -> Alpha {
    let colors = colors(layout);
    if layout.samples <= colors || layout.photometric == CMYK {
        return Alpha::None;
    }
    match layout.extra.first() {
        Some(&PREMULTIPLIED) => Alpha::Premultiplied,
        Some(&(STRAIGHT | COREL)) => Alpha::Straight,
        None if layout.photometric == RGB && layout.samples == 4 => Alpha::Straight,
        _ => Alpha::None,
    }
}

pub(super) fn image(
    samples: Samples,
    layout: &Layout,
    notes: &mut Notes,
) -> Result<DynamicImage, String> {
    let samples = match samples {
        Samples::Floats(all) => whole_numbers(all, layout, notes)?,
        other => other,
    };
    if layout.photometric == CMYK {
        notes.add(Note::Cmyk);
    }
    let alpha = alpha(layout);
    let (width, height) = (layout.width as u32, layout.height as u32);
    let image = match samples {
        Samples::Bytes(all) => {
            let most =
                if layout.photometric == PALETTE { 255 } else { (1u32 << layout.bits.min(8)) - 1 };
            let channels = channels(all.into_iter().map(u32::from), most, layout, alpha);
            let bytes = channels.values.into_iter().map(|value| value as u8).collect();
            of_bytes(bytes, width, height, channels.count)
        }
        Samples::Words(all) => {
            let channels = channels(all.into_iter().map(u32::from), 0xffff, layout, alpha);
            if layout.photometric == PALETTE {
                let bytes = channels.values.into_iter().map(|value| value as u8).collect();
                of_bytes(bytes, width, height, channels.count)
            } else {
                let words = channels.values.into_iter().map(|value| value as u16).collect();
                of_words(words, width, height, channels.count)
            }
        }
        Samples::Floats(_) => None,
    };
    image.ok_or_else(|| "its decoded size differs from its header".to_owned())
}

/// Floats and integers of other sizes as 8 or 16 bits: values up to 1 (of floats), 255 or 65,535.
/// A range beyond these would have to be guessed.
fn whole_numbers(all: Vec<f32>, layout: &Layout, notes: &mut Notes) -> Result<Samples, String> {
    let finite = || all.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(0.0, f32::min), finite().fold(0.0, f32::max));
    if low < 0.0 || high > 65_535.0 {
        let range = "rescale them to 0..1, 0..255 or 0..65535";
        return Err(format!("its values reach from {low} to {high}: {range}"));
    }
    notes.add(if layout.format == SampleFormat::Float { Note::Float } else { Note::Deep });
    let scale = if layout.format == SampleFormat::Float && high <= 1.0 { 255.0 } else { 1.0 };
    let whole = |value: f32| if value.is_finite() { (value * scale).round() } else { 0.0 };
    Ok(if high <= 255.0 {
        Samples::Bytes(all.into_iter().map(|value| whole(value) as u8).collect())
    } else {
        Samples::Words(all.into_iter().map(|value| whole(value) as u16).collect())
    })
}

struct Channels {
    values: Vec<u32>,
    /// 1 to 4 per pixel: gray or RGB, with or without alpha.
    count: usize,
}

/// Gray or RGB, with straight alpha, from samples in 0..=`most`. Samples of fewer than 8 bits are
/// scaled to 8.
fn channels(
    samples: impl Iterator<Item = u32>,
    most: u32,
    layout: &Layout,
    alpha: Alpha,
) -> Channels {
    // A range of whole numbers came from floats, whose bits say nothing.
    let is_narrow = layout.bits < 8;
    let full = if most > 255 { 0xffff } else { 255 };
    let scaled = |value: u32| if is_narrow { value * 255 / most.max(1) } else { value };
    let colors = colors(layout);
    let output = if layout.photometric == PALETTE || colors > 1 { 3 } else { 1 };
    let count = output + usize::from(alpha != Alpha::None);
    let mut values = Vec::new();
    let mut pixel = Vec::with_capacity(layout.samples);
    for sample in samples {
        pixel.push(sample);
        if pixel.len() < layout.samples {
            continue;
        }
        let mut color = match layout.photometric {
            WHITE_IS_ZERO => [full - scaled(pixel[0]).min(full), 0, 0],
            BLACK_IS_ZERO => [scaled(pixel[0]), 0, 0],
            PALETTE => of_palette(pixel[0] as usize, layout),
            CMYK => of_cmyk(&pixel),
            YCBCR => of_ycbcr(&pixel),
            _ => [scaled(pixel[0]), scaled(pixel[1]), scaled(pixel[2])],
        };
        let opacity = pixel.get(colors).copied().map_or(full, scaled);
        if alpha == Alpha::Premultiplied && opacity > 0 {
            color = color.map(|value| ((value * full + opacity / 2) / opacity).min(full));
        }
        values.extend_from_slice(&color[..output]);
        if alpha != Alpha::None {
            values.push(opacity);
        }
        pixel.clear();
    }
    Channels { values, count }
}

fn of_palette(index: usize, layout: &Layout) -> [u32; 3] {
    let entries = 1 << layout.bits;
    [0, 1, 2].map(|channel| {
        let value = layout.palette.get(channel * entries + index).copied().unwrap_or(0);
        (value >> 8) as u32 & 255
    })
}

/// As Pillow: without a color profile.
fn of_cmyk(pixel: &[u32]) -> [u32; 3] {
    let white = 255 - pixel[3];
    [pixel[0], pixel[1], pixel[2]].map(|ink| white - (ink * white + 127) / 255)
}

/// As in JPEG files (JFIF).
fn of_ycbcr(pixel: &[u32]) -> [u32; 3] {
    let [luma, blue, red] = [pixel[0] as f32, pixel[1] as f32 - 128.0, pixel[2] as f32 - 128.0];
    [luma + 1.402 * red, luma - 0.344_136 * blue - 0.714_136 * red, luma + 1.772 * blue]
        .map(|value| value.round().clamp(0.0, 255.0) as u32)
}
