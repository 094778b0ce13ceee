//! The random values of one view, drawn as torchvision's classes draw them.

use super::filters::Jitter;
use super::perspective::Homography;
use super::sample::Sampling;
use super::{
    AugmentationPolicy, ColorJitter, Frame, RandomAffine, RandomErasing, RandomResizedCrop,
};
use crate::random::Stream;

/// Attempts to place a rectangle, as torchvision makes them.
const ATTEMPTS: usize = 10;

/// The random values of one view.
pub(super) struct Transform {
    pub(super) sampling: Sampling,
    /// In the order in which they are applied.
    pub(super) jitter: Vec<Jitter>,
    /// For the operations of `rand_augment` and `trivial_augment`.
    pub(super) ops: Stream,
    pub(super) is_gray: bool,
    /// The standard deviation of the blur.
    pub(super) sigma: f64,
    /// Left, top, right and bottom of the erased rectangle, in output pixels.
    pub(super) erased: Option<[usize; 4]>,
}

impl Transform {
    pub(super) fn draw(
        policy: &AugmentationPolicy,
        frame: &Frame,
        stream: impl Fn(&str) -> Stream,
    ) -> Transform {
        let sigma = policy
            .gaussian_blur
            .as_ref()
            .map_or(1.0, |blur| stream("gaussian blur").between(blur.sigma[0], blur.sigma[1]));
        let jitter = policy.color_jitter.as_ref();
        let erasing = policy.random_erasing.as_ref();
        Transform {
            sampling: sampling(policy, frame, &stream),
            jitter: jitter
                .map(|jitter| jitter.draw(&mut stream("color jitter")))
                .unwrap_or_default(),
            ops: stream("operations"),
            is_gray: stream("grayscale").chance(policy.random_grayscale),
            sigma,
            erased: erasing.and_then(|one| one.draw(frame.crop, &mut stream("erasing"))),
        }
    }
}

fn sampling(
    policy: &AugmentationPolicy,
    frame: &Frame,
    stream: &impl Fn(&str) -> Stream,
) -> Sampling {
    let side = frame.crop as f64;
    let [mut left, mut top] = [frame.offset as f64; 2];
    let [mut width, mut height] = [side; 2];
    if let Some(random) = &policy.random_resized_crop {
        [left, top, width, height] =
            random.draw(frame.size, &mut stream("crop")).map(|length| length as f64);
    }
    let mut flips = stream("flip");
    let [across, down] = [policy.horizontal_flip, policy.vertical_flip]
        .map(|is_on| if flips.chance(0.5) && is_on { -1.0 } else { 1.0 });
    let scale = [across * width / side, down * height / side];
    let affine = policy.random_affine.as_ref();
    let affine = affine.map(|affine| affine.draw(side, &mut stream("affine"))).unwrap_or_default();
    let plain = affine.sampling([left + width / 2.0, top + height / 2.0], scale);
    let perspective = policy.random_perspective.as_ref().and_then(|random| {
        let mut stream = stream("perspective");
        let is_changed = stream.chance(random.p);
        let drawn = Homography::draw(side, random.distortion_scale, &mut stream);
        drawn.filter(|_| is_changed && frame.crop > 1)
    });
    Sampling { perspective, ..plain }
}

/// A rotation with shear, scale and translation around the center.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    /// In degrees.
    pub(super) angle: f64,
    /// In pixels.
    pub(super) translation: [f64; 2],
    pub(super) scale: f64,
    /// Along the horizontal axis, in degrees.
    pub(super) shear: f64,
}

impl Default for Affine {
    fn default() -> Affine {
        Affine { angle: 0.0, translation: [0.0; 2], scale: 1.0, shear: 0.0 }
    }
}

impl Affine {
    /// Where the pixels of an image come from whose middle is at `middle` of the square, `scale`
    /// pixels of it for each of the image.
    pub(super) fn sampling(&self, middle: [f64; 2], scale: [f64; 2]) -> Sampling {
        let [[a, b], [c, d]] = self.inverse();
        let step = [[scale[0] * a, scale[1] * c], [scale[0] * b, scale[1] * d]];
        let [x, y] = self.translation;
        let center = [0, 1].map(|axis| middle[axis] - x * step[0][axis] - y * step[1][axis]);
        Sampling { center, step, perspective: None }
    }

