//! Deterministic photo-like JPEG files for benchmarks, with detail at every scale, about 700 x 850
//! pixels.

use image::codecs::jpeg::JpegEncoder;
use pipe::random::Stream;
use std::error::Error;
use std::path::Path;

/// Writes `count` images of 8 classes to `folder`, named `index_class.jpg`.
pub(crate) fn draw(folder: &Path, count: u64) -> Result<(), Box<dyn Error>> {
    for index in 0..count {
        let mut stream = Stream::new(7, "photo", &[index]);
        let (width, height) = (480 + stream.below(420) as u32, 600 + stream.below(500) as u32);
        let octaves: Vec<(f32, Vec<f32>)> = (1..=6)
            .map(|octave| {
                let values = (0..70 * 70 * 3).map(|_| stream.normal() as f32).collect();
                (512.0 / (1 << octave) as f32, values)
            })
            .collect();
        let image = image::RgbImage::from_fn(width, height, |x, y| {
            let grain = (stream.bits() & 31) as f32 - 16.0;
            image::Rgb(
                [0, 1, 2]
                    .map(|channel| (128.0 + grain + smooth(&octaves, x, y, channel) * 0.16) as u8),
            )
        });
        let file = std::fs::File::create(folder.join(format!("{index}_{}.jpg", index % 8)))?;
        JpegEncoder::new_with_quality(std::io::BufWriter::new(file), 88).encode_image(&image)?;
    }
    Ok(())
}

fn smooth(octaves: &[(f32, Vec<f32>)], x: u32, y: u32, channel: usize) -> f32 {
    octaves.iter().fold(0.0, |sum, (cell, values)| {
        let (u, v) = (x as f32 / cell, y as f32 / cell);
        let at = |column: usize, row: usize| values[((row % 70) * 70 + column % 70) * 3 + channel];
        let (column, row, fx, fy) = (u as usize, v as usize, u.fract(), v.fract());
        let upper = at(column, row) + (at(column + 1, row) - at(column, row)) * fx;
        let lower = at(column, row + 1) + (at(column + 1, row + 1) - at(column, row + 1)) * fx;
        sum + (upper + (lower - upper) * fy) * cell
    })
}
