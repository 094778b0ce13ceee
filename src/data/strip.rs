//! Training images as the network sees them: the center crop of each, and some of its augmented
//! views, as 8-bit colors.

use super::normalization::Normalization;
use super::order::shuffled;
use super::{Augmentation, AugmentationPolicy, DataError, Preprocessing, Split, TensorCache};
use crate::common::replace::replace_file;
use crate::store::Digest;
use image::{ImageFormat, RgbImage, imageops};
use std::io::Cursor;
use std::path::Path;

/// Pixels between two images of a drawn strip.
const GAP: u32 = 4;

/// Some images with their views.
pub struct Strip {
    /// Side of the network's input, in pixels.
    pub side: u32,
    pub images: Vec<StripImage>,
}

/// An image and its views, each of `side * side * 3` bytes of RGB, row by row.
pub struct StripImage {
    pub path: String,
    pub class: Option<String>,
    /// As it is seen without augmentation.
    pub plain: Vec<u8>,
    /// As it is seen in the first epochs.
    pub views: Vec<Vec<u8>>,
}

/// How a strip is made.
#[derive(Clone, Copy)]
pub struct StripOptions<'a> {
    /// None without augmentation: then there are no views.
    pub policy: Option<&'a AugmentationPolicy>,
    /// The seed of the run.
    pub seed: u64,
    /// Number of images at most.
    pub images: usize,
    /// Number of views of each.
    pub views: usize,
}

impl StripOptions<'_> {
    /// The views of a stored square in the first epochs, exactly as the loader makes them.
    fn of_square(
        &self,
        square: &[u8],
        record: Digest,
        preprocessing: &Preprocessing,
    ) -> (Vec<u8>, Vec<Vec<u8>>) {
        let normalization = Normalization::new(preprocessing);
        let frame = normalization.frame();
        let made = |policy: &AugmentationPolicy, epoch: u64| {
            let augmentation = Augmentation { policy: policy.clone(), seed: self.seed, epoch };
            let stream = augmentation.stream(augmentation.view(0), record);
            let mut out = vec![0.0; frame.crop * frame.crop * 3];
            policy.apply(square, &frame, stream, &mut out);
            out.into_iter().map(|level| level.round() as u8).collect()
        };
        let plain = made(&AugmentationPolicy::default(), 0);
        let policy = self.policy.filter(|policy| !policy.is_none());
        let views = policy.map(|policy| (1..=self.views as u64).map(|epoch| made(policy, epoch)));
        (plain, views.into_iter().flatten().collect())
    }

    /// Adds the stored square of an image to a strip; `record` is the digest of its record.
    pub fn add(
        &self,
        strip: &mut Strip,
        path: &str,
        class: Option<&str>,
        (square, record): (&[u8], Digest),
        preprocessing: &Preprocessing,
    ) {
        let (plain, views) = self.of_square(square, record, preprocessing);
        let (path, class) = (path.to_owned(), class.map(str::to_owned));
        strip.images.push(StripImage { path, class, plain, views });
    }
}

/// The first training images of a tensor cache in the order of the first epoch.
pub fn strip_of_cache(cache: &TensorCache, options: &StripOptions) -> Result<Strip, DataError> {
    let preprocessing = &cache.info().preprocessing;
    let mut strip = Strip { side: preprocessing.crop, images: Vec::new() };
    let order = shuffled(cache.of_split(Split::Train), options.seed, 1);
    for sample in order.into_iter().take(options.images).map(|at| &cache.samples()[at]) {
        let class = sample.class.and_then(|class| cache.info().classes.get(class as usize));
        let square = cache.record(sample.record)?;
        let record = cache.record_digest(sample.record).unwrap_or(sample.image_digest);
        let square = (&*square, record);
        options.add(&mut strip, &sample.path, class.map(String::as_str), square, preprocessing);
    }
    Ok(strip)
}

impl Strip {
    /// Writes the strip as a PNG image: a row for each image, the plain one first.
    pub fn write_png(&self, path: &Path) -> Result<(), DataError> {
        let step = self.side + GAP;
        let columns = self.images.first().map_or(1, |one| one.views.len() as u32 + 1);
        let (width, height) = (columns * step - GAP, self.images.len() as u32 * step - GAP);
        let mut drawn = RgbImage::from_pixel(width, height, image::Rgb([255; 3]));
        for (row, one) in (0u32..).zip(&self.images) {
            for (column, pixels) in (0u32..).zip(std::iter::once(&one.plain).chain(&one.views)) {
                if let Some(view) = RgbImage::from_raw(self.side, self.side, pixels.clone()) {
                    let at = [column, row].map(|index| i64::from(index * step));
                    imageops::replace(&mut drawn, &view, at[0], at[1]);
                }
            }
        }
        let mut png = Cursor::new(Vec::new());
        drawn
            .write_to(&mut png, ImageFormat::Png)
            .map_err(std::io::Error::other)
            .and_then(|()| replace_file(path, png.get_ref()))
            .map_err(|error| DataError::io("write", path, error))
    }
}
