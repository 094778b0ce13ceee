//! Small images for benchmarks: those of Debian's `dataset-fashion-mnist` as JPEG files, or noise
//! of the same size where it isn't installed.

#[path = "../../tests/fashion_mnist/mod.rs"]
mod fashion_mnist;

use fashion_mnist::{Garment, SIDE, jpeg, read};
use pipe::random::Stream;

const QUALITY: u8 = 90;

pub(crate) struct Images {
    /// For messages.
    pub source: &'static str,
    /// JPEG files with their classes.
    pub files: Vec<(Vec<u8>, u8)>,
}

/// At most `count` images.
pub(crate) fn images(count: usize) -> Images {
    let (source, garments) = match (read("train"), read("t10k")) {
        (Some(train), Some(test)) => ("dataset-fashion-mnist", [train, test].concat()),
        _ => ("noise, since dataset-fashion-mnist isn't installed", noise(count)),
    };
    let garments = garments.into_iter().take(count);
    Images {
        source,
        files: garments.map(|(pixels, class)| (jpeg(&pixels, QUALITY), class)).collect(),
    }
}

fn noise(count: usize) -> Vec<Garment> {
    let image = |index: usize| {
        let mut stream = Stream::new(1, "small", &[index as u64]);
        ((0..SIDE * SIDE).map(|_| stream.bits() as u8).collect(), (index % 10) as u8)
    };
    (0..count).map(image).collect()
}
