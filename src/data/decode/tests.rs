//! Kinds of files that occur in public data sets, one test each.

use super::*;
use crate::common::image_files::{EXTENSIONS, is_image};
use crate::data::preprocessing::{Fit, Interpolation};
use image::{GrayAlphaImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgba, RgbaImage};
use proptest::prelude::*;

fn decode(bytes: &[u8]) -> Result<FullImage, DataError> {
    super::decode(bytes, DecodeOptions::default())
}

fn reason(bytes: &[u8]) -> String {
    match decode(bytes) {
        Err(DataError::Unreadable(reason)) => reason,
        Err(other) => panic!("{other}"),
        Ok(full) => panic!("decoded to {} x {}", full.pixels.width, full.pixels.height),
    }
}

fn at(full: &FullImage, x: u32, y: u32) -> u8 {
    full.pixels.bytes[(y * full.pixels.width + x) as usize * full.pixels.channels]
}

#[test]
fn files_that_are_not_images_are_refused_with_a_reason() {
    assert_eq!(reason(b""), "the file is empty");
    assert_eq!(reason(&[0; 4096]), "the file contains only zeros");
    assert!(reason(b"<html>404</html>").contains("not an image of a supported format"));
    assert!(!reason(&samples::jpeg(16, 16)[..20]).is_empty());
}

/// A file of every format that is decoded.
fn one_of_each() -> Vec<(ImageFormat, Vec<u8>)> {
    let image: DynamicImage = DynamicImage::from(noise(64, 64));
    let mut files: Vec<_> = [ImageFormat::Png, ImageFormat::Gif, ImageFormat::Bmp]
        .map(|format| (format, samples::file(&image, format)))
        .into();
    let mut jpeg = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 95);
    encoder.encode_image(&image).unwrap();
    files.push((ImageFormat::Jpeg, jpeg));
    // With its directory at the start: an encoder that writes it last leaves nothing to decode.
    let tags: [(u16, &[u64]); 6] =
        [(256, &[64]), (257, &[64]), (258, &[8, 8, 8]), (259, &[1]), (262, &[2]), (277, &[3])];
    files.push((ImageFormat::Tiff, samples::tiff(false, false, &tags, &noise(64, 64))));
    files
}

/// Noise: nothing of it can be guessed from the rest.
fn noise(width: u32, height: u32) -> RgbImage {
    let mut stream = crate::random::Stream::new(1, "noise", &[]);
    RgbImage::from_fn(width, height, |_, _| image::Rgb([0; 3].map(|_: u8| stream.below(256) as u8)))
}

#[test]
fn truncated_files_of_every_format_follow_one_rule() {
    let keep = DecodeOptions { on_damaged: OnDamaged::Keep, ..DecodeOptions::default() };
    for (format, whole) in one_of_each() {
        let intact = decode(&whole).unwrap();
        assert_eq!(intact.notes, Notes::default(), "{format:?}");
        let most = &whole[..whole.len() * 96 / 100];
        let little = &whole[..whole.len() / 2];
        // The row of blocks in which a JPEG is cut counts as missing: a quarter of so small a one.
        let is_jpeg = format == ImageFormat::Jpeg;
        let (by_default, tolerance) =
            if is_jpeg { (keep, 25.0) } else { (DecodeOptions::default(), 14.0) };
        for (part, rule) in [(most, by_default), (most, keep), (little, keep)] {
            let cut =
                super::decode(part, rule).unwrap_or_else(|error| panic!("{format:?}: {error}"));
            assert!(cut.notes.has(Note::Damaged), "{format:?} {}", cut.notes.words());
            assert_eq!((cut.pixels.width, cut.pixels.height), (64, 64));
            let expected = 100.0 - part.len() as f64 / whole.len() as f64 * 100.0;
            let missing = f64::from(cut.notes.missing_percent());
            // A header counts as nothing.
            assert!((missing - expected).abs() <= tolerance, "{format:?}: {missing} of {expected}");
            let equal = intact.pixels.bytes.iter().zip(&cut.pixels.bytes).filter(|(a, b)| a == b);
            let share = equal.count() as f64 / intact.pixels.bytes.len() as f64 * 100.0;
            // Where a JPEG ends in its last row of blocks, only one row of pixels counts.
            let blocks = if is_jpeg { 25.0 } else { 0.0 };
            assert!(share >= 99.0 - missing - blocks, "{format:?}: {share} % are equal");
        }
        assert!(reason(little).contains("% of it is missing"), "{format:?}: {}", reason(little));
        // Whatever the length, a file is whole, damaged by a note, or refused with a reason.
        for length in (0..whole.len()).step_by(whole.len() / 60) {
            if let Ok(cut) = super::decode(&whole[..length], keep) {
                assert!(
                    cut.notes.warning().is_some() || cut.pixels.bytes == intact.pixels.bytes,
                    "{format:?} of {length} bytes of {}",
                    whole.len()
                );
            }
        }
    }
}

