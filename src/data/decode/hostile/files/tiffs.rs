//! TIFF files: of every kind of pixels and compression, and damaged ones.

use super::*;
use crate::data::decode::samples::tiff;

type Tags<'a> = Vec<(u16, &'a [u64])>;

pub(super) fn all() -> Vec<File> {
    let mut all = tiffs();
    all.extend(more_tiffs());
    all
}

/// The tags of an image without its size.
fn tags<'a>(bits: &'a [u64], photometric: &'a [u64], rest: &[(u16, &'a [u64])]) -> Tags<'a> {
    const SIZE: [u64; 2] = [WIDTH as u64, HEIGHT as u64];
    let samples: &[u64] = match bits.len() {
        1 => &[1],
        2 => &[2],
        3 => &[3],
        _ => &[4],
    };
    let (width, height): (&'static [u64], &'static [u64]) = (&[SIZE[0]], &[SIZE[1]]);
    let mut tags =
        vec![(256, width), (257, height), (258, bits), (262, photometric), (277, samples)];
    tags.extend_from_slice(rest);
    tags
}

fn planes() -> Vec<u8> {
    let rgb = rgb();
    (0..3)
        .flat_map(|channel| rgb.pixels().map(move |pixel| pixel.0[channel]).collect::<Vec<u8>>())
        .collect()
}

fn tiffs() -> Vec<File> {
    let (rgb, gray, rgba) = (rgb().into_raw(), gray().into_raw(), rgba().into_raw());
    let premultiplied: Vec<u8> = rgba
        .chunks_exact(4)
        .flat_map(|one| {
            let part = |value: u8| ((u32::from(value) * u32::from(one[3]) + 127) / 255) as u8;
            [part(one[0]), part(one[1]), part(one[2]), one[3]]
        })
        .collect();
    let words = |big: bool| -> Vec<u8> {
        let word = |&value: &u8| u16::from(value) * 257;
        rgb.iter()
            .flat_map(
                |value| if big { word(value).to_be_bytes() } else { word(value).to_le_bytes() },
            )
            .collect()
    };
    let floats = |scale: f32| -> Vec<u8> {
        gray.iter().flat_map(|&value| (f32::from(value) * scale).to_le_bytes()).collect()
    };
    let palette: Vec<u64> = (0..3)
        .flat_map(|channel| {
            (0..256).map(move |index| color(index % 32, index / 12)[channel as usize] as u64 * 257)
        })
        .collect();
    let with_palette: [(u16, &[u64]); 1] = [(320, &palette)];
    let three = tags(&[8, 8, 8], &[2], &[]);
    let offsets = [WIDTH as u64 * 12 * 3, WIDTH as u64 * 12 * 3];
    named(vec![
        ("plain.tif", tiff(false, false, &three, &rgb)),
        ("big_endian.tif", tiff(true, false, &three, &rgb)),
        ("big_tiff.tif", tiff(false, true, &three, &rgb)),
        ("big_tiff_big_endian.tif", tiff(true, true, &three, &rgb)),
        ("gray.tif", tiff(false, false, &tags(&[8], &[1], &[]), &gray)),
        ("white_is_zero.tif", tiff(false, false, &tags(&[8], &[0], &[]), &gray)),
        ("palette.tif", tiff(false, false, &tags(&[8], &[3], &with_palette), &gray)),
        ("palette_missing.tif", tiff(false, false, &tags(&[8], &[3], &[]), &gray)),
        ("gray_alpha.tif", {
            let both: Vec<u8> = gray.iter().flat_map(|&value| [value, 200]).collect();
            tiff(false, false, &tags(&[8, 8], &[1], &[(338, &[2])]), &both)
        }),
        ("alpha.tif", tiff(false, false, &tags(&[8; 4], &[2], &[(338, &[2])]), &rgba)),
        ("extra_sample.tif", tiff(false, false, &tags(&[8; 4], &[2], &[(338, &[0])]), &rgba)),
        (
            "premultiplied.tif",
            tiff(false, false, &tags(&[8; 4], &[2], &[(338, &[1])]), &premultiplied),
        ),
        ("cmyk.tif", tiff(false, false, &tags(&[8; 4], &[5], &[]), &rgba)),
        ("ycbcr.tif", tiff(false, false, &tags(&[8; 3], &[6], &[(530, &[1, 1])]), &rgb)),
        ("sixteen_bits.tif", tiff(false, false, &tags(&[16; 3], &[2], &[]), &words(false))),
        (
            "sixteen_bits_big_endian.tif",
            tiff(true, false, &tags(&[16; 3], &[2], &[]), &words(true)),
        ),
        ("float_255.tif", tiff(false, false, &tags(&[32], &[1], &[(339, &[3])]), &floats(1.0))),
        (
            "float_1.tif",
            tiff(false, false, &tags(&[32], &[1], &[(339, &[3])]), &floats(1.0 / 255.0)),
        ),
        ("float_million.tif", tiff(false, false, &tags(&[32], &[1], &[(339, &[3])]), &floats(1e6))),
        (
            "float_negative.tif",
            tiff(false, false, &tags(&[32], &[1], &[(339, &[3])]), &floats(-1.0)),
        ),
        ("planar.tif", {
            let strip = (WIDTH * HEIGHT) as u64;
            let head = tiff(
                false,
                false,
                &tags(&[8; 3], &[2], &[(284, &[2]), (273, &[1, 1, 1]), (279, &[strip; 3])]),
                &[],
            );
            let start = head.len() as u64;
            let offsets = [start, start + strip, start + 2 * strip];
            tiff(
                false,
                false,
                &tags(&[8; 3], &[2], &[(284, &[2]), (273, &offsets), (279, &[strip; 3])]),
                &planes(),
            )
        }),
        (
            "strip_behind_end.tif",
            tiff(false, false, &tags(&[8; 3], &[2], &[(273, &[1 << 31])]), &rgb),
        ),
        (
            "strips_missing.tif",
            tiff(false, false, &tags(&[8; 3], &[2], &[(278, &[12]), (279, &offsets)]), &rgb),
        ),
        ("deflate.tif", tiff(false, false, &tags(&[8; 3], &[2], &[(259, &[8])]), &deflated(&rgb))),
    ])
}

