//! Debian's `dataset-fashion-mnist`, 70,000 small images of garments, for tests and benchmarks: its
//! files are read as pixels and classes, and written as JPEG.

use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};
use std::io::Read;
use std::path::Path;

const FOLDER: &str = "/usr/share/datasets/fashion-mnist";
/// Side of the images, in pixels.
pub(crate) const SIDE: usize = 28;

/// Gray pixels, row by row, and the class.
pub(crate) type Garment = (Vec<u8>, u8);

/// A part of the data set, `train` or `t10k`. None if the package isn't installed.
pub(crate) fn read(part: &str) -> Option<Vec<Garment>> {
    let unpacked = |file: String| {
        let file = std::fs::File::open(Path::new(FOLDER).join(file)).ok()?;
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("a gzip file");
        Some(bytes)
    };
    let images = unpacked(format!("{part}-images-idx3-ubyte.gz"))?;
    let labels = unpacked(format!("{part}-labels-idx1-ubyte.gz"))?;
    let images = images[16..].chunks_exact(SIDE * SIDE).map(<[u8]>::to_vec);
    Some(images.zip(labels[8..].iter().copied()).collect())
}

pub(crate) fn jpeg(pixels: &[u8], quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(pixels, SIDE as u32, SIDE as u32, ExtendedColorType::L8)
        .expect("an image is encoded");
    bytes
}
