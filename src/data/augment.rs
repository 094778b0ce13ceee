//! Data augmentation: random changes to a stored square that keep its class (crop, flips,
//! shift, rotation, shear, perspective, zoom, color, blur, erasing, `RandAugment`). The result is a
//! pure function of (seed, view, record); all geometry of the policy itself is one bilinear sampling
//! of the square. Mixing the images of a batch is up to the training step.

mod filters;
mod ops;
mod perspective;

use crate::config::keys;
use crate::random::Stream;
use crate::store::Digest;
use perspective::Homography;

keys! {
    /// How training images are augmented. Everything is off by default.
    #[derive(Default)]
    pub struct AugmentationPolicy / GivenAugmentationPolicy {
        /// A random part of the stored square, resized to the network's input, instead of its
        /// center crop (torchvision's `RandomResizedCrop`).
        random_resized_crop: Option<RandomResizedCrop> = none formerly "random_crop";
        /// Flips left and right with probability 0.5. Wrong where orientation distinguishes
        /// classes.
        horizontal_flip: bool = false formerly "flip";
        /// Flips top and bottom with probability 0.5.
        vertical_flip: bool = false;
        /// Largest rotation in either direction, in degrees.
        rotation: f64 = 0 in 0..=180 formerly "rotate";
        /// Largest translation along each axis, as a fraction of the side.
        translation: f64 = 0 in 0..=1 formerly "shift";
        /// Largest change of scale: 0.1 means a factor between 1/1.1 and 1.1.
        zoom: f64 = 0 in 0..=1;
        /// Largest shear along each axis, in degrees.
        shear: f64 = 0 in 0..=80;
        /// Moves the corners inward (torchvision's `RandomPerspective`).
        random_perspective: Option<RandomPerspective> = none;
        /// Largest change of brightness, as a factor like `zoom`.
        brightness: f64 = 0 in 0..=1;
        /// Largest change of contrast around the image's mean, as a factor like `zoom`.
        contrast: f64 = 0 in 0..=1;
        /// Largest change of saturation, as a factor like `zoom`.
        saturation: f64 = 0 in 0..=1;
        /// Largest shift of the hue in either direction, as a fraction of the circle.
        hue: f64 = 0 in 0..=0.5;
        /// Probability that an image becomes gray (torchvision's `RandomGrayscale`).
        random_grayscale: f64 = 0 in 0..=1;
        /// Blurs every image (torchvision's `GaussianBlur`).
        gaussian_blur: Option<GaussianBlur> = none;
        /// Random operations of one magnitude (torchvision's `RandAugment`).
        rand_augment: Option<RandAugment> = none;
        /// One random operation of a random magnitude (torchvision's `TrivialAugmentWide`).
        trivial_augment: bool = false;
        /// Probability that a rectangle (2 to 20 % of the area) is replaced by the mean color.
        random_erasing: f64 = 0 in 0..=1 formerly "erase";
        /// Mixes each image and its target with another of the batch, by shares from Beta(a, a)
        /// (torchvision's `MixUp`); usually 0.2 to 1. With `cutmix`, each batch draws one of both.
        mixup: f64 = 0 in 0..=100;
        /// Replaces a rectangle by that of another image of the batch, and as much of the target, by
        /// shares from Beta(a, a) (torchvision's `CutMix`); usually 1.
        cutmix: f64 = 0 in 0..=100;
        /// The first epoch without `mixup` and `cutmix`. None by default.
        mix_off_epoch: Option<u64> = none in 2..=100_000;
        /// Number of views of each image: epoch e uses view e modulo this. With a frozen backbone,
        /// the features of each view are then computed once. A new view in every epoch by default.
        views: Option<u64> = none in 1..=1000 formerly "copies";
    }
}

/// The augmentation of one pass over the samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Augmentation {
    pub policy: AugmentationPolicy,
    /// The seed of the run.
    pub seed: u64,
    pub epoch: u64,
}

