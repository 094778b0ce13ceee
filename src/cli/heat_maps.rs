//! The heat maps on the pages of runs, which models draw.

use crate::model::Model;
use crate::report::Explained;
use image::RgbImage;
use std::path::Path;

/// Draws the heat map of each image over it, with the model in `file`. `None` where that model has no
/// feature map to explain, was trained on squares of another size, or can't be read: pages leave out
/// what they can't show.
pub(super) fn explain(file: &Path, images: &[Explained]) -> Option<Vec<RgbImage>> {
    let model = Model::open(file).ok()?;
    let index = |class: &str| model.classes().iter().position(|known| known == class);
    let classes: Vec<usize> =
        images.iter().map(|image| index(image.class)).collect::<Option<_>>()?;
    let squares: Vec<&[u8]> = images.iter().map(|image| image.square.as_slice()).collect();
    let maps = model.explain(&squares, &classes).ok()?;
    let overlays = maps.iter().zip(squares);
    overlays.map(|(map, square)| map.overlay(square, model.preprocessing())).collect()
}
