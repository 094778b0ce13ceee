//! Compares decoding, resizing and cropping with torchvision's `Resize` and `CenterCrop`. The
//! expected crops in `tests/golden/preprocessing` were written by `make.py` next to them, which
//! draws the same images.

use crate::data::decode::{self, samples};
use crate::data::normalization::network_input;
use crate::data::{Fit, Interpolation, Preprocessing};
use image::{ImageFormat, Rgb, RgbImage};
use std::path::Path;

/// `image` of `make.py`.
fn image(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([0, 1, 2].map(|channel: u64| {
            let block = u64::from(x / 11) * 73 + u64::from(y / 7) * 151 + channel * 59;
            let value = block * block % 193 + u64::from(x * 61 / width);
            if x % 37 == 0 || y % 29 == 0 { 255 } else { value as u8 }
        }))
    })
}

/// How many values differ from torchvision's by 0, 1, 2, and more levels.
fn differences(
    size: (u32, u32),
    resize: u32,
    crop: u32,
    interpolation: Interpolation,
) -> [usize; 4] {
    let filter = if interpolation == Interpolation::Bilinear { "bilinear" } else { "bicubic" };
    let name = format!("{}x{}-{resize}-{crop}-{filter}.png", size.0, size.1);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/preprocessing");
    let expected = image::open(folder.join(&name)).unwrap().into_rgb8();
    assert_eq!(expected.dimensions(), (crop, crop));

    let preprocessing = Preprocessing {
        resize,
        crop,
        fit: Fit::Crop,
        interpolation,
        mean: [0.0; 3],
        std: [1.0; 3],
        decoding: Default::default(),
    };
    let file = samples::file(&image(size.0, size.1).into(), ImageFormat::Png);
    let stored = decode::preprocess(&file, &preprocessing).unwrap();
    assert_eq!(
        (stored.width, stored.height, stored.pixels.len()),
        (size.0, size.1, (resize * resize * 3) as usize)
    );
    let input = network_input(&stored.pixels, &preprocessing);
    let mut counts = [0; 4];
    for (ours, theirs) in input.iter().zip(expected.as_raw()) {
        let level = (ours * 255.0).round();
        counts[(level - f32::from(*theirs)).abs().min(3.0) as usize] += 1;
    }
    assert_eq!(counts.iter().sum::<usize>(), expected.as_raw().len());
    counts
}

/// Of 2,846,295 values, 31,160 (1.1 %) differ by one level, and none by more.
#[test]
fn crops_match_torchvisions_resize_and_center_crop() {
    let mut total = [0; 4];
    for size in [(500, 333), (333, 501), (301, 301), (131, 97), (83, 222)] {
        for (resize, crop) in [(256, 224), (232, 224), (342, 299)] {
            let counts = differences(size, resize, crop, Interpolation::Bilinear);
            assert_eq!(counts[2..], [0, 0], "{size:?} {resize} {crop}");
            total.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        }
    }
    assert!(total[1] * 50 < total[0], "{total:?}");
}

/// timm's filter: 5.6 % of the values differ by one level, and 7 of 300,000 by more, where a sharp
/// edge overshoots the value range between the two passes.
#[test]
fn bicubic_matches_pillow_within_a_level() {
    for size in [(500, 333), (131, 97)] {
        let counts = differences(size, 256, 224, Interpolation::Bicubic);
        assert!(counts[1] * 10 < counts[0] && counts[2] + counts[3] < 10, "{counts:?}");
    }
}