/// One augmented version of a record. Its fields are the position of its random stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct View {
    /// The epoch, or its remainder if the number of views is limited.
    pub index: u64,
    /// How often the record occurred earlier in the same epoch.
    pub repeat: u32,
}

impl Augmentation {
    /// The view of a record that occurred `repeat` times earlier in this pass. With a limited
    /// number of views, a repeat takes the next one.
    pub fn view(&self, repeat: u32) -> View {
        match self.policy.views {
            Some(views) => {
                View { index: (self.epoch + u64::from(repeat)) % views.max(1), repeat: 0 }
            }
            None => View { index: self.epoch, repeat },
        }
    }

    /// The random stream of a record's view.
    pub(super) fn stream(&self, view: View, record: Digest) -> Stream {
        let (start, _) = record.as_bytes().split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        let position = [view.index, u64::from(view.repeat), u64::from_le_bytes(*start)];
        Stream::new(self.seed, "augment", &position)
    }
}

keys! {
    /// torchvision's `RandomResizedCrop`, applied to the stored square.
    pub struct RandomResizedCrop / GivenRandomResizedCrop {
        /// Lower and upper bound of the crop's area, as a fraction of the square's.
        scale: [f64; 2] = [0.6, 1.0] each in 0..=1;
        /// Lower and upper bound of the aspect ratio (width over height).
        ratio: [f64; 2] = [0.8, 1.25] each above 0;
    }
}

keys! {
    /// torchvision's `RandomPerspective`.
    pub struct RandomPerspective / GivenRandomPerspective {
        /// How far corners move at most: 1 is half of the side.
        distortion_scale: f64 = 0.5 in 0..=1;
        /// Probability that an image is changed.
        p: f64 = 0.5 in 0..=1;
    }
}

keys! {
    /// torchvision's `GaussianBlur`.
    pub struct GaussianBlur / GivenGaussianBlur {
        /// Taps of the kernel, an odd number.
        kernel_size: u32 = required in 1..=63;
        /// Lower and upper bound of the standard deviation, in pixels.
        sigma: [f64; 2] = [0.1, 2.0] each above 0;
    }
}

keys! {
    /// torchvision's `RandAugment`.
    pub struct RandAugment / GivenRandAugment {
        /// Number of operations, one after the other.
        num_ops: u32 = 2 in 1..=14;
        /// Magnitude of all of them.
        magnitude: u32 = 9 in 0..=30;
    }
}

/// The random values of one view.
struct Transform {
    /// Center of the visible part, in pixels of the square.
    center: [f64; 2],
    /// One output pixel to the right, and one down, as a vector in pixels of the square.
    step: [[f64; 2]; 2],
    /// Before the rest, in output pixels.
    perspective: Option<Homography>,
    brightness: f32,
    contrast: f32,
    saturation: f32,
    hue: f32,
    is_gray: bool,
    /// The standard deviation of the blur.
    sigma: f64,
    /// For the operations of `rand_augment` and `trivial_augment`.
    ops: Stream,
    /// Left, top, right and bottom of the erased rectangle, in output pixels.
    erased: Option<[usize; 4]>,
}

impl AugmentationPolicy {
    /// Whether the policy changes nothing.
    pub fn is_none(&self) -> bool {
        self.per_image() == AugmentationPolicy::default()
    }

    /// Without what isn't the change of one view: the number of views, and the mixing of batches.
    pub fn per_image(&self) -> AugmentationPolicy {
        AugmentationPolicy {
            views: None,
            mixup: 0.0,
            cutmix: 0.0,
            mix_off_epoch: None,
            ..self.clone()
        }
    }

    /// Whether batches of an epoch are mixed.
    pub fn mixes(&self, epoch: u64) -> bool {
        (self.mixup > 0.0 || self.cutmix > 0.0) && self.mix_off_epoch.is_none_or(|off| epoch < off)
    }

