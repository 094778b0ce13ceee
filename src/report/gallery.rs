//! Images with their predictions: the misclassified ones of which the model is most confident, which
//! show wrong labels and hard images first, and the hits of which it is least confident.

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

/// The wrong predictions, the most confident first. Empty without predictions.
pub(super) fn errors(scored: &Scored, images: Option<&StoredImages>, split: &str) -> Markup {
    let rows = scored.errors();
    match (rows.is_empty(), scored.len()) {
        (true, 0) => Markup::default(),
        (true, count) => html::note(&format!("None on {}.", counted(count as u64, &image(split)))),
        (false, _) => {
            let count =
                shown(rows.len(), MAX_GALLERY_ERRORS, &format!("misclassified {}", image(split)));
            gallery(
                &rows,
                MAX_GALLERY_ERRORS,
                images,
                &format!("{count}, the most confident first."),
            )
        }
    }
}

/// The right predictions, the least confident first. Empty where there are none.
pub(super) fn correct(scored: &Scored, images: Option<&StoredImages>, split: &str) -> Markup {
    let rows = scored.correct();
    if rows.is_empty() {
        return Markup::default();
    }
    let count = shown(rows.len(), MAX_HITS, &format!("correctly classified {}", image(split)));
    gallery(&rows, MAX_HITS, images, &format!("{count}, the least confident first."))
}

fn image(split: &str) -> String {
    format!("{split} image")
}

/// `12 of 345 things`, or `3 things` where all are shown.
pub(super) fn shown(count: usize, limit: usize, thing: &str) -> String {
    let all = counted(count as u64, thing);
    if count > limit { format!("{} of {all}", thousands(limit as u64)) } else { all }
}

fn gallery(
    rows: &[&Prediction],
    limit: usize,
    images: Option<&StoredImages>,
    sentence: &str,
) -> Markup {
    let rows = &rows[..rows.len().min(limit)];
    let thumbnails = thumbnails(rows, images, Size::Large);
    html! {
        (html::note(sentence))
        @if thumbnails.iter().all(Option::is_none) { (html::note(GONE)) }
        .images { @for (row, uri) in rows.iter().zip(&thumbnails) { (figure(row, uri.as_deref(), true)) } }
    }
}

/// Said where images can't be shown.
const GONE: &str = "The images themselves are no longer in the store.";

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
    let label = row.label.as_deref().unwrap_or_default();
    let caption = html! {
        @if with_classes { b { (shorten(&row.prediction, 40)) } " " }
        (percent(f64::from(row.probability)))
        @if with_classes && label != row.prediction { span.soft { "is " (shorten(label, 40)) } }
        span.soft.path title=(row.path) { (shorten(&row.path, 40)) }
    };
    let alt = format!("{}: {label} predicted as {}", row.path, row.prediction);
    thumbnail::figure(uri, &alt, &row.path, &caption)
}
