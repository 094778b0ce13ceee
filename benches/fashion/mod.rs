//! Small images for benchmarks: those of Debian's `dataset-fashion-mnist` as JPEG files, or noise of
//! the same size where it isn't installed.

use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};
use pipe::random::Stream;
use std::io::Read;
use std::path::Path;

const FOLDER: &str = "/usr/share/datasets/fashion-mnist";
const SIDE: usize = 28;

pub(crate) struct Images {
    /// For messages.
    pub source: &'static str,
    /// JPEG files with their classes.
    pub files: Vec<(Vec<u8>, u8)>,
}

/// At most `count` images.
pub(crate) fn images(count: usize) -> Images {
    let both = [("train", 60_000), ("t10k", 10_000)];
    let read: Option<Vec<_>> = both.iter().map(|(name, count)| read(name, *count)).collect();
    let (source, pixels) = match read {
        Some(read) => ("dataset-fashion-mnist", read.concat()),
        None => ("noise, since dataset-fashion-mnist isn't installed", noise(count)),
    };
    let encoded = pixels.into_iter().take(count).map(|(pixels, class)| (encode(&pixels), class));
    Images { source, files: encoded.collect() }
}

/// The pixels and classes of a part of the data set: IDX files.
fn read(name: &str, count: usize) -> Option<Vec<(Vec<u8>, u8)>> {
    let unpacked = |file: String| {
        let file = std::fs::File::open(Path::new(FOLDER).join(file)).ok()?;
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let images = unpacked(format!("{name}-images-idx3-ubyte.gz"))?;
    let labels = unpacked(format!("{name}-labels-idx1-ubyte.gz"))?;
    let images = images.get(16..)?.chunks_exact(SIDE * SIDE).map(<[u8]>::to_vec);
    let all: Vec<_> = images.zip(labels.get(8..)?.iter().copied()).collect();
    (all.len() == count).then_some(all)
}

fn noise(count: usize) -> Vec<(Vec<u8>, u8)> {
    let image = |index: usize| {
        let mut stream = Stream::new(1, "small", &[index as u64]);
        ((0..SIDE * SIDE).map(|_| stream.bits() as u8).collect(), (index % 10) as u8)
    };
    (0..count).map(image).collect()
}

fn encode(pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .encode(pixels, SIDE as u32, SIDE as u32, ExtendedColorType::L8)
        .expect("an image is encoded");
    bytes
}