    /// Writes an augmented crop of a stored square to `out`.
    ///
    /// `square` has `size * size * 3` bytes, `out` has `crop * crop * 3` values, in 0..=255.
    pub fn apply(
        &self,
        square: &[u8],
        size: usize,
        crop: usize,
        offset: usize,
        mut stream: Stream,
        out: &mut [f32],
    ) {
        let transform = self.draw(size, crop, offset, &mut stream);
        sample(square, size, crop, &transform, out);
        adjust_color(&transform, out);
        self.filter(transform, crop, out)
    }

    /// The augmentations after geometry and color, in torchvision's order.
    fn filter(&self, mut transform: Transform, crop: usize, out: &mut [f32]) {
        if transform.hue != 0.0 {
            filters::shift_hue(out, transform.hue);
        }
        if let Some(RandAugment { num_ops, magnitude }) = self.rand_augment {
            ops::rand_augment(num_ops, magnitude, crop, &mut transform.ops, out);
        }
        if self.trivial_augment {
            ops::trivial_augment(crop, &mut transform.ops, out);
        }
        if transform.is_gray {
            filters::to_gray(out);
        }
        if let Some(blur) = &self.gaussian_blur {
            filters::blur(crop, out, blur.kernel_size as usize, transform.sigma);
        }
        if let Some(area) = transform.erased {
            erase(area, crop, out);
        }
    }

    /// Draws every value in a fixed order, enabled or not, so that enabling one doesn't change the
    /// others.
    fn draw(&self, size: usize, crop: usize, offset: usize, stream: &mut Stream) -> Transform {
        // A stream of its own: what was drawn from the first one stays.
        let mut more = Stream::new(stream.clone().bits(), "augment more", &[]);
        let mut symmetric = |amount: f64| stream.between(-1.0, 1.0) * amount;
        let (shift_x, shift_y) = (symmetric(self.translation), symmetric(self.translation));
        let angle = symmetric(self.rotation).to_radians();
        let zoom = factor(symmetric(1.0), self.zoom);
        let color = [self.brightness, self.contrast, self.saturation]
            .map(|amount| factor(symmetric(1.0), amount) as f32);
        let flipped = stream.chance(0.5) && self.horizontal_flip;
        let erased = draw_erased(crop, self.random_erasing, stream);
        let side = crop as f64;
        let (mut center, mut extent) = ([offset as f64 + side / 2.0; 2], [side; 2]);
        if let Some(random) = &self.random_resized_crop {
            (center, extent) = random.draw(size as f64, stream);
        }
        let scale = [extent[0] / side / zoom, extent[1] / side / zoom];
        center[0] += shift_x * extent[0];
        center[1] += shift_y * extent[1];
        let (sine, cosine) = angle.sin_cos();
        let across = if flipped { -scale[0] } else { scale[0] };
        let [vertical, is_gray] =
            [0.5, self.random_grayscale].map(|probability| more.chance(probability));
        let down = if vertical && self.vertical_flip { -scale[1] } else { scale[1] };
        let shear = [0, 1].map(|_| (more.between(-1.0, 1.0) * self.shear).to_radians().tan());
        let step = [[cosine * across, sine * across], [-sine * down, cosine * down]];
        let step = [
            [0, 1].map(|axis| step[0][axis] + shear[1] * step[1][axis]),
            [0, 1].map(|axis| step[1][axis] + shear[0] * step[0][axis]),
        ];
        let hue = (more.between(-1.0, 1.0) * self.hue) as f32;
        let share = more.uniform();
        let sigma = self
            .gaussian_blur
            .as_ref()
            .map_or(1.0, |blur| blur.sigma[0] + (blur.sigma[1] - blur.sigma[0]) * share);
        let perspective = self.random_perspective.as_ref().and_then(|random| {
            let is_changed = more.chance(random.p);
            let drawn = Homography::draw(side, random.distortion_scale, &mut more.clone());
            drawn.filter(|_| is_changed && crop > 1)
        });
        let ops = Stream::new(more.bits(), "augment operations", &[]);
        Transform {
            center,
            step,
            perspective,
            hue,
            is_gray,
            sigma,
            ops,
            brightness: color[0],
            contrast: color[1],
            saturation: color[2],
            erased,
        }
    }
}

