//! The effect of each augmentation, its range, and the independence of their random values.

use super::draw::Affine;
use super::*;
use proptest::prelude::*;

fn square(size: usize) -> Vec<u8> {
    let mut stream = Stream::new(1, "test", &[]);
    (0..size * size * 3).map(|_| stream.below(256) as u8).collect()
}

fn frame(size: usize, crop: usize) -> Frame {
    Frame { size, crop, offset: (size - crop) / 2, mean: [120.0; 3] }
}

fn applied(augment: &AugmentationPolicy, size: usize, crop: usize, sample: u64) -> Vec<f32> {
    let mut out = vec![0.0; crop * crop * 3];
    let stream = Stream::new(7, "augment", &[0, sample]);
    augment.apply(&square(size), &frame(size, crop), stream, &mut out);
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
    let affine = RandomAffine { degrees: 30.0, translate: [0.1; 2], scale: [0.8, 1.2], shear: 5.0 };
    let jitter = ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 };
    let plain = AugmentationPolicy {
        random_affine: Some(affine),
        color_jitter: Some(jitter),
        ..Default::default()
    };
    let more = AugmentationPolicy {
        random_grayscale: 1.0,
        random_perspective: Some(RandomPerspective { distortion_scale: 0.5, p: 1.0 }),
        gaussian_blur: Some(GaussianBlur { kernel_size: 3, sigma: [0.1, 2.0] }),
        random_erasing: Some(RandomErasing { p: 1.0, scale: [0.02, 0.33], ratio: [0.3, 3.3] }),
        ..plain.clone()
    };
    let draw = |policy: &AugmentationPolicy| {
        policy.draw(&frame(12, 8), Stream::new(7, "augment", &[0, 3]))
    };
    let [plain, more] = [draw(&plain), draw(&more)];
    assert_eq!(
        (plain.sampling.step, plain.sampling.center),
        (more.sampling.step, more.sampling.center)
    );
    assert_eq!(plain.jitter, more.jitter);
    assert!(plain.sampling.perspective.is_none() && more.sampling.perspective.is_some());
    assert!(!plain.is_gray && more.is_gray && plain.erased.is_none() && more.erased.is_some());
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

#[test]
fn an_affine_without_amounts_changes_nothing() {
    let none = RandomAffine { degrees: 0.0, translate: [0.0; 2], scale: [1.0; 2], shear: 0.0 };
    let policy = AugmentationPolicy { random_affine: Some(none), ..Default::default() };
    assert_eq!(applied(&policy, 12, 8, 0), applied(&AugmentationPolicy::default(), 12, 8, 0));
    let drawn = Affine::default();
    assert_eq!((drawn.angle, drawn.scale, drawn.shear), (0.0, 1.0, 0.0));
}

#[test]
fn an_erased_rectangle_has_the_mean_color() {
    let erasing = RandomErasing { p: 1.0, scale: [0.2, 0.3], ratio: [0.5, 2.0] };
    let policy = AugmentationPolicy { random_erasing: Some(erasing), ..Default::default() };
    let (plain, erased) =
        (applied(&AugmentationPolicy::default(), 30, 30, 0), applied(&policy, 30, 30, 0));
    let changed = plain.chunks_exact(3).zip(erased.chunks_exact(3)).filter(|(a, b)| a != b);
    let colors: Vec<&[f32]> = changed.map(|(_, color)| color).collect();
    assert!(colors.iter().all(|color| *color == [120.0; 3]));
    assert!((150..=290).contains(&colors.len()), "{}", colors.len());
}

proptest! {
    #[test]
    fn values_stay_in_range_and_never_panic(
        degrees in 0f64..180.0, translate in 0f64..1.0, scale in 0.1f64..2.0, light in 0f64..2.0, p in 0f64..1.0,
        crops in any::<bool>(), sample in 0u64..1000, size in 1usize..20, smaller in 0usize..10, ratio in 0.2f64..4.0,
    ) {
        let augment = AugmentationPolicy {
            random_resized_crop: crops.then_some(RandomResizedCrop { scale: [0.08, 1.0], ratio: [ratio, ratio * 1.3] }),
            horizontal_flip: true,
            random_affine: Some(RandomAffine { degrees, translate: [translate; 2], scale: [scale, scale * 1.2], shear: degrees / 3.0 }),
            color_jitter: Some(ColorJitter { brightness: light, contrast: light, saturation: light, hue: translate / 2.0 }),
            random_erasing: Some(RandomErasing { p, scale: [0.02, 0.33], ratio: [0.3, 3.3] }),
            random_grayscale: 0.2,
            vertical_flip: true, trivial_augment: crops,
            rand_augment: Some(RandAugment { num_ops: 2, magnitude: (sample % 31) as u32 }),
            random_perspective: Some(RandomPerspective { distortion_scale: translate, p: 0.5 }),
            gaussian_blur: Some(GaussianBlur { kernel_size: 5, sigma: [0.1, 2.0] }),
            ..AugmentationPolicy::default()
        };
        let crop = size.saturating_sub(smaller).max(1);
        let out = applied(&augment, size, crop, sample);
        prop_assert!(out.iter().all(|value| (0.0..=255.0).contains(value)));
        prop_assert_eq!(&out, &applied(&augment, size, crop, sample));
    }
}
