//! Data augmentation: random changes to a stored square that keep its class, with torchvision's
//! names, parameters, defaults and distributions. The result is a pure function of (seed, view,
//! record). Mixing the images of a batch is up to the training step.
//!
//! Crop, flips, affine and perspective are one bilinear sampling of the stored square, in this order.
//! Two things differ from torchvision's defaults: no nearest-neighbor sampling, and what lies beyond
//! the square continues its edge instead of being black, since a network learns black corners.

#[cfg(test)]
mod compared;
mod draw;
mod filters;
mod ops;
mod perspective;
mod recipe;
mod sample;

use crate::config::keys;
use crate::random::Stream;
use crate::store::Digest;
use draw::Transform;

pub use recipe::Recipe;

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
        /// Rotates, moves, scales and shears (torchvision's `RandomAffine`). What comes in from
        /// outside continues the edge of the image.
        random_affine: Option<RandomAffine> = none formerly "rotate";
        /// Moves the corners inward (torchvision's `RandomPerspective`).
        random_perspective: Option<RandomPerspective> = none;
        /// Changes brightness, contrast, saturation and hue in random order (torchvision's
        /// `ColorJitter`).
        color_jitter: Option<ColorJitter> = none formerly "brightness";
        /// Random operations of one magnitude (torchvision's `RandAugment`).
        rand_augment: Option<RandAugment> = none;
        /// One random operation of a random magnitude (torchvision's `TrivialAugmentWide`).
        trivial_augment: bool = false;
        /// Probability that an image becomes gray (torchvision's `RandomGrayscale`).
        random_grayscale: f64 = 0 in 0..=1;
        /// Blurs every image (torchvision's `GaussianBlur`).
        gaussian_blur: Option<GaussianBlur> = none;
        /// Replaces a rectangle by the mean color that images are normalized with (torchvision's
        /// `RandomErasing` after `Normalize`).
        random_erasing: Option<RandomErasing> = none formerly "erase";
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
        scale: [f64; 2] = [0.08, 1.0] each in 0..=1;
        /// Lower and upper bound of the aspect ratio (width over height).
        ratio: [f64; 2] = [0.75, 1.3333333333333333] each above 0;
    }
}

keys! {
    /// torchvision's `RandomAffine`.
    pub struct RandomAffine / GivenRandomAffine {
        /// Largest rotation in either direction.
        degrees: f64 = 0 in 0..=180;
        /// Largest translation along each axis, as a fraction of the side.
        translate: [f64; 2] = [0.0, 0.0] each in 0..=1;
        /// Lower and upper bound of the scale.
        scale: [f64; 2] = [1.0, 1.0] each above 0;
        /// Largest shear along the horizontal axis in either direction, in degrees.
        shear: f64 = 0 in 0..=80;
    }
}

keys! {
    /// torchvision's `ColorJitter`.
    pub struct ColorJitter / GivenColorJitter {
        /// The factor is between 1 minus this, at least 0, and 1 plus this.
        brightness: f64 = 0 in 0..=10;
        /// The same around the mean of the image.
        contrast: f64 = 0 in 0..=10;
        /// The same around the gray of each pixel.
        saturation: f64 = 0 in 0..=10;
        /// Largest shift of the hue in either direction, as a fraction of the circle.
        hue: f64 = 0 in 0..=0.5;
    }
}

keys! {
    /// torchvision's `RandomErasing`.
    pub struct RandomErasing / GivenRandomErasing {
        /// Probability that an image is changed.
        p: f64 = 0.5 in 0..=1;
        /// Lower and upper bound of the rectangle's area, as a fraction of the image's.
        scale: [f64; 2] = [0.02, 0.33] each in 0..=1;
        /// Lower and upper bound of its aspect ratio.
        ratio: [f64; 2] = [0.3, 3.3] each above 0;
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

/// The squares that are augmented.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Side of the stored square, in pixels.
    pub size: usize,
    /// Side of the network's input, in pixels.
    pub crop: usize,
    /// Left and top edge of the center crop in the square, in pixels.
    pub offset: usize,
    /// The color that becomes 0 by normalization, in 0..=255.
    pub mean: [f32; 3],
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
    pub fn apply(&self, square: &[u8], frame: &Frame, stream: Stream, out: &mut [f32]) {
        let mut transform = self.draw(frame, stream);
        let crop = frame.crop;
        sample::sample(square, frame, &transform.sampling, out);
        for jitter in &transform.jitter {
            jitter.apply(out);
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
            sample::erase(area, crop, frame.mean, out);
        }
    }

    /// The random values of a view. Each augmentation has a stream of its own, so that enabling one
    /// doesn't change the others.
    fn draw(&self, frame: &Frame, mut stream: Stream) -> Transform {
        let root = stream.bits();
        Transform::draw(self, frame, |purpose| Stream::new(root, purpose, &[]))
    }
}

/// ITU-R 601 luma, with the weights of PIL and torchvision.
fn luma(pixel: &[f32]) -> f32 {
    0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]
}

#[cfg(test)]
mod tests;
