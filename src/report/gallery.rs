//! Images with their predictions: the misclassified ones of which the model is most confident, which
//! show wrong labels and hard images first, and the hits of which it is least confident.

use super::heat_maps::HeatMaps;
use super::html;
use super::scored::Scored;
use super::stored::StoredImages;
use super::thumbnail::{self, Size};
use crate::common::number::{counted, thousands};
use crate::draw::{percent, shorten};
use crate::metrics::Prediction;
use maud::{Markup, html};

/// The number of errors and of hits.
const MAX_GALLERY_ERRORS: usize = 24;
const MAX_HITS: usize = 12;

/// Where the images of an evaluation come from.
pub(super) struct GalleryImages<'a> {
    /// Distinguishes the evaluations of a page.
    pub(super) index: usize,
    pub(super) images: Option<&'a StoredImages>,
    pub(super) heat_maps: Option<HeatMaps<'a>>,
}

/// The wrong predictions, the most confident first. Empty without predictions.
pub(super) fn errors(scored: &Scored, sources: &GalleryImages, split: &str) -> Markup {
    let rows = scored.errors();
    match (rows.is_empty(), scored.len()) {
        (true, 0) => Markup::default(),
        (true, count) => html::note(&format!("None on {}.", counted(count as u64, &image(split)))),
        (false, _) => {
            let thing = format!("misclassified {}", image(split));
            let rows = &rows[..rows.len().min(MAX_GALLERY_ERRORS)];
            let count = shown(scored.errors().len(), MAX_GALLERY_ERRORS, &thing);
            gallery("errors", rows, sources, &format!("{count}, the most confident first."))
        }
    }
}

/// The right predictions, the least confident first. Empty where there are none.
pub(super) fn correct(scored: &Scored, sources: &GalleryImages, split: &str) -> Markup {
    let rows = scored.correct();
    if rows.is_empty() {
        return Markup::default();
    }
    let count = shown(rows.len(), MAX_HITS, &format!("correctly classified {}", image(split)));
    let rows = &rows[..rows.len().min(MAX_HITS)];
    gallery("hits", rows, sources, &format!("{count}, the least confident first."))
}

fn image(split: &str) -> String {
    format!("{split} image")
}

/// `12 of 345 things`, or `3 things` where all are shown.
pub(super) fn shown(count: usize, limit: usize, thing: &str) -> String {
    let all = counted(count as u64, thing);
    if count > limit { format!("{} of {all}", thousands(limit as u64)) } else { all }
}

/// Images with their captions, and where the network can be explained a switch to their heat maps,
/// which `name` and the evaluation tell from the others of the page.
fn gallery(name: &str, rows: &[&Prediction], sources: &GalleryImages, sentence: &str) -> Markup {
    let thumbnails = thumbnails(rows, sources.images, Size::Large);
    let overlays = match &sources.heat_maps {
        Some(heat_maps) => heat_maps.drawn(rows),
        None => vec![None; rows.len()],
    };
    html! {
        (html::note(sentence))
        @if thumbnails.iter().all(Option::is_none) { (html::note(GONE)) }
        @if overlays.iter().any(Option::is_some) { (switch(&format!("heat-{name}-{}", sources.index))) }
        .images {
            @for ((row, uri), overlay) in rows.iter().zip(&thumbnails).zip(&overlays) {
                (explained(row, uri.as_deref(), overlay.as_deref()))
            }
        }
    }
}

/// Chooses between images and heat maps.
fn switch(name: &str) -> Markup {
    html! {
        p.switch role="radiogroup" aria-label="Images or heat maps" {
            label { input.by-image type="radio" name=(name) checked; "images" }
            label { input.by-heat type="radio" name=(name); "where the predicted class is seen (Grad-CAM)" }
        }
    }
}

/// An image with its caption, and the same image under its heat map in the same place.
fn explained(row: &Prediction, uri: Option<&str>, overlay: Option<&str>) -> Markup {
    let (Some(uri), Some(overlay)) = (uri, overlay) else { return figure(row, uri, true) };
    let image = html! {
        (thumbnail::img(uri, &described(row), &row.path, Some("plain")))
        (thumbnail::img(overlay, &format!("Heat map of {}", described(row)), &row.path, Some("heat")))
    };
    thumbnail::figure_of(&image, &caption(row, true))
}

/// Said where images can't be shown.
const GONE: &str = "The images themselves aren't in the store.";

/// The images of predictions; none for those that aren't in the store.
pub(super) fn thumbnails(
    rows: &[&Prediction],
    images: Option<&StoredImages>,
    size: Size,
) -> Vec<Option<String>> {
    let paths: Vec<&str> = rows.iter().map(|row| row.path.as_str()).collect();
    images.map_or_else(|| vec![None; rows.len()], |images| images.thumbnails(&paths, size))
}

/// An image with its probability and path, and its classes where they differ from one to the next.
pub(super) fn figure(row: &Prediction, uri: Option<&str>, with_classes: bool) -> Markup {
    thumbnail::figure(uri, &described(row), &row.path, &caption(row, with_classes))
}

fn caption(row: &Prediction, with_classes: bool) -> Markup {
    let label = row.label.as_deref().unwrap_or_default();
    html! {
        @if with_classes { b { (shorten(&row.prediction, 40)) } " " }
        (percent(f64::from(row.probability)))
        @if with_classes && label != row.prediction { span.soft { "is " (shorten(label, 40)) } }
        span.soft.path title=(row.path) { (shorten(&row.path, 40)) }
    }
}

/// An image for those who can't see it.
fn described(row: &Prediction) -> String {
    let label = row.label.as_deref().unwrap_or_default();
    format!("{}: {label} predicted as {}", row.path, row.prediction)
}
