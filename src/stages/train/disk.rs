//! The disk space that a `train` stage needs, and, where only features of a frozen backbone are read
//! again and again, what they take beside the images.

use crate::common::number::{bytes, counted};
use crate::data::tensor_cache::Storage;
use crate::engine::{Estimate, Known};
use crate::nn::{self, Head};
use crate::training::Options;

/// Copies of the parameters on disk at a time: the model, a checkpoint, and the optimizer's two
/// moments in it.
const COPIES: u64 = 4;
/// The quality of JPEG records by default.
const QUALITY: u8 = 95;

pub(super) fn estimate(options: &Options, known: &Known) -> Estimate {
    let info = nn::backbones().iter().find(|info| info.name == options.backbone);
    let Some(info) = info else { return Estimate::default() };
    let size = (info.input_size, info.input_size);
    let parameters = info.graph(&Head::Original, size).map(|graph| graph.parameter_count());
    let data = known.inputs.get("data").map(|input| &input.estimate);
    let images = data.and_then(|data| data.images);
    let views = cached_views(options);
    let features =
        images.zip(views).map(|(images, views)| images * views * 4 * info.features as u64);
    let sentence = images
        .zip(data.and_then(|data| data.side))
        .zip(features.filter(|_| options.augmentation().is_none()))
        .map(|((images, side), features)| {
            let [raw, jpeg] = [Storage::Raw, Storage::Jpeg { quality: QUALITY }]
                .map(|storage| bytes(images * storage.estimated_bytes(side)));
            format!(
                "the features of {} take {} on disk; the images themselves {raw} as raw pixels, about {jpeg} \
                 with `store = \"jpeg\"`",
                counted(images, "image"),
                bytes(features)
            )
        });
    let model = parameters.ok().map(|count| COPIES * 4 * count);
    // Without a number of images the features aren't known.
    let known_features = if views.is_some() { features } else { Some(0) };
    let bytes = model.zip(known_features).map(|(model, features)| model + features);
    Estimate { bytes, sentence, ..Estimate::default() }
}

/// The number of views of each image whose features are cached; none without a cache.
fn cached_views(options: &Options) -> Option<u64> {
    if !options.backbone_frozen(1) {
        return None;
    }
    match options.augmentation() {
        None => Some(1),
        Some(policy) => policy.views,
    }
}
