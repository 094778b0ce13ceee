//! The files. All that show an image show the same gradient, so that an error is seen.

use crate::data::decode::samples::{file, oriented_jpeg};
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage, RgbaImage};
use std::io::Write as _;

mod tiffs;

type File = (String, Vec<u8>);

const WIDTH: u32 = 32;
const HEIGHT: u32 = 24;

fn color(x: u32, y: u32) -> [u8; 3] {
    [(x * 8) as u8, (y * 10) as u8, 255u32.saturating_sub(x * 4 + y * 5) as u8]
}

fn rgb() -> RgbImage {
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| image::Rgb(color(x, y)))
}

fn gray() -> GrayImage {
    DynamicImage::from(rgb()).into_luma8()
}

/// Transparent towards the left.
fn rgba() -> RgbaImage {
    RgbaImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let [red, green, blue] = color(x, y);
        image::Rgba([red, green, blue, (x * 8) as u8])
    })
}

fn png() -> Vec<u8> {
    file(&rgb().into(), ImageFormat::Png)
}

/// Every file with its name.
pub(in crate::data::decode) fn all() -> Vec<File> {
    let mut all: Vec<File> = Vec::new();
    for group in [not_images(), jpegs(), pngs(), gifs(), bmps(), webps(), tiffs::all()] {
        all.extend(group);
    }
    all
}

