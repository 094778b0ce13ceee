//! The disk space that a `fetch` stage needs, and the images that it will list, as far as sources
//! say before they are fetched.

use super::{FetchOptions, archive, dataset, folder, hub, kaggle, remote, weights};
use crate::data::images::{self, Image, LISTING};
use crate::data::source::{self, Source};
use crate::download::Address;
use crate::engine::{Estimate, Known};
use crate::nn::weights::{Preset, registry};
use crate::nn::{self, Head};
use crate::store::Digest;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a drawn image, about.
const DRAWN: u64 = 10_000;

pub(super) fn estimate(options: &FetchOptions, known: &Known) -> Estimate {
    let Ok(source) = source::parse(&options.source.0) else { return Estimate::default() };
    let fetched = known.artifact.and_then(|artifact| {
        let path = artifact.join(LISTING);
        images::read_listing(&std::fs::read(&path).ok()?, &path).ok()
    });
    let estimate = of_source(&source, options, known);
    match fetched {
        Some(list) => Estimate { bytes: estimate.bytes, ..of_images(list) },
        None => estimate,
    }
}

fn of_source(source: &Source, options: &FetchOptions, known: &Known) -> Estimate {
    // Beside what is downloaded, what it becomes.
    let twice = |bytes: Option<u64>| bytes.map(|bytes| bytes.saturating_mul(2));
    let of_bytes = |bytes: Option<u64>| Estimate { bytes, ..Estimate::default() };
    let length = |path: &Path| std::fs::metadata(path).ok().map(|found| found.len());
    let memo = known.store.memo();
    match source {
        Source::Garments => {
            let images = options.synthetic.total();
            let bytes = Some(images.saturating_mul(DRAWN));
            Estimate { bytes, images: Some(images), ..Estimate::default() }
        }
        Source::Path(path) if archive::is_images(path) || weights::is_weights(path) => {
            of_bytes(length(path))
        }
        Source::Path(_) => of_folder(known),
        Source::Torchvision(name) => {
            registry::preset(name).map_or_else(|_| of_bytes(None), of_weights)
        }
        Source::Web(url) => {
            let version = Address::parse(url).ok().and_then(|it| remote::kept(&it, memo).flatten());
            of_bytes(twice(version.and_then(|version| version.length)))
        }
        Source::Kaggle { .. } => {
            let pin = dataset(source).and_then(|set| kaggle::kept(&set, memo));
            of_bytes(twice(pin.and_then(|pin| pin.file.length)))
        }
        Source::Hub(source) => {
            let pin = hub::kept(source, memo);
            let size = pin.and_then(|pin| hub::selected_size(source, &pin, options, memo));
            of_bytes(twice(size))
        }
        // Replaced by a file before the plan is made.
        Source::Run { .. } => of_bytes(None),
    }
}

/// A folder that is read in place: only its listing is written.
fn of_folder(known: &Known) -> Estimate {
    let listed = folder::pinned_listing(&known.pin.facts, known.store.memo());
    let Some(bytes) = listed else { return Estimate::default() };
    let length = Some(bytes.len() as u64);
    match images::read_listing(&bytes, Path::new(LISTING)) {
        Ok(list) => Estimate { bytes: length, ..of_images(list) },
        Err(_) => Estimate { bytes: length, ..Estimate::default() },
    }
}

fn of_images(list: Vec<Image>) -> Estimate {
    let count = list.len() as u64;
    let mut digests: Vec<Digest> = list.into_iter().map(|image| image.digest).collect();
    digests.sort_unstable();
    digests.dedup();
    Estimate { images: Some(count), digests: Some(Arc::new(digests)), ..Estimate::default() }
}

/// Published weights: the download, and the converted file.
fn of_weights(preset: &Preset) -> Estimate {
    let side = Some(preset.resize);
    let info = nn::backbones().iter().find(|info| info.name == preset.backbone);
    let parameters = info.and_then(|info| {
        let graph = info.graph(&Head::Original, (info.input_size, info.input_size)).ok()?;
        Some(graph.parameter_count())
    });
    Estimate { bytes: parameters.map(|count| 2 * 4 * count), side, ..Estimate::default() }
}
