//! The first image of a TIFF or BigTIFF: strips or tiles, in one plane or several, of 1 to 64 bits,
//! integers or floats; gray, RGB, palettes, CMYK and YCbCr, with straight or premultiplied alpha.
//! Chunks that the file lacks are counted.

mod chunk;
mod colors;
mod directory;

use super::orientation::{from_xmp, valid};
use super::{Decoded, MAX_ALLOCATION, Note, Notes, one_line};
use crate::data::decode::bytes::Order;
use directory::{Directory, Layout, SampleFormat};
use image::metadata::Orientation;
use image::{DynamicImage, ImageFormat, ImageReader};
use std::io::Cursor;

/// The value of missing samples, of 8 bits.
const FILL: f32 = 128.0;
const YCBCR: u64 = 6;

/// All samples of the image, pixel by pixel.
struct Raster {
    samples: Samples,
    /// Pixels that the file lacks.
    missing: u64,
}

/// In the smallest type that holds them.
enum Samples {
    Bytes(Vec<u8>),
    Words(Vec<u16>),
    Floats(Vec<f32>),
}

impl Samples {
    fn set(&mut self, index: usize, value: f32) {
        match self {
            Samples::Bytes(all) => all[index] = value as u8,
            Samples::Words(all) => all[index] = value as u16,
            Samples::Floats(all) => all[index] = value,
        }
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    let directory = Directory::read(bytes)?;
    if directory.has(50_706) {
        return Err(
            "it is a camera's raw file (DNG), not an image: convert it to JPEG or PNG".into()
        );
    }
    let mut layout = directory.layout()?;
    let orientation = layout
        .orientation
        .and_then(valid)
        .or_else(|| directory.data(700).and_then(from_xmp))
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms);
    if (2..=4).contains(&layout.compression) {
        let image = fax(bytes)?;
        return Ok(Decoded {
            image,
            orientation,
            missing: 0,
            fault: None,
            notes: Notes::default(),
        });
    }
    colors::check(&layout)?;
    chunk::check(layout.compression)?;
    let raster = raster(bytes, &directory, &mut layout)?;
    let all = layout.width as u64 * layout.height as u64;
    if raster.missing >= all {
        return Err("none of its rows can be decoded: the file is cut short or damaged".into());
    }
    let mut notes = Notes::default();
    if raster.missing > 0 {
        notes.add(Note::Lenient);
    }
    let missing = raster.missing;
    let image = colors::image(raster.samples, &layout, &mut notes)?;
    Ok(Decoded { image, orientation, missing, fault: None, notes })
}

/// Fax compression, which the `image` crate decodes.
fn fax(bytes: &[u8]) -> Result<DynamicImage, String> {
    let reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Tiff);
    reader.decode().map_err(|error| one_line(&error.to_string()))
}

fn raster(bytes: &[u8], directory: &Directory, layout: &mut Layout) -> Result<Raster, String> {
    if chunk::is_jpeg(layout.compression) {
        if layout.bits != 8 {
            return Err("its JPEGs have more than 8 bits per sample".into());
        }
        layout.predictor = 1;
    }
    let count = layout.width * layout.height * layout.samples;
    let (mut samples, size) = match (layout.format, layout.bits) {
        (SampleFormat::Unsigned, 1..=8) => (Samples::Bytes(Vec::new()), 1),
        (SampleFormat::Unsigned, 16) => (Samples::Words(Vec::new()), 2),
        _ => (Samples::Floats(Vec::new()), 4),
    };
    let chunk_bytes = layout.chunk[0] as u64 * layout.chunk[1] as u64 * layout.samples as u64 * 8;
    if (count * size) as u64 > MAX_ALLOCATION || chunk_bytes > 4 * MAX_ALLOCATION {
        return Err("it is too large".into());
    }
    match &mut samples {
        Samples::Bytes(all) => all.resize(count, FILL as u8),
        Samples::Words(all) => all.resize(count, FILL as u16 * 257),
        Samples::Floats(all) => all.resize(count, 0.0),
    }
    let [across, down] =
        [layout.width.div_ceil(layout.chunk[0]), layout.height.div_ceil(layout.chunk[1])];
    let mut missing = 0;
    for plane in 0..layout.planes {
        let mut lacks = 0;
        for index in 0..across * down {
            let [x, y] = [index % across * layout.chunk[0], index / across * layout.chunk[1]];
            let width = layout.chunk[0].min(layout.width - x);
            let height = layout.chunk[1].min(layout.height - y);
            let data = chunk::compressed(bytes, layout, plane * across * down + index);
            let area = Area { x, y, width, height, plane };
            let rows = read_chunk(&data, directory, layout, &area, &mut samples)?;
            lacks += width as u64 * (height - rows) as u64;
        }
        missing = lacks.max(missing);
    }
    if chunk::is_jpeg(layout.compression) && layout.photometric == YCBCR {
        // The JPEG decoder has converted it.
        layout.photometric = 2;
    }
    Ok(Raster { samples, missing })
}