    /// From an output position to where it comes from, without the translation: its rows.
    fn inverse(&self) -> [[f64; 2]; 2] {
        let (sine, cosine) = self.angle.to_radians().sin_cos();
        let shear = self.shear.to_radians().tan();
        let rows = [[cosine - sine * shear, sine + cosine * shear], [-sine, cosine]];
        rows.map(|row| row.map(|value| value / self.scale))
    }
}

impl RandomAffine {
    pub(super) fn draw(&self, side: f64, stream: &mut Stream) -> Affine {
        let angle = stream.between(-self.degrees, self.degrees);
        // Whole pixels.
        let translation =
            self.translate.map(|most| stream.between(-most * side, most * side).round_ties_even());
        let scale = stream.between(self.scale[0], self.scale[1]);
        Affine { angle, translation, scale, shear: stream.between(-self.shear, self.shear) }
    }
}

impl ColorJitter {
    pub(super) fn draw(&self, stream: &mut Stream) -> Vec<Jitter> {
        let mut factor = |amount: f64| stream.between((1.0 - amount).max(0.0), 1.0 + amount) as f32;
        let [brightness, contrast, saturation] =
            [self.brightness, self.contrast, self.saturation].map(&mut factor);
        let hue = stream.between(-self.hue, self.hue) as f32;
        let mut drawn = vec![
            Jitter::Brightness(brightness),
            Jitter::Contrast(contrast),
            Jitter::Saturation(saturation),
            Jitter::Hue(hue),
        ];
        stream.shuffle(&mut drawn);
        drawn.retain(|jitter| !jitter.is_identity());
        drawn
    }
}

/// Width and height of a rectangle with an area from a range of shares and a ratio from another.
fn draw_sides(area: f64, scale: [f64; 2], ratio: [f64; 2], stream: &mut Stream) -> [f64; 2] {
    let area = area * stream.between(scale[0], scale[1]);
    let ratio = stream.between(ratio[0].ln(), ratio[1].ln()).exp();
    [(area * ratio).sqrt(), (area / ratio).sqrt()].map(f64::round_ties_even)
}

impl RandomResizedCrop {
    /// Left, top, width and height of a crop inside a square. Where none fits, the largest one in
    /// the center.
    pub(super) fn draw(&self, side: usize, stream: &mut Stream) -> [usize; 4] {
        let area = (side * side) as f64;
        for _ in 0..ATTEMPTS {
            let sides = draw_sides(area, self.scale, self.ratio, stream);
            let [width, height] = sides.map(|length| length as usize);
            if (1..=side).contains(&width) && (1..=side).contains(&height) {
                let mut corner = |length: usize| stream.below((side - length + 1) as u64) as usize;
                let top = corner(height);
                return [corner(width), top, width, height];
            }
        }
        let shorter =
            |ratio: f64| ((side as f64 / ratio).round_ties_even() as usize).clamp(1, side);
        let [width, height] = match self.ratio {
            [least, _] if least > 1.0 => [side, shorter(least)],
            [_, most] if most < 1.0 => [shorter(1.0 / most), side],
            _ => [side, side],
        };
        [(side - width) / 2, (side - height) / 2, width, height]
    }
}

impl RandomErasing {
    /// Left, top, right and bottom of the rectangle. None where the image isn't changed, or none
    /// fits.
    pub(super) fn draw(&self, side: usize, stream: &mut Stream) -> Option<[usize; 4]> {
        if !stream.chance(self.p) {
            return None;
        }
        for _ in 0..ATTEMPTS {
            // torchvision's ratio is of height over width here.
            let [height, width] = draw_sides((side * side) as f64, self.scale, self.ratio, stream)
                .map(|length| length as usize);
            if height < side && width < side {
                let top = stream.below((side - height + 1) as u64) as usize;
                let left = stream.below((side - width + 1) as u64) as usize;
                return Some([left, top, left + width, top + height]);
            }
        }
        None
    }
}