/// `1 + amount` to the power of `position` in -1..1: larger and smaller with equal probability.
fn factor(position: f64, amount: f64) -> f64 {
    (1.0 + amount).powf(position)
}

impl RandomResizedCrop {
    /// Draws the center and extent of a crop inside a square of the given side.
    fn draw(&self, side: f64, stream: &mut Stream) -> ([f64; 2], [f64; 2]) {
        let area = stream.between(self.scale[0], self.scale[1]) * side * side;
        let ratio = stream.between(self.ratio[0].ln(), self.ratio[1].ln()).exp();
        let extent = [(area * ratio).sqrt().min(side), (area / ratio).sqrt().min(side)];
        let center = extent.map(|length| length / 2.0 + stream.uniform() * (side - length));
        (center, extent)
    }
}

fn draw_erased(crop: usize, probability: f64, stream: &mut Stream) -> Option<[usize; 4]> {
    let (enabled, area) = (stream.chance(probability), stream.between(0.02, 0.2));
    let ratio = stream.between(-1.0, 1.0).exp();
    let side = crop as f64;
    let extent = [(area * ratio).sqrt().min(1.0) * side, (area / ratio).sqrt().min(1.0) * side];
    let corner = extent.map(|length| stream.uniform() * (side - length));
    let area = [corner[0], corner[1], corner[0] + extent[0], corner[1] + extent[1]]
        .map(|edge| (edge as usize).min(crop));
    enabled.then_some(area)
}

