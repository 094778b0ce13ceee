//! Copies are found whatever their compression and size, different images aren't.

use super::*;
use crate::data::decode::{DecodeOptions, decode};
use crate::data::resize::View;
use crate::random::Stream;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use proptest::prelude::*;

/// A photo-like image: detail at every scale.
fn photo(number: u64, width: u32, height: u32) -> RgbImage {
    let mut stream = Stream::new(3, "photo", &[number]);
    let octaves: Vec<Vec<f32>> =
        (0..5).map(|_| (0..40 * 40 * 3).map(|_| stream.normal() as f32).collect()).collect();
    RgbImage::from_fn(width, height, |x, y| {
        let channel = |channel: usize| {
            let level = octaves.iter().enumerate().fold(120.0, |sum, (octave, values)| {
                let cells = (2 << octave) as f32;
                let (u, v) = (x as f32 / width as f32 * cells, y as f32 / height as f32 * cells);
                let at = |column: usize, row: usize| {
                    values[((row % 40) * 40 + column % 40) * 3 + channel]
                };
                let (column, row, fx, fy) = (u as usize, v as usize, u.fract(), v.fract());
                let upper = at(column, row) + (at(column + 1, row) - at(column, row)) * fx;
                let lower =
                    at(column, row + 1) + (at(column + 1, row + 1) - at(column, row + 1)) * fx;
                sum + (upper + (lower - upper) * fy) * 60.0 / cells.sqrt()
            });
            level.clamp(0.0, 255.0) as u8
        };
        Rgb([0, 1, 2].map(channel))
    })
}

/// A product on white: a rectangle of one color with a collar, wherever it is given.
fn product([left, top, width, height]: [u32; 4], color: [u8; 3]) -> RgbImage {
    RgbImage::from_fn(224, 224, |x, y| {
        let inside = (left..left + width).contains(&x) && (top..top + height).contains(&y);
        let collar = x.abs_diff(left + width / 2) + (y.saturating_sub(top)) * 2 < width / 4;
        if inside && !collar { Rgb(color) } else { Rgb([255; 3]) }
    })
}

fn jpeg(image: &RgbImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(image).unwrap();
    bytes
}

fn thumbnail(image: &RgbImage) -> Thumbnail {
    let (width, height) = image.dimensions();
    let view = View { bytes: image.as_raw(), width, height, channels: 3 };
    Thumbnail::of(view, view.whole()).unwrap()
}

fn reread(bytes: &[u8]) -> Thumbnail {
    let pixels = decode(bytes, DecodeOptions::default()).unwrap().pixels;
    Thumbnail::of(pixels.view(), pixels.view().whole()).unwrap()
}

fn found(thumbnails: &[Thumbnail]) -> Vec<Pair> {
    let sketches: Vec<Sketch> = thumbnails.iter().map(Sketch::of).collect();
    let sketch = |at: usize| Ok(Some(sketches[at]));
    pairs(thumbnails.len(), sketch, |_, _| true, |at| Ok(thumbnails[at].clone())).unwrap()
}

fn positions(thumbnails: &[Thumbnail]) -> Vec<(usize, usize)> {
    found(thumbnails).into_iter().map(|pair| (pair.first, pair.second)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_copy_of_any_size_and_quality_is_found(
        number in any::<u64>(), width in 160u32..500, height in 160u32..500,
        quality in 60u8..=100, scale in 0.3f64..1.6,
    ) {
        let image = photo(number, width, height);
        let size = [width, height].map(|side| (f64::from(side) * scale) as u32);
        let resized = imageops::resize(&image, size[0], size[1], FilterType::CatmullRom);
        let other = photo(number.wrapping_add(1), width, height);
        let all = [reread(&jpeg(&image, 95)), thumbnail(&other), reread(&jpeg(&resized, quality))];
        prop_assert_eq!(positions(&all), [(0, 2)]);
    }
}

#[test]
fn there_is_no_pair_among_different_images() {
    let all: Vec<Thumbnail> = (0..400).map(|number| thumbnail(&photo(number, 48, 64))).collect();
    assert_eq!(positions(&all), []);
}

#[test]
fn products_on_white_are_copies_only_of_themselves() {
    let mut all = Vec::new();
    for width in [80, 90, 100] {
        for color in [[20, 30, 120], [60, 30, 120], [20, 70, 120], [200, 180, 160], [240; 3]] {
            all.push(product([112 - width / 2, 50, width, 130], color));
            all.push(product([112 - width / 2, 50, width, 140], color));
        }
    }
    let mut thumbnails: Vec<Thumbnail> = all.iter().map(thumbnail).collect();
    assert_eq!(positions(&thumbnails), []);
    thumbnails.push(reread(&jpeg(&all[4], 60)));
    assert_eq!(positions(&thumbnails), [(4, all.len())]);
}

#[test]
fn a_square_of_the_size_of_thumbnails_is_one() {
    let image = photo(5, SIDE as u32, SIDE as u32);
    assert_eq!(Thumbnail::of_square(image.as_raw(), SIDE as u32).unwrap(), thumbnail(&image));
}

#[test]
fn images_of_one_color_are_left_out() {
    let plain = |level: u8| thumbnail(&RgbImage::from_pixel(64, 64, Rgb([level; 3])));
    assert_eq!(positions(&[plain(0), plain(0), plain(1), plain(255)]), []);
}

#[test]
fn many_copies_are_found_quickly_and_the_same_with_any_number_of_threads() {
    let image = thumbnail(&photo(1, 64, 64));
    let all: Vec<Thumbnail> = (0..3000)
        .map(|number: usize| {
            let mut pixels = image.pixels().to_vec();
            pixels[number % 3072] ^= 1 + (number / 3072) as u8;
            Thumbnail::from_pixels(pixels).unwrap()
        })
        .collect();
    let one = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| found(&all))
    };
    let pairs = one(1);
    assert!((3000 / 2..=3000 * 8).contains(&pairs.len()), "{}", pairs.len());
    let with: BTreeSet<usize> = pairs.iter().flat_map(|pair| [pair.first, pair.second]).collect();
    assert_eq!(with.len(), 3000);
    assert_eq!(one(2), pairs);
    assert_eq!(one(7), pairs);
}
