//! Kinds of files that occur in public data sets, one test each.

use super::*;
use crate::common::image_files::{EXTENSIONS, is_image};
use crate::data::preprocessing::{Fit, Interpolation};
use image::{GrayAlphaImage, ImageBuffer, Luma, LumaA, Rgba, RgbaImage};
use proptest::prelude::*;

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

#[test]
fn a_truncated_jpeg_is_decoded_and_noted() {
    let whole = samples::jpeg(64, 64);
    assert_eq!(decode(&whole).unwrap().notes, Notes::default());
    let cut = decode(&whole[..whole.len() * 2 / 3]).unwrap();
    assert_eq!(cut.notes.words(), "lenient");
    assert_eq!((cut.pixels.width, cut.pixels.height), (64, 64));
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
        (&[255, 127, 127][..], "alpha")
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
    let full = decode(include_bytes!("cmyk.jpg")).unwrap();
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