/// Samples bilinearly; the square's edge pixels continue outward.
fn sample(square: &[u8], size: usize, crop: usize, transform: &Transform, out: &mut [f32]) {
    let half = crop as f64 / 2.0;
    let last = size.saturating_sub(1) as f64;
    for (row, line) in out.chunks_exact_mut(crop * 3).enumerate() {
        for (column, pixel) in line.chunks_exact_mut(3).enumerate() {
            let (mut along, mut down) = (column as f64, row as f64);
            if let Some(perspective) = &transform.perspective {
                [along, down] = perspective.source(along, down);
            }
            let (along, down) = (along + 0.5 - half, down + 0.5 - half);
            let [x, y] = [0, 1].map(|axis| {
                let at = transform.center[axis]
                    + along * transform.step[0][axis]
                    + down * transform.step[1][axis]
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

/// ITU-R 601 luma, with the weights of PIL and torchvision.
fn luma(pixel: &[f32]) -> f32 {
    0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]
}

fn adjust_color(transform: &Transform, out: &mut [f32]) {
    if [transform.brightness, transform.contrast, transform.saturation] == [1.0; 3] {
        return;
    }
    let pixels = (out.len() / 3).max(1) as f32;
    let mean = out.chunks_exact(3).fold(0.0, |sum, pixel| sum + luma(pixel)) / pixels
        * transform.brightness;
    for pixel in out.chunks_exact_mut(3) {
        let gray = luma(pixel);
        for value in pixel.iter_mut() {
            let colored = gray + (*value - gray) * transform.saturation;
            *value = (mean + (colored * transform.brightness - mean) * transform.contrast)
                .clamp(0.0, 255.0);
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

    fn applied(augment: &AugmentationPolicy, size: usize, crop: usize, sample: u64) -> Vec<f32> {
        let mut out = vec![0.0; crop * crop * 3];
        let stream = Stream::new(7, "augment", &[0, sample]);
        augment.apply(&square(size), size, crop, (size - crop) / 2, stream, &mut out);
        out
    }

    #[test]
    fn an_empty_policy_gives_the_center_crop() {
        let (size, crop) = (12, 8);
        let expected: Vec<f32> = (2..10)
            .flat_map(|row| square(size)[(row * size + 2) * 3..(row * size + 10) * 3].to_vec())
            .map(f32::from)
            .collect();
        assert_eq!(applied(&AugmentationPolicy::default(), size, crop, 0), expected);
    }

    #[test]
    fn a_flip_mirrors_half_of_the_images() {
        let flip = AugmentationPolicy { horizontal_flip: true, ..AugmentationPolicy::default() };
        let plain = applied(&AugmentationPolicy::default(), 8, 8, 0);
        let mirrored: Vec<f32> = plain
            .chunks_exact(24)
            .flat_map(|row| row.chunks_exact(3).rev().flatten().copied().collect::<Vec<f32>>())
            .collect();
        let images: Vec<Vec<f32>> = (0..100).map(|sample| applied(&flip, 8, 8, sample)).collect();
        assert!(images.iter().all(|image| *image == plain || *image == mirrored));
        let count = images.iter().filter(|image| **image == mirrored).count();
        assert!((30..70).contains(&count), "{count}");
    }

    #[test]
    fn enabling_one_leaves_the_others_as_they_were() {
        let stream = || Stream::new(7, "augment", &[0, 3]);
        let plain = AugmentationPolicy { rotation: 30.0, hue: 0.1, ..Default::default() };
        let more = AugmentationPolicy {
            random_grayscale: 1.0,
            random_perspective: Some(RandomPerspective { distortion_scale: 0.5, p: 1.0 }),
            gaussian_blur: Some(GaussianBlur { kernel_size: 3, sigma: [0.1, 2.0] }),
            ..plain.clone()
        };
        let [plain, more] = [plain, more].map(|policy| policy.draw(12, 8, 2, &mut stream()));
        assert_eq!((plain.step, plain.center, plain.hue), (more.step, more.center, more.hue));
        assert!(plain.perspective.is_none() && more.perspective.is_some() && more.is_gray);
    }

    #[test]
    fn a_vertical_flip_turns_half_of_the_images_upside_down() {
        let flip = AugmentationPolicy { vertical_flip: true, ..AugmentationPolicy::default() };
        let plain = applied(&AugmentationPolicy::default(), 8, 8, 0);
        let flipped: Vec<f32> = plain.chunks_exact(24).rev().flatten().copied().collect();
        let images: Vec<Vec<f32>> = (0..100).map(|sample| applied(&flip, 8, 8, sample)).collect();
        assert!(images.iter().all(|image| *image == plain || *image == flipped));
        let count = images.iter().filter(|image| **image == flipped).count();
        assert!((30..70).contains(&count), "{count}");
    }

    proptest! {
        #[test]
        fn values_stay_in_range_and_never_panic(
            rotation in 0f64..180.0, translation in 0f64..1.0, zoom in 0f64..2.0, light in 0f64..2.0, random_erasing in 0f64..1.0,
            crops in any::<bool>(), sample in 0u64..1000, size in 1usize..20, smaller in 0usize..10,
        ) {
            let augment = AugmentationPolicy {
                random_resized_crop: crops.then_some(RandomResizedCrop { scale: [0.35, 1.0], ratio: [0.75, 4.0 / 3.0] }),
                horizontal_flip: true, rotation, translation, zoom, brightness: light, contrast: light, saturation: light,
                random_erasing, shear: rotation / 3.0, hue: translation / 2.0, random_grayscale: 0.2,
                vertical_flip: true, trivial_augment: crops,
                rand_augment: Some(RandAugment { num_ops: 2, magnitude: (sample % 31) as u32 }),
                random_perspective: Some(RandomPerspective { distortion_scale: translation, p: 0.5 }),
                gaussian_blur: Some(GaussianBlur { kernel_size: 5, sigma: [0.1, 2.0] }),
                ..AugmentationPolicy::default()
            };
            let crop = size.saturating_sub(smaller).max(1);
            let out = applied(&augment, size, crop, sample);
            prop_assert!(out.iter().all(|value| (0.0..=255.0).contains(value)));
            prop_assert_eq!(&out, &applied(&augment, size, crop, sample));
        }
    }
}