/// The part of the image that a chunk covers, in one plane.
struct Area {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    plane: usize,
}

/// Copies the samples of a chunk and returns the number of rows that it has.
fn read_chunk(
    data: &[u8],
    directory: &Directory,
    layout: &Layout,
    area: &Area,
    samples: &mut Samples,
) -> Result<usize, String> {
    if data.is_empty() {
        return Ok(0);
    }
    let per_pixel = layout.samples / layout.planes;
    if layout.photometric == YCBCR
        && !chunk::is_jpeg(layout.compression)
        && layout.subsampling != [1, 1]
    {
        return subsampled(data, layout, area, samples);
    }
    let (row, mut rows, order) = if chunk::is_jpeg(layout.compression) {
        match chunk::jpeg(data, directory, layout) {
            Ok(([width, _], _)) if width < area.width => {
                return Err("a JPEG in it is narrower than its part of the image".into());
            }
            Ok(([width, _], decoded)) => (width * per_pixel, decoded, directory.order),
            // What comes before a damaged chunk is kept.
            Err(_) if area.y > 0 => return Ok(0),
            Err(reason) => return Err(reason),
        }
    } else {
        let row = (layout.chunk[0] * per_pixel * layout.bits).div_ceil(8);
        // The last strip has only the rows that are left.
        let mut decoded = chunk::decompressed(data, layout.compression, row * layout.chunk[1]);
        let order = chunk::unpredict(&mut decoded, row, per_pixel, layout, directory.order)?;
        (row, decoded, order)
    };
    rows.truncate(rows.len() / row * row);
    let mut count = 0;
    for (line, y) in rows.chunks_exact(row).zip(area.y..area.y + area.height) {
        for column in 0..area.width {
            let pixel = (y * layout.width + area.x + column) * layout.samples;
            for sample in 0..per_pixel {
                let value = value(line, column * per_pixel + sample, layout, order);
                samples.set(pixel + area.plane + sample, value);
            }
        }
        count += 1;
    }
    Ok(count)
}

/// A sample of a row.
fn value(row: &[u8], index: usize, layout: &Layout, order: Order) -> f32 {
    let bits = layout.bits;
    if bits < 8 {
        let at = index * bits;
        let byte = row.get(at / 8).copied().unwrap_or(0);
        return f32::from(byte >> (8 - bits - at % 8) & ((1 << bits) - 1));
    }
    if bits == 16 && layout.format == SampleFormat::Float {
        return half(order.u16(row, index * 2).unwrap_or(0));
    }
    // The TIFF type of a number of this format and length.
    let kind = match (layout.format, bits) {
        (SampleFormat::Unsigned, 8) => 1,
        (SampleFormat::Unsigned, 16) => 3,
        (SampleFormat::Unsigned, 32) => 4,
        (SampleFormat::Unsigned, _) => 16,
        (SampleFormat::Signed, 8) => 6,
        (SampleFormat::Signed, 16) => 8,
        (SampleFormat::Signed, 32) => 9,
        (SampleFormat::Signed, _) => 17,
        (SampleFormat::Float, 32) => 11,
        (SampleFormat::Float, _) => 12,
    };
    order.number_at(row, kind, index * (bits / 8)).unwrap_or(0.0) as f32
}

/// A float of 16 bits.
fn half(bits: u16) -> f32 {
    let (sign, exponent) = (if bits >> 15 == 1 { -1.0 } else { 1.0 }, bits >> 10 & 31);
    let fraction = f32::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(i32::from(exponent) - 25),
    }
}

/// YCbCr in units of several Y and one Cb and Cr.
fn subsampled(
    data: &[u8],
    layout: &Layout,
    area: &Area,
    samples: &mut Samples,
) -> Result<usize, String> {
    if layout.bits != 8 || layout.samples != 3 || layout.planes != 1 || layout.predictor != 1 {
        return Err("its YCbCr samples aren't 3 of 8 bits in one plane".into());
    }
    let [across, down] = layout.subsampling;
    let unit = across * down + 2;
    let row = layout.chunk[0].div_ceil(across) * unit;
    let most = row * layout.chunk[1].div_ceil(down);
    let decoded = chunk::decompressed(data, layout.compression, most);
    let mut count = 0;
    for (index, units) in decoded.chunks_exact(row).enumerate() {
        for line in 0..down {
            let y = index * down + line;
            if y >= area.height {
                break;
            }
            for column in 0..area.width {
                let unit = &units[column / across * unit..][..unit];
                let pixel = ((area.y + y) * layout.width + area.x + column) * 3;
                let luma = unit[line * across + column % across];
                for (sample, value) in
                    [luma, unit[unit.len() - 2], unit[unit.len() - 1]].into_iter().enumerate()
                {
                    samples.set(pixel + sample, value.into());
                }
            }
            count += 1;
        }
    }
    Ok(count)
}
