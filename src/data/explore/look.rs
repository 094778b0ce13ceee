//! Looks at the images of a set in parallel: a glance at each, and the colors of a sample at full
//! size.

use super::remembered::{Known, Remembered};
use super::unusual::Descriptor;
use crate::data::DataError;
use crate::data::decode::{self, DecodeOptions, Notes};
use crate::data::images::{Image, ImageSet};
use crate::data::resize::Pixels;
use crate::data::similarity::Sketch;
use crate::events::{CancellationToken, Task};
use crate::store::Digest;
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// Largest number of images whose colors are measured at full size.
const COLOR_SAMPLE: usize = 1000;

/// Statistics of one image.
#[derive(Debug, PartialEq)]
pub(super) struct Look {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) format: &'static str,
    pub(super) notes: Notes,
    pub(super) sketch: Sketch,
    /// Digest of the thumbnail: equal images that were decoded alike have the same.
    pub(super) thumbnail: Digest,
    pub(super) descriptor: Descriptor,
    /// Of the sample alone.
    pub(super) colors: Option<Colors>,
}

/// Means over all pixels by channel, in 0..1.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Colors {
    pub(super) mean: [f64; 3],
    pub(super) mean_square: [f64; 3],
}

/// Looks at each of the images, which are sorted by digest, or takes the look that is remembered.
/// Returns also how many were looked at. An image that can't be decoded has a reason instead.
pub(super) fn look_at(
    images: &ImageSet,
    distinct: &[&Image],
    remembered: Option<&Remembered>,
    task: &Task,
    cancel: &CancellationToken,
) -> Result<(Vec<Result<Look, String>>, u64), DataError> {
    let known = remembered.map_or_else(Known::default, Remembered::known);
    let new = AtomicU64::new(0);
    let one = |(at, image): (usize, &&Image)| {
        if cancel.is_cancelled() {
            return Err(DataError::Cancelled);
        }
        // Of the first digests: a random sample, which changes little when images are added.
        let with_colors = at < COLOR_SAMPLE;
        let look = match known.find(&image.digest) {
            Some(look) if !with_colors => Ok(Look { colors: None, ..look }),
            Some(look) if look.colors.is_some() => Ok(look),
            _ => {
                new.fetch_add(1, Ordering::Relaxed);
                let look = |bytes: Vec<u8>| look(&bytes, with_colors);
                match images.read(image).and_then(look) {
                    Ok(look) => Ok(look),
                    Err(DataError::Unreadable(reason)) => Err(reason),
                    Err(other) => return Err(other),
                }
            }
        };
        task.advance(1);
        Ok(look)
    };
    let looks: Result<Vec<Result<Look, String>>, DataError> =
        distinct.par_iter().enumerate().map(one).collect();
    let (looks, new) = (looks?, new.into_inner());
    let is_same = new == 0 && known.len() == looks.len();
    // Its memory isn't needed while the looks are written.
    drop(known);
    if let Some(remembered) = remembered.filter(|_| !is_same) {
        remembered.put(distinct, &looks);
    }
    Ok((looks, new))
}

fn look(bytes: &[u8], with_colors: bool) -> Result<Look, DataError> {
    let glance = decode::glance(bytes, DecodeOptions::default())?;
    let colors = match with_colors {
        true => Some(colors(&decode::decode(bytes, DecodeOptions::default())?.pixels)),
        false => None,
    };
    Ok(Look {
        width: glance.width,
        height: glance.height,
        format: glance.format,
        notes: glance.notes,
        sketch: Sketch::of(&glance.thumbnail),
        thumbnail: Digest::of(glance.thumbnail.pixels()),
        descriptor: Descriptor::of(&glance.thumbnail),
        colors,
    })
}

fn colors(pixels: &Pixels) -> Colors {
    let Pixels { bytes, width, height, channels } = pixels;
    // Integer sums are exact.
    let (mut sums, mut squares) = ([0u64; 3], [0u64; 3]);
    for pixel in bytes.chunks_exact(*channels) {
        for (channel, &value) in pixel.iter().enumerate().take(3) {
            sums[channel] += u64::from(value);
            squares[channel] += u64::from(value) * u64::from(value);
        }
    }
    if *channels == 1 {
        (sums, squares) = ([sums[0]; 3], [squares[0]; 3]);
    }
    let count = f64::from(*width) * f64::from(*height);
    Colors {
        mean: sums.map(|sum| sum as f64 / count / 255.0),
        mean_square: squares.map(|sum| sum as f64 / count / 65_025.0),
    }
}
