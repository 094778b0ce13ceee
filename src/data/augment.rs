//! Changes to a stored square that leave its class as it is: a random crop, a flip, a small shift, turn, zoom, a change
//! of light. All geometry is one sampling of the square. A pure function of (seed, view, record); knows nothing of
//! batches.

use crate::random::Stream;
use serde::{Deserialize, Serialize};

/// How images are varied in training. Everything is off by default.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// A random part of the stored square instead of its center.
    pub random_crop: Option<RandomCrop>,
    /// Mirrors left and right, half of the time. Wrong where orientation tells classes apart.
    pub flip: bool,
    /// Largest turn to either side, in degrees.
    pub rotate: f32,
    /// Largest shift along each side, as a part of the input's side: 0.1 = a tenth.
    pub shift: f32,
    /// Largest change of size, as a factor either way: 0.1 = between 1/1.1 and 1.1.
    pub zoom: f32,
    /// Largest change of brightness, as a factor either way.
    pub brightness: f32,
    /// Largest change of contrast around the image's mean, as a factor either way.
    pub contrast: f32,
    /// Largest change of saturation, as a factor either way.
    pub saturation: f32,
    /// Probability that a rectangle of the input (2 to 20 % of it) is replaced by its mean color.
    pub erase: f32,
    /// In how many ways each image is varied: epoch e shows the way e modulo this. Anew in every epoch where there is none.
    pub copies: Option<u64>,
}

/// A random crop as torchvision's `RandomResizedCrop` draws it, from the stored square.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RandomCrop {
    /// Area of the crop as a part of the square: from, to.
    #[serde(default = "default_scale")]
    pub scale: [f32; 2],
    /// Width over height: from, to.
    #[serde(default = "default_ratio")]
    pub ratio: [f32; 2],
}

fn default_scale() -> [f32; 2] {
    [0.35, 1.0]
}

fn default_ratio() -> [f32; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

/// What was drawn for one image in one epoch.
struct Draw {
    /// Center of the part that is shown, in pixels of the square.
    center: [f64; 2],
    /// Pixels of the square an output pixel step is wide: along the output's x and y, each with its two parts.
    step: [[f64; 2]; 2],
    brightness: f32,
    contrast: f32,
    saturation: f32,
    /// Left, top, right, bottom of what is erased, in output pixels.
    erased: Option<[usize; 4]>,
}

impl Augment {
    /// Whether nothing at all is varied.
    pub fn is_none(&self) -> bool {
        Augment { copies: None, ..self.clone() } == Augment::default()
    }

    /// The network's input of `crop * crop` pixels from a stored square of `size * size`, varied; values 0..=255,
    /// written to `out` (`crop * crop * 3` of them).
    pub fn apply(
        &self,
        square: &[u8],
        size: usize,
        crop: usize,
        offset: usize,
        mut stream: Stream,
        out: &mut [f32],
    ) {
        let draw = self.draw(size, crop, offset, &mut stream);
        sample(square, size, crop, &draw, out);
        light(&draw, out);
        if let Some(area) = draw.erased {
            erase(area, crop, out);
        }
    }

    /// Draws in a fixed order, whether or not each is asked for, so that turning one on leaves the others as they were.
    fn draw(&self, size: usize, crop: usize, offset: usize, stream: &mut Stream) -> Draw {
        let mut either = |amount: f32| stream.between(-1.0, 1.0) * f64::from(amount);
        let (shift_x, shift_y) = (either(self.shift), either(self.shift));
        let angle = either(self.rotate).to_radians();
        let zoom = factor(either(1.0), self.zoom);
        let light = [self.brightness, self.contrast, self.saturation]
            .map(|amount| factor(either(1.0), amount) as f32);
        let mirrored = stream.chance(0.5) && self.flip;
        let erased = erased(crop, f64::from(self.erase), stream);
        let side = crop as f64;
        let (mut center, mut extent) = ([offset as f64 + side / 2.0; 2], [side; 2]);
        if let Some(random) = &self.random_crop {
            (center, extent) = random.draw(size as f64, stream);
        }
        let scale = [extent[0] / side / zoom, extent[1] / side / zoom];
        center[0] += shift_x * extent[0];
        center[1] += shift_y * extent[1];
        let (sine, cosine) = angle.sin_cos();
        let across = if mirrored { -scale[0] } else { scale[0] };
        let step = [[cosine * across, sine * across], [-sine * scale[1], cosine * scale[1]]];
        Draw {
            center,
            step,
            brightness: light[0],
            contrast: light[1],
            saturation: light[2],
            erased,
        }
    }
}

/// `1 + amount` to the power of `position` in -1..1: as often larger as smaller.
fn factor(position: f64, amount: f32) -> f64 {
    (1.0 + f64::from(amount)).powf(position)
}

impl RandomCrop {
    /// Center and extent of a crop inside a square of the given side.
    fn draw(&self, side: f64, stream: &mut Stream) -> ([f64; 2], [f64; 2]) {
        let area = stream.between(f64::from(self.scale[0]), f64::from(self.scale[1])) * side * side;
        let ratio =
            stream.between(f64::from(self.ratio[0]).ln(), f64::from(self.ratio[1]).ln()).exp();
        let extent = [(area * ratio).sqrt().min(side), (area / ratio).sqrt().min(side)];
        let center = extent.map(|length| length / 2.0 + stream.uniform() * (side - length));
        (center, extent)
    }
}

fn erased(crop: usize, probability: f64, stream: &mut Stream) -> Option<[usize; 4]> {
    let (wanted, area) = (stream.chance(probability), stream.between(0.02, 0.2));
    let ratio = stream.between(-1.0, 1.0).exp();
    let side = crop as f64;
    let extent = [(area * ratio).sqrt().min(1.0) * side, (area / ratio).sqrt().min(1.0) * side];
    let corner = extent.map(|length| stream.uniform() * (side - length));
    let area = [corner[0], corner[1], corner[0] + extent[0], corner[1] + extent[1]]
        .map(|edge| (edge as usize).min(crop));
    wanted.then_some(area)
}

/// Bilinear sampling, the square's edge continued outward.
fn sample(square: &[u8], size: usize, crop: usize, draw: &Draw, out: &mut [f32]) {
    let half = crop as f64 / 2.0;
    let last = size.saturating_sub(1) as f64;
    for (row, line) in out.chunks_exact_mut(crop * 3).enumerate() {
        let down = row as f64 + 0.5 - half;
        for (column, pixel) in line.chunks_exact_mut(3).enumerate() {
            let along = column as f64 + 0.5 - half;
            let [x, y] = [0, 1].map(|axis| {
                let at = draw.center[axis] + along * draw.step[0][axis] + down * draw.step[1][axis]
                    - 0.5;
                at.clamp(0.0, last)
            });
            let (left, top) = (x as usize, y as usize);
            let (right, bottom) = ((left + 1).min(size - 1), (top + 1).min(size - 1));
            let (fx, fy) = ((x - left as f64) as f32, (y - top as f64) as f32);
            for (channel, value) in pixel.iter_mut().enumerate() {
                let at = |row: usize, column: usize| {
                    f32::from(square[(row * size + column) * 3 + channel])
                };
                let upper = at(top, left) + (at(top, right) - at(top, left)) * fx;
                let lower = at(bottom, left) + (at(bottom, right) - at(bottom, left)) * fx;
                *value = upper + (lower - upper) * fy;
            }
        }
    }
}

/// ITU-R 601 luma, as PIL and torchvision weigh gray.
fn luma(pixel: &[f32]) -> f32 {
    0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]
}

