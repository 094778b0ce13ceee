//! The pixels of an image while it is drawn, its colors, and operations on whole images: blending,
//! blurring, noise, encoding.

use super::raster::Mask;
use crate::data::DataError;
use crate::random::Stream;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

/// Red, green, blue, each 0 to 1.
pub(super) type Color = [f32; 3];

/// A color from hue (in turns), saturation and value.
pub(super) fn hsv(hue: f32, saturation: f32, value: f32) -> Color {
    [0.0, 2.0 / 3.0, 1.0 / 3.0].map(|shift| {
        let along = ((hue + shift).rem_euclid(1.0) * 6.0 - 3.0).abs() - 1.0;
        value * (1.0 - saturation * (1.0 - along.clamp(0.0, 1.0)))
    })
}

/// How bright a color looks.
pub(super) fn luma([red, green, blue]: Color) -> f32 {
    0.299 * red + 0.587 * green + 0.114 * blue
}

/// Between two colors.
pub(super) fn mix(a: Color, b: Color, share: f32) -> Color {
    std::array::from_fn(|channel| a[channel] + (b[channel] - a[channel]) * share)
}

/// Brighter or darker.
pub(super) fn scaled(color: Color, factor: f32) -> Color {
    color.map(|value| value * factor)
}

/// An image under way.
pub(super) struct Canvas {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Row by row; values may leave 0..1 until the end.
    pub pixels: Vec<Color>,
}

impl Canvas {
    /// An image whose pixels are what `paint` says of their centers.
    pub(super) fn painted(
        width: usize,
        height: usize,
        paint: impl Fn(f32, f32) -> Color,
    ) -> Canvas {
        let row = |y: usize| (0..width).map(move |x| (x as f32 + 0.5, y as f32 + 0.5));
        let pixels = (0..height).flat_map(row).map(|(x, y)| paint(x, y)).collect();
        Canvas { width, height, pixels }
    }

    /// Lays color over the covered pixels; `paint` gives color and opacity of a pixel by its
    /// center.
    pub(super) fn lay(&mut self, mask: &Mask, paint: impl Fn(f32, f32) -> (Color, f32)) {
        for (row, line) in mask.coverage.chunks_exact(mask.width.max(1)).enumerate() {
            let y = mask.top + row;
            for (column, &coverage) in
                line.iter().enumerate().filter(|(_, coverage)| **coverage > 0.0)
            {
                let x = mask.left + column;
                let (color, opacity) = paint(x as f32 + 0.5, y as f32 + 0.5);
                if let Some(pixel) = self.pixels.get_mut(y * self.width + x) {
                    *pixel = mix(*pixel, color, (coverage * opacity).min(1.0));
                }
            }
        }
    }

    /// Adds noise to every pixel: nearly normal, of standard deviation `amount`, a part of it
    /// common to all channels.
    pub(super) fn add_noise(&mut self, amount: f32, stream: &mut Stream) {
        // Two 8-bit uniforms each for gray, red, green, blue: a triangle is near enough, and a
        // quarter of the cost.
        let scale = amount * 6f32.sqrt() / 255.0;
        for pixel in &mut self.pixels {
            let bytes = stream.bits().to_le_bytes();
            let triangle =
                |at: usize| (f32::from(bytes[at]) + f32::from(bytes[at + 1]) - 255.0) * scale;
            let gray = triangle(0);
            for (channel, value) in pixel.iter_mut().enumerate() {
                *value += 0.8 * gray + 0.6 * triangle(2 + 2 * channel);
            }
        }
    }

    /// The image as a JPEG file.
    pub(super) fn encode(&self, quality: u8) -> Result<Vec<u8>, DataError> {
        let level = |value: &f32| (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
        let bytes: Vec<u8> = self.pixels.iter().flatten().map(level).collect();
        let mut file = Vec::new();
        JpegEncoder::new_with_quality(&mut file, quality)
            .encode(&bytes, self.width as u32, self.height as u32, ExtendedColorType::Rgb8)
            .map_err(|error| DataError::Unreadable(format!("can't be drawn: {error}")))?;
        Ok(file)
    }
}

/// Blurs a field of numbers: two passes of a box of `2 * radius + 1`, the edge continued outward.
pub(super) fn blur(field: &mut [f32], width: usize, radius: usize) {
    if width == 0 || radius == 0 || field.is_empty() {
        return;
    }
    let height = field.len() / width;
    for _ in 0..2 {
        let mut next = vec![0.0; field.len()];
        for row in 0..height {
            box_line(field, &mut next, row * width, 1, width, radius);
        }
        for column in 0..width {
            box_line(&next, field, column, width, height, radius);
        }
    }
}

fn box_line(from: &[f32], to: &mut [f32], start: usize, step: usize, length: usize, radius: usize) {
    let at = |index: isize| from[start + index.clamp(0, length as isize - 1) as usize * step];
    let reach = radius as isize;
    let mut sum: f32 = (-reach..=reach).map(at).sum();
    let share = 1.0 / (2 * radius + 1) as f32;
    for index in 0..length as isize {
        to[start + index as usize * step] = sum * share;
        sum += at(index + reach + 1) - at(index - reach);
    }
}