#[test]
fn rows_that_a_jpeg_lacks_are_told_from_gray_ones() {
    for (width, height, is_gray) in [(64, 64, false), (200, 80, true), (33, 150, false)] {
        let image = image::RgbImage::from_fn(width, height, |x, y| {
            let noise = ((x * 7919 + y * 104_729) >> 3) as u8;
            if y < height / 2 {
                image::Rgb([noise, noise / 2, 255 - noise])
            } else {
                image::Rgb([128; 3])
            }
        });
        let image = image::DynamicImage::from(image);
        let image = if is_gray { image.into_luma8().into() } else { image };
        let mut bytes = samples::file(&image, ImageFormat::Jpeg);
        let whole = decode(&bytes).unwrap();
        assert!(!whole.notes.has(Note::Damaged), "{width} x {height}: {}", whole.notes.words());
        let frame = bytes.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
        let declared = (height as u16 * 2).to_be_bytes();
        bytes[frame + 5..frame + 7].copy_from_slice(&declared);
        assert!(reason(&bytes).contains("% of it is missing"), "{width} x {height}");
    }
}

#[test]
fn a_png_with_a_wrong_checksum_follows_the_rule_for_damaged_images() {
    let mut png = samples::png(4, 4, [9, 8, 7]);
    let data = png.windows(4).position(|four| four == b"IDAT").unwrap();
    let length = u32::from_be_bytes(png[data - 4..data].try_into().unwrap()) as usize;
    png[data + 4 + length] ^= 1;
    assert_eq!(reason(&png), "it is damaged: a checksum in it is wrong");
    let keep = DecodeOptions { on_damaged: OnDamaged::Keep, ..DecodeOptions::default() };
    assert!(super::decode(&png, keep).unwrap().notes.has(Note::Lenient));
}

#[test]
fn a_webp_that_is_cut_short_keeps_its_first_rows() {
    let whole = include_bytes!("fixtures/noise.webp");
    let keep = DecodeOptions { on_damaged: OnDamaged::Keep, ..DecodeOptions::default() };
    let (intact, cut) =
        (decode(whole).unwrap(), super::decode(&whole[..whole.len() * 3 / 4], keep).unwrap());
    let missing = cut.notes.missing_percent();
    assert!((1..100).contains(&missing), "{missing}");
    let rows = (96 * (100 - missing) / 100) as usize;
    assert_eq!(cut.pixels.bytes[..rows * 96], intact.pixels.bytes[..rows * 96]);
}

#[test]
fn every_image_extension_has_a_decoder() {
    let image: DynamicImage = image::DynamicImage::from(samples::halves(20, 10)).to_rgb8().into();
    for extension in EXTENSIONS {
        let format = match extension {
            "jpe" => ImageFormat::Jpeg,
            other => ImageFormat::from_extension(other).unwrap(),
        };
        let full = decode(&samples::file(&image, format)).unwrap();
        assert_eq!((full.pixels.width, full.pixels.height), (20, 10), "{extension}");
        assert!(is_image(&format!("folder/image.{extension}")), "{extension}");
    }
}