fn light(draw: &Draw, out: &mut [f32]) {
    if [draw.brightness, draw.contrast, draw.saturation] == [1.0; 3] {
        return;
    }
    let pixels = (out.len() / 3).max(1) as f32;
    let mean =
        out.chunks_exact(3).fold(0.0, |sum, pixel| sum + luma(pixel)) / pixels * draw.brightness;
    for pixel in out.chunks_exact_mut(3) {
        let gray = luma(pixel);
        for value in pixel.iter_mut() {
            let colored = gray + (*value - gray) * draw.saturation;
            *value = (mean + (colored * draw.brightness - mean) * draw.contrast).clamp(0.0, 255.0);
        }
    }
}

fn erase([left, top, right, bottom]: [usize; 4], crop: usize, out: &mut [f32]) {
    let pixels = (out.len() / 3).max(1) as f32;
    let mean = [0, 1, 2]
        .map(|channel| out.iter().skip(channel).step_by(3).fold(0.0, |sum, v| sum + v) / pixels);
    for row in top..bottom {
        for column in left..right {
            let at = (row * crop + column) * 3;
            out[at..at + 3].copy_from_slice(&mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn square(size: usize) -> Vec<u8> {
        let mut stream = Stream::new(1, "test", &[]);
        (0..size * size * 3).map(|_| stream.below(256) as u8).collect()
    }

    fn applied(augment: &Augment, size: usize, crop: usize, sample: u64) -> Vec<f32> {
        let mut out = vec![0.0; crop * crop * 3];
        let stream = Stream::new(7, "augment", &[0, sample]);
        augment.apply(&square(size), size, crop, (size - crop) / 2, stream, &mut out);
        out
    }

    #[test]
    fn nothing_asked_for_is_the_center() {
        let (size, crop) = (12, 8);
        let expected: Vec<f32> = (2..10)
            .flat_map(|row| square(size)[(row * size + 2) * 3..(row * size + 10) * 3].to_vec())
            .map(f32::from)
            .collect();
        assert_eq!(applied(&Augment::default(), size, crop, 0), expected);
    }

    #[test]
    fn a_flip_mirrors_half_of_the_images() {
        let flip = Augment { flip: true, ..Augment::default() };
        let plain = applied(&Augment::default(), 8, 8, 0);
        let mirrored: Vec<f32> = plain
            .chunks_exact(24)
            .flat_map(|row| row.chunks_exact(3).rev().flatten().copied().collect::<Vec<f32>>())
            .collect();
        let images: Vec<Vec<f32>> = (0..100).map(|sample| applied(&flip, 8, 8, sample)).collect();
        assert!(images.iter().all(|image| *image == plain || *image == mirrored));
        let count = images.iter().filter(|image| **image == mirrored).count();
        assert!((30..70).contains(&count), "{count}");
    }

    proptest! {
        #[test]
        fn values_stay_in_range_and_never_panic(
            rotate in 0f32..180.0, shift in 0f32..1.0, zoom in 0f32..2.0, light in 0f32..2.0, erase in 0f32..1.0,
            crops in any::<bool>(), sample in 0u64..1000, size in 1usize..20, smaller in 0usize..10,
        ) {
            let augment = Augment {
                random_crop: crops.then(|| RandomCrop { scale: default_scale(), ratio: default_ratio() }),
                flip: true, rotate, shift, zoom, brightness: light, contrast: light, saturation: light, erase,
                copies: None,
            };
            let crop = size.saturating_sub(smaller).max(1);
            let out = applied(&augment, size, crop, sample);
            prop_assert!(out.iter().all(|value| (0.0..=255.0).contains(value)));
            prop_assert_eq!(&out, &applied(&augment, size, crop, sample));
        }
    }
}