fn more_tiffs() -> Vec<File> {
    let rgb = rgb().into_raw();
    let plain = tiff(false, false, &tags(&[8; 3], &[2], &[]), &rgb);
    let row = WIDTH as usize * 3;
    let differences: Vec<u8> = rgb
        .chunks_exact(row)
        .flat_map(|line| {
            (0..row).map(|at| line[at].wrapping_sub(if at < 3 { 0 } else { line[at - 3] }))
        })
        .collect();
    let bits: Vec<u8> = (0..HEIGHT * WIDTH / 8).map(|at| (at * 37) as u8).collect();
    let tiled: Vec<u8> = (0..4)
        .flat_map(|tile| {
            let (left, top) = (tile % 2 * 16, tile / 2 * 16);
            (top..top + 16)
                .flat_map(move |y| (left..left + 16).flat_map(move |x| color(x, y.min(23))))
        })
        .collect();
    let mut looped = plain.clone();
    let end = looped.len();
    looped[4..8].copy_from_slice(&(end as u32).to_le_bytes());
    let with =
        |rest: &[(u16, &[u64])], data: &[u8]| tiff(false, false, &tags(&[8; 3], &[2], rest), data);
    named(vec![
        ("lzw.tif", include_bytes!("../../fixtures/lzw.tif").to_vec()),
        ("jpeg.tif", include_bytes!("../../fixtures/jpeg.tif").to_vec()),
        ("group4.tif", include_bytes!("../../fixtures/group4.tif").to_vec()),
        ("predictor.tif", with(&[(259, &[8]), (317, &[2])], &deflated(&differences))),
        ("predictor_unknown.tif", with(&[(317, &[9])], &rgb)),
        ("one_bit.tif", tiff(false, false, &tags(&[1], &[1], &[]), &bits)),
        ("tiled.tif", {
            let tile = 16 * 16 * 3;
            let make = |start: u64| {
                let offsets = [start, start + tile, start + 2 * tile, start + 3 * tile];
                with(&[(322, &[16]), (323, &[16]), (324, &offsets), (325, &[tile; 4])], &tiled)
            };
            make(make(1).len() as u64 - 4 * tile)
        }),
        ("subsampled_ycbcr.tif", {
            let units: Vec<u8> = (0..HEIGHT / 2 * WIDTH / 2)
                .flat_map(|at| [at as u8, at as u8, 200, 90, 100, 160])
                .collect();
            tiff(false, false, &tags(&[8; 3], &[6], &[(530, &[2, 2])]), &units)
        }),
        ("orientation_6.tif", with(&[(274, &[6])], &rgb)),
        ("lab.tif", tiff(false, false, &tags(&[8; 3], &[8], &[]), &rgb)),
        ("zstd.tif", with(&[(259, &[50_000])], &rgb)),
        ("old_jpeg.tif", with(&[(259, &[6])], &rgb)),
        ("unknown_compression.tif", with(&[(259, &[4321])], &rgb)),
        ("dng.tif", with(&[(50_706, &[1])], &rgb)),
        ("five_bits.tif", tiff(false, false, &tags(&[5; 3], &[2], &[]), &rgb)),
        ("unequal_bits.tif", tiff(false, false, &tags(&[5, 6, 5], &[2], &[]), &rgb)),
        ("zero_rows_per_strip.tif", with(&[(278, &[0])], &rgb)),
        ("million_samples.tif", {
            let mut list = tags(&[8; 3], &[2], &[]);
            list.retain(|(tag, _)| *tag != 277);
            list.push((277, &[1_000_000]));
            tiff(false, false, &list, &rgb)
        }),
        ("huge.tif", {
            let mut list = tags(&[8; 3], &[2], &[]);
            list.retain(|(tag, _)| *tag > 257);
            list.extend([(256, &[4_000_000_000][..]), (257, &[4_000_000_000][..])]);
            tiff(false, false, &list, &rgb)
        }),
        ("no_photometric.tif", {
            let mut list = tags(&[8; 3], &[2], &[]);
            list.retain(|(tag, _)| *tag != 262);
            tiff(false, false, &list, &rgb)
        }),
        ("directory_behind_end.tif", looped),
        ("header_only.tif", plain[..8].to_vec()),
        ("cut_at_50.tif", plain[..plain.len() / 2].to_vec()),
        ("cut_at_95.tif", plain[..plain.len() * 95 / 100].to_vec()),
        ("deflate_damaged.tif", {
            let mut data = deflated(&rgb);
            let middle = data.len() / 2;
            data[middle] ^= 0xff;
            with(&[(259, &[8])], &data)
        }),
    ])
}
