//! From the 8-bit pixels of a stored square to the normalized numbers that a network takes.

use super::Preprocessing;
use super::augment::Frame;

/// Normalizes pixels by one [`Preprocessing`].
pub(super) struct Normalization {
    /// Side of the stored square, in pixels.
    pub size: usize,
    /// Side of the network's input, in pixels.
    pub crop: usize,
    /// Left and top edge of the center crop in the stored square, in pixels.
    pub offset: usize,
    /// The normalized value of each of the 256 levels, by channel.
    table: Box<[[f32; 3]; 256]>,
    scale: [f32; 3],
    shift: [f32; 3],
    /// The color that becomes 0, in 0..=255.
    mean: [f32; 3],
}

impl Normalization {
    pub(super) fn new(preprocessing: &Preprocessing) -> Normalization {
        let (mean, std) = (preprocessing.mean, preprocessing.std);
        let (scale, shift) = scale_and_shift(preprocessing);
        let normalized =
            |level: usize, channel: usize| (level as f32 / 255.0 - mean[channel]) / std[channel];
        Normalization {
            size: preprocessing.resize as usize,
            crop: preprocessing.crop as usize,
            offset: preprocessing.crop_offset() as usize,
            table: Box::new(std::array::from_fn(|level| {
                std::array::from_fn(|channel| normalized(level, channel))
            })),
            scale,
            shift,
            mean: mean.map(|mean| mean * 255.0),
        }
    }

    /// The squares, for augmentation.
    pub(super) fn frame(&self) -> Frame {
        let Normalization { size, crop, offset, mean, .. } = *self;
        Frame { size, crop, offset, mean }
    }

    /// Writes the normalized center crop of a stored square to `out` (`crop * crop * 3` values).
    pub(super) fn center_crop(&self, square: &[u8], out: &mut [f32]) {
        let rows = square.chunks_exact(self.size * 3).skip(self.offset);
        for (row, out) in rows.zip(out.chunks_exact_mut(self.crop * 3)) {
            let pixels = row.chunks_exact(3).skip(self.offset);
            for (pixel, out) in pixels.zip(out.chunks_exact_mut(3)) {
                for channel in 0..3 {
                    out[channel] = self.table[pixel[channel] as usize][channel];
                }
            }
        }
    }

    /// Normalizes pixels in place; values are in 0..=255 and may be fractional.
    pub(super) fn in_place(&self, out: &mut [f32]) {
        for pixel in out.chunks_exact_mut(3) {
            for ((value, scale), shift) in pixel.iter_mut().zip(self.scale).zip(self.shift) {
                *value = *value * scale + shift;
            }
        }
    }
}

/// By channel, the factor and the summand that normalize a level of 0..=255.
pub fn scale_and_shift(preprocessing: &Preprocessing) -> ([f32; 3], [f32; 3]) {
    let Preprocessing { mean, std, .. } = preprocessing;
    let shift = std::array::from_fn(|channel| -mean[channel] / std[channel]);
    (std.map(|std| 1.0 / (255.0 * std)), shift)
}

/// The network's input for a stored square (`resize * resize * 3` bytes): its center crop,
/// normalized, (crop, crop, 3).
pub fn network_input(square: &[u8], preprocessing: &Preprocessing) -> Vec<f32> {
    let normalization = Normalization::new(preprocessing);
    let mut out = vec![0.0; normalization.crop * normalization.crop * 3];
    normalization.center_crop(square, &mut out);
    out
}