#[test]
fn the_format_is_detected_from_the_content() {
    let image = image::DynamicImage::from(samples::halves(20, 10));
    for (format, name) in [
        (ImageFormat::Png, "png"),
        (ImageFormat::Gif, "gif"),
        (ImageFormat::Bmp, "bmp"),
        (ImageFormat::Tiff, "tiff"),
    ] {
        let full = decode(&samples::file(&image.to_rgb8().into(), format)).unwrap();
        assert_eq!((full.format, full.pixels.width, full.pixels.height), (name, 20, 10));
    }
}

#[test]
fn exif_orientation_is_applied() {
    // Without rotation, the left half is dark; at 90° clockwise (6) the top half, at 180° (3) the
    // right half.
    let dark = |orientation: u8, x: u32, y: u32| {
        let full = decode(&samples::oriented_jpeg(40, 40, orientation)).unwrap();
        (at(&full, x, y) < 115, full.notes.words())
    };
    assert_eq!(dark(1, 5, 20), (true, String::new()));
    assert_eq!(dark(3, 35, 20), (true, "oriented".into()));
    assert_eq!(dark(6, 20, 5), (true, "oriented".into()));
    assert_eq!(dark(8, 20, 35), (true, "oriented".into()));
    let full = decode(&samples::oriented_jpeg(40, 20, 6)).unwrap();
    assert_eq!((full.pixels.width, full.pixels.height), (20, 40));
}

#[test]
fn transparent_pixels_are_blended_with_white() {
    let half = RgbaImage::from_pixel(4, 4, Rgba([255, 0, 0, 128]));
    let full = decode(&samples::file(&half.into(), ImageFormat::Png)).unwrap();
    assert_eq!(
        (&full.pixels.bytes[..3], full.notes.words().as_str()),
        (&[255, 127, 127][..], "alpha blank")
    );
    let opaque = RgbaImage::from_pixel(4, 4, Rgba([9, 8, 7, 255]));
    let full = decode(&samples::file(&opaque.into(), ImageFormat::Png)).unwrap();
    assert_eq!((&full.pixels.bytes[..3], full.notes.words().as_str()), (&[9, 8, 7][..], ""));
    let gray = GrayAlphaImage::from_pixel(4, 4, LumaA([0, 0]));
    assert_eq!(
        decode(&samples::file(&gray.into(), ImageFormat::Png)).unwrap().pixels.bytes[0],
        255
    );
}

#[test]
fn transparent_pixels_lie_on_the_background() {
    let half = RgbaImage::from_pixel(4, 4, Rgba([255, 0, 0, 128]));
    let file = samples::file(&half.into(), ImageFormat::Png);
    let on = |background: &str| {
        let background = Background::try_from(background.to_owned()).unwrap();
        let options = DecodeOptions { background, ..DecodeOptions::default() };
        super::decode(&file, options).unwrap().pixels.bytes[..3].to_vec()
    };
    assert_eq!(on("black"), [128, 0, 0]);
    assert_eq!(on("#0000ff"), [128, 0, 127]);
    assert_eq!(on("none"), [255, 0, 0]);
}

#[test]
fn an_image_that_transparency_makes_plain_is_noted() {
    let hidden = RgbaImage::from_fn(4, 4, |x, y| Rgba([x as u8, y as u8, 9, 0]));
    let file = samples::file(&hidden.into(), ImageFormat::Png);
    let full = decode(&file).unwrap();
    assert_eq!((full.notes.words().as_str(), full.pixels.bytes[0]), ("alpha blank", 255));
    assert!(full.notes.warning().unwrap().contains("transparent"));
    let none = DecodeOptions { background: Background(None), ..DecodeOptions::default() };
    assert_eq!(super::decode(&file, none).unwrap().notes.words(), "alpha");
}