fn named(files: Vec<(&str, Vec<u8>)>) -> Vec<File> {
    files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

fn not_images() -> Vec<File> {
    named(vec![
        ("empty.jpg", Vec::new()),
        ("zeros.jpg", vec![0; 4096]),
        ("one_byte.png", vec![0x89]),
        ("lfs_pointer.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec()),
        ("annex_pointer.jpg", b"/annex/objects/SHA256E-s1--0.jpg\n".to_vec()),
        ("html.jpg", b"<!DOCTYPE html><title>404</title>".to_vec()),
        ("json_error.jpg", b"{\"error\": \"not found\"}".to_vec()),
        ("svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec()),
        ("text.jpg", b"this is no image".to_vec()),
        ("bm_text.bmp", b"BMI is a number that doctors compute".to_vec()),
        ("heic.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec()),
        ("avif.jpg", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1".to_vec()),
        ("jxl.jpg", b"\xff\x0a\xfa\x7f\x01\x90\x08".to_vec()),
        ("jxl_boxed.jpg", b"\0\0\0\x0cJXL \r\n\x87\n".to_vec()),
        ("jpeg2000.jpg", b"\0\0\0\x0cjP  \r\n\x87\n".to_vec()),
        ("pdf.jpg", b"%PDF-1.7\n".to_vec()),
        ("psd.jpg", b"8BPS\0\x01\0\0\0\0\0\0".to_vec()),
        ("zip.jpg", b"PK\x03\x04\x14\0\0\0".to_vec()),
        ("mp4.jpg", b"\0\0\0\x18ftypisom\0\0\0\0isom".to_vec()),
        ("apple_double.jpg", b"\0\x05\x16\x07\0\x02\0\0".to_vec()),
        ("ico.png", b"\0\0\x01\0\x01\0\x10\x10".to_vec()),
        ("camera_raw.tif", b"II\x2a\0\x10\0\0\0CR\x02\0".to_vec()),
        ("noise.jpg", (0..999u32).map(|at| ((at * 7919) >> 3) as u8 | 1).collect()),
    ])
}

fn jpegs() -> Vec<File> {
    let baseline = include_bytes!("../fixtures/baseline.jpg").to_vec();
    let frame = baseline.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    let scan = baseline.windows(2).position(|two| two == [0xff, 0xda]).unwrap();
    let patched = |at: usize, with: &[u8]| {
        let mut bytes = baseline.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    let without = |marker: u8| {
        let at = baseline.windows(2).position(|two| two == [0xff, marker]).unwrap();
        let length = usize::from(u16::from_be_bytes([baseline[at + 2], baseline[at + 3]]));
        [&baseline[..at], &baseline[at + 2 + length..]].concat()
    };
    let mut files = named(vec![
        ("baseline.jpg", baseline.clone()),
        ("444.jpg", include_bytes!("../fixtures/444.jpg").to_vec()),
        ("422.jpg", include_bytes!("../fixtures/422.jpg").to_vec()),
        ("progressive.jpg", include_bytes!("../fixtures/progressive.jpg").to_vec()),
        ("restart_markers.jpg", include_bytes!("../fixtures/restart.jpg").to_vec()),
        ("rgb_components.jpg", include_bytes!("../fixtures/rgb.jpg").to_vec()),
        ("gray.jpg", include_bytes!("../fixtures/gray.jpg").to_vec()),
        ("cmyk.jpg", include_bytes!("../fixtures/cmyk_gradient.jpg").to_vec()),
        ("ycck.jpg", include_bytes!("../fixtures/ycck.jpg").to_vec()),
        ("named_png.png", baseline.clone()),
        ("only_start.jpg", vec![0xff, 0xd8, 0xff]),
        ("header_only.jpg", baseline[..scan].to_vec()),
        ("no_end_marker.jpg", baseline[..baseline.len() - 2].to_vec()),
        ("two_ends.jpg", [&baseline[..], &[0xff, 0xd9]].concat()),
        ("trailing_garbage.jpg", [&baseline[..], &[7; 999]].concat()),
        ("leading_garbage.jpg", [b"\n\n", &baseline[..]].concat()),
        ("two_in_one.jpg", [&baseline[..], &baseline[..]].concat()),
        ("zero_width.jpg", patched(frame + 7, &[0, 0])),
        ("zero_height.jpg", patched(frame + 5, &[0, 0])),
        ("huge.jpg", patched(frame + 5, &[0xff, 0xff, 0xff, 0xff])),
        ("twice_as_high.jpg", patched(frame + 5, &[0, 48])),
        ("progressive_twice_as_high.jpg", {
            let mut bytes = include_bytes!("../fixtures/progressive.jpg").to_vec();
            let frame = bytes.windows(2).position(|two| two == [0xff, 0xc2]).unwrap();
            bytes[frame + 5..frame + 7].copy_from_slice(&[0, 48]);
            bytes
        }),
        ("twelve_bits.jpg", patched(frame + 4, &[12])),
        ("lossless.jpg", patched(frame + 1, &[0xc3])),
        ("arithmetic.jpg", patched(frame + 1, &[0xc9])),
        ("no_quantization.jpg", without(0xdb)),
        ("no_huffman.jpg", without(0xc4)),
        ("zeroed_scan.jpg", {
            let mut bytes = baseline.clone();
            bytes[scan + 40..].fill(0);
            bytes
        }),
        ("exif_cut_short.jpg", {
            let exif = b"\xff\xe1\0\x0eExif\0\0MM\0\x2a\0\0";
            [&baseline[..2], exif, &baseline[2..]].concat()
        }),
        ("orientation_9.jpg", oriented_jpeg(32, 24, 9)),
    ]);
    for orientation in 2..=8 {
        let name = format!("orientation_{orientation}.jpg");
        files.push((name, oriented_jpeg(32, 24, orientation)));
    }
    for percent in [50, 75, 90] {
        let progressive = include_bytes!("../fixtures/progressive.jpg");
        let cut = |bytes: &[u8]| bytes[..bytes.len() * percent / 100].to_vec();
        files.push((format!("cut_at_{percent}.jpg"), cut(&baseline)));
        files.push((format!("progressive_cut_at_{percent}.jpg"), cut(progressive)));
    }
    files
}

/// A chunk of a PNG.
fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let body = [&kind[..], content].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&body);
    let length = (content.len() as u32).to_be_bytes();
    [&length[..], &body, &crc.sum().to_be_bytes()].concat()
}

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

fn png_of(header: &[u8], between: &[Vec<u8>], rows: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.extend(chunk(b"IHDR", header));
    between.iter().for_each(|one| bytes.extend(one));
    bytes.extend(chunk(b"IDAT", &deflated(rows)));
    bytes.extend(chunk(b"IEND", b""));
    bytes
}

fn png_header(depth: u8, color: u8, interlaced: u8) -> Vec<u8> {
    let sides = [WIDTH.to_be_bytes(), HEIGHT.to_be_bytes()].concat();
    [&sides[..], &[depth, color, 0, 0, interlaced]].concat()
}

/// Unfiltered rows of [`rgb`]'s pixels.
fn png_rows(lines: u32) -> Vec<u8> {
    let line = |y| std::iter::once(0).chain((0..WIDTH).flat_map(move |x| color(x, y)));
    (0..lines).flat_map(line).collect()
}

/// The seven passes of Adam7: start and step across, start and step down.
fn interlaced_rows() -> Vec<u8> {
    let passes: [[u32; 4]; 7] = [
        [0, 8, 0, 8],
        [4, 8, 0, 8],
        [0, 4, 4, 8],
        [2, 4, 0, 4],
        [0, 2, 2, 4],
        [1, 2, 0, 2],
        [0, 1, 1, 2],
    ];
    let mut rows = Vec::new();
    for [left, across, top, down] in passes {
        for y in (top..HEIGHT).step_by(down as usize) {
            rows.push(0);
            rows.extend((left..WIDTH).step_by(across as usize).flat_map(|x| color(x, y)));
        }
    }
    rows
}

fn pngs() -> Vec<File> {
    let whole = png();
    let broken = |at: usize| {
        let mut bytes = whole.clone();
        let at = if at == 0 { bytes.len() - 20 } else { at };
        bytes[at] ^= 0x55;
        bytes
    };
    let exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let gray_words: Vec<u8> = (0..HEIGHT)
        .flat_map(|y| {
            let line = (0..WIDTH).flat_map(move |x| ((x * 100 + y * 40) as u16).to_be_bytes());
            std::iter::once(0).chain(line)
        })
        .collect();
    let indices: Vec<u8> = (0..HEIGHT)
        .flat_map(|y| std::iter::once(0).chain((0..WIDTH).map(move |x| ((x + y) % 4) as u8)))
        .collect();
    let palette = [255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9];
    let mut hidden = rgba();
    hidden.pixels_mut().for_each(|pixel| pixel.0[3] = 0);
    let mut files = named(vec![
        ("plain.png", whole.clone()),
        ("alpha.png", file(&rgba().into(), ImageFormat::Png)),
        ("alpha_zero.png", file(&hidden.into(), ImageFormat::Png)),
        ("interlaced.png", png_of(&png_header(8, 2, 1), &[], &interlaced_rows())),
        ("twelve_of_sixteen_bits.png", png_of(&png_header(16, 0, 0), &[], &gray_words)),
        ("palette.png", png_of(&png_header(8, 3, 0), &[chunk(b"PLTE", &palette)], &indices)),
        (
            "palette_with_transparency.png",
            png_of(
                &png_header(8, 3, 0),
                &[chunk(b"PLTE", &palette), chunk(b"tRNS", &[0, 128])],
                &indices,
            ),
        ),
        (
            "index_outside_palette.png",
            png_of(&png_header(8, 3, 0), &[chunk(b"PLTE", &palette[..6])], &indices),
        ),
        ("no_palette.png", png_of(&png_header(8, 3, 0), &[], &indices)),
        ("invalid_depth.png", png_of(&png_header(3, 2, 0), &[], &png_rows(HEIGHT))),
        ("invalid_color.png", png_of(&png_header(8, 5, 0), &[], &png_rows(HEIGHT))),
        (
            "exif_orientation.png",
            png_of(&png_header(8, 2, 0), &[chunk(b"eXIf", exif)], &png_rows(HEIGHT)),
        ),
        ("too_few_rows.png", png_of(&png_header(8, 2, 0), &[], &png_rows(HEIGHT - 2))),
        ("half_the_rows.png", png_of(&png_header(8, 2, 0), &[], &png_rows(HEIGHT / 2))),
        ("too_many_rows.png", png_of(&png_header(8, 2, 0), &[], &png_rows(HEIGHT + 9))),
        ("no_data.png", png_of(&png_header(8, 2, 0), &[], &[])),
        ("huge.png", {
            let sides = [[0, 0, 0xff, 0xff], [0, 0, 0xff, 0xff]].concat();
            png_of(&[&sides[..], &[8, 2, 0, 0, 0]].concat(), &[], &[])
        }),
        ("zero_width.png", png_of(&[0, 0, 0, 0, 0, 0, 0, 9, 8, 2, 0, 0, 0], &[], &[])),
        ("wrong_header_checksum.png", broken(30)),
        ("damaged_data.png", broken(90)),
        ("wrong_data_checksum.png", broken(0)),
        ("no_end.png", whole[..whole.len() - 12].to_vec()),
        ("signature_only.png", whole[..8].to_vec()),
        ("line_endings_changed.png", [&b"\x89PNG\n\x1a\n"[..], &whole[8..]].concat()),
        ("trailing_garbage.png", [&whole[..], &[7; 99]].concat()),
    ]);
    for percent in [50, 75, 95] {
        let name = format!("cut_at_{percent}.png");
        files.push((name, whole[..whole.len() * percent / 100].to_vec()));
    }
    let whole = png_of(&png_header(8, 2, 1), &[], &interlaced_rows());
    files.push(("interlaced_cut.png".into(), whole[..whole.len() * 3 / 4].to_vec()));
    files
}

fn gifs() -> Vec<File> {
    let whole = file(&rgb().into(), ImageFormat::Gif);
    // A screen of 4 x 4, a palette of 2, and a frame of 2 x 2 at (1, 1).
    let screen = |flags: u8| [&b"GIF89a\x04\0\x04\0"[..], &[flags, 0, 0]].concat();
    let palette = [10, 20, 30, 200, 210, 220];
    let frame = b"\x2c\x01\0\x01\0\x02\0\x02\0\0\x02\x03\x44\x32\x05\0\x3b";
    let control = b"\x21\xf9\x04\x01\0\0\x01\0";
    named(vec![
        ("plain.gif", whole.clone()),
        ("frame_inside.gif", [&screen(0x80)[..], &palette, frame].concat()),
        ("frame_inside_transparent.gif", [&screen(0x80)[..], &palette, control, frame].concat()),
        ("no_palette.gif", [&screen(0)[..], frame].concat()),
        ("no_frame.gif", [&screen(0x80)[..], &palette, b"\x3b"].concat()),
        ("header_only.gif", whole[..13].to_vec()),
        ("frame_beyond_screen.gif", {
            let mut bytes = [&screen(0x80)[..], &palette, frame].concat();
            bytes[20] = 3;
            bytes
        }),
        ("cut_at_50.gif", whole[..whole.len() / 2].to_vec()),
        ("cut_at_95.gif", whole[..whole.len() * 95 / 100].to_vec()),
        ("no_trailer.gif", whole[..whole.len() - 1].to_vec()),
    ])
}

fn bmps() -> Vec<File> {
    let whole = file(&rgb().into(), ImageFormat::Bmp);
    let patched = |at: usize, with: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    let runs = {
        // 8 x 2, 8 bits, run lengths: a row of one run, a row of two.
        let mut bytes = b"BM\0\0\0\0\0\0\0\0\x3e\0\0\0\x28\0\0\0\x08\0\0\0\x02\0\0\0".to_vec();
        bytes.extend(b"\x01\0\x08\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
        bytes.extend([0, 0, 255, 0, 255, 0, 0, 0]);
        bytes.extend([8, 1, 0, 0, 4, 0, 4, 1, 0, 0, 0, 1]);
        bytes
    };
    named(vec![
        ("plain.bmp", whole.clone()),
        ("gray.bmp", file(&gray().into(), ImageFormat::Bmp)),
        ("alpha.bmp", file(&rgba().into(), ImageFormat::Bmp)),
        ("run_lengths.bmp", runs.clone()),
        ("run_lengths_cut.bmp", runs[..runs.len() - 7].to_vec()),
        ("huge.bmp", patched(18, &[0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f])),
        ("zero_width.bmp", patched(18, &[0; 4])),
        ("negative_width.bmp", patched(18, &[0xe0, 0xff, 0xff, 0xff])),
        ("seven_bits.bmp", patched(28, &[7])),
        ("unknown_compression.bmp", patched(30, &[99])),
        ("pixels_behind_end.bmp", patched(10, &[0xff, 0xff, 0xff, 0x7f])),
        ("header_only.bmp", whole[..30].to_vec()),
        ("cut_at_50.bmp", whole[..whole.len() / 2].to_vec()),
        ("cut_at_95.bmp", whole[..whole.len() * 95 / 100].to_vec()),
    ])
}

fn webps() -> Vec<File> {
    let (lossy, noise) =
        (include_bytes!("../fixtures/lossy.webp"), include_bytes!("../fixtures/noise.webp"));
    let lossless = file(&rgb().into(), ImageFormat::WebP);
    let mut endless = lossy.to_vec();
    endless[4..8].fill(0xff);
    named(vec![
        ("lossy.webp", lossy.to_vec()),
        ("lossless.webp", lossless.clone()),
        ("alpha.webp", include_bytes!("../fixtures/alpha.webp").to_vec()),
        ("animated.webp", include_bytes!("../fixtures/animated.webp").to_vec()),
        ("header_only.webp", lossy[..20].to_vec()),
        ("declares_4_gb.webp", endless),
        ("lossy_cut_at_50.webp", noise[..noise.len() / 2].to_vec()),
        ("lossy_cut_at_97.webp", noise[..noise.len() * 97 / 100].to_vec()),
        ("lossless_cut_at_50.webp", lossless[..lossless.len() / 2].to_vec()),
    ])
}