#[test]
fn a_small_range_of_sixteen_bits_is_noted() {
    let twelve = ImageBuffer::from_fn(64, 64, |x, y| Luma([(x * 64 + y) as u16]));
    let full = decode(&samples::file(&twelve.into(), ImageFormat::Png)).unwrap();
    assert_eq!(full.notes.words(), "gray deep narrow");
    let whole = ImageBuffer::from_fn(64, 64, |x, y| Luma([(x * 1024 + y) as u16]));
    let full = decode(&samples::file(&whole.into(), ImageFormat::Png)).unwrap();
    assert_eq!(full.notes.words(), "gray deep");
}

#[test]
fn sixteen_bits_become_eight() {
    let deep = ImageBuffer::from_pixel(4, 4, Luma([0x8000u16]));
    let full = decode(&samples::file(&deep.into(), ImageFormat::Png)).unwrap();
    assert_eq!((full.pixels.bytes[0], full.notes.words().as_str()), (128, "gray deep"));
}

/// A 16 x 16 CMYK JPEG of one color, (200, 40, 10, 30), and the RGB values that Pillow 12 converts
/// it to: `Image.new("CMYK", (16, 16), (200, 40, 10, 30)).save(f, quality=90)`;
/// `Image.open(f).convert("RGB")`.
#[test]
fn cmyk_is_converted_as_pillow_does() {
    let full = decode(include_bytes!("fixtures/cmyk.jpg")).unwrap();
    assert_eq!(
        (&full.pixels.bytes[..3], full.notes.words().as_str()),
        (&[49, 190, 216][..], "cmyk")
    );
}

#[test]
fn excessive_dimensions_are_refused_before_decoding() {
    let mut png = samples::png(1, 1, [0; 3]);
    png[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    assert!(reason(&png).contains("65535 x 65535"), "{}", reason(&png));
    let mut jpeg = samples::jpeg(16, 16);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x9c, 0x40, 0x9c, 0x40]);
    assert!(reason(&jpeg).contains("40000 x 40000"), "{}", reason(&jpeg));
}

/// The checksum of a PNG's chunk.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

fn preprocessing(resize: u32, fit: Fit) -> Preprocessing {
    let interpolation = Interpolation::Bilinear;
    Preprocessing {
        resize,
        crop: resize,
        fit,
        interpolation,
        mean: [0.5, 0.25, 1.0],
        std: [1.0; 3],
        decoding: Default::default(),
    }
}

#[test]
fn every_fit_fills_the_square() {
    let bytes = samples::png(60, 20, [200, 100, 50]);
    for fit in [Fit::Crop, Fit::Stretch, Fit::Pad] {
        let decoded = preprocess(&bytes, &preprocessing(30, fit)).unwrap();
        assert_eq!((decoded.pixels.len(), decoded.width, decoded.height), (30 * 30 * 3, 60, 20));
        let corner = if fit == Fit::Pad { [128, 64, 255] } else { [200, 100, 50] };
        assert_eq!(decoded.pixels[..3], corner);
        assert_eq!(decoded.pixels[(15 * 30 + 15) * 3..][..3], [200, 100, 50]);
    }
}

#[test]
fn gray_and_color_are_resized_alike() {
    let gray = image::DynamicImage::from(samples::halves(50, 33));
    let one =
        preprocess(&samples::file(&gray, ImageFormat::Png), &preprocessing(16, Fit::Crop)).unwrap();
    let color = gray.to_rgb8().into();
    let three = preprocess(&samples::file(&color, ImageFormat::Png), &preprocessing(16, Fit::Crop))
        .unwrap();
    assert_eq!(one.pixels, three.pixels);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn damaged_files_never_panic(
        which in 0usize..4, cut in any::<proptest::sample::Index>(), at in any::<proptest::sample::Index>(), byte in any::<u8>(),
    ) {
        let image = image::DynamicImage::from(samples::halves(24, 24));
        let mut bytes = match which {
            0 => samples::jpeg(24, 24),
            1 => samples::file(&image, ImageFormat::Png),
            2 => samples::file(&image, ImageFormat::Tiff),
            _ => samples::file(&image.to_rgb8().into(), ImageFormat::Gif),
        };
        let position = at.index(bytes.len());
        bytes[position] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = preprocess(&bytes, &preprocessing(8, Fit::Crop));
    }
}
