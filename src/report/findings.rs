//! Findings of an exploration as images: equal ones, with different labels and with the same, near
//! duplicates and unusual ones.

use super::exploration::part;
use super::html::{self, details};
use super::stored::StoredImages;
use super::thumbnail::{Size, figure, of_base64};
use crate::common::number::{counted, thousands};
use crate::draw::{percent, shorten};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Groups and images that are shown.
const MAX_SHOWN: usize = 24;
/// Paths of a group of equal images.
const MAX_PATHS: usize = 3;

/// The small images of a data set: those that the exploration drew, by path, as JPEG in base64, else
/// those of the tensor cache.
pub(super) struct Thumbnails {
    pub(super) drawn: BTreeMap<String, String>,
    pub(super) stored: Option<StoredImages>,
}

impl Thumbnails {
    fn uri(&self, path: &str) -> Option<String> {
        let stored = || self.stored.as_ref()?.thumbnail(path, Size::Large);
        self.drawn.get(path).map(|text| of_base64(text)).or_else(stored)
    }
}

#[derive(Deserialize)]
struct Duplicates {
    contradictory: u64,
    #[serde(default)]
    count: u64,
    #[serde(default)]
    examples: Vec<Vec<String>>,
    #[serde(default)]
    conflicts: Vec<Vec<[String; 2]>>,
}

#[derive(Deserialize)]
struct NearDuplicates {
    pairs: u64,
    #[serde(default)]
    examples: Vec<NearDuplicate>,
}

#[derive(Deserialize)]
struct NearDuplicate {
    paths: [String; 2],
    #[serde(default)]
    classes: [Option<String>; 2],
}

#[derive(Deserialize)]
struct Unusual {
    path: String,
    #[serde(default)]
    class: Option<String>,
    by: String,
}

#[derive(Deserialize)]
struct Cropped {
    fit: String,
    median: f64,
    over_a_quarter: u64,
}

/// The findings, the most important first.
pub(super) fn images(found: &Value, thumbnails: &Thumbnails) -> Markup {
    html! {
        (conflicts(found, thumbnails))
        (duplicates(found, thumbnails))
        (near_duplicates(found, thumbnails))
        (cropped(found))
        (unusual(found, thumbnails))
    }
}

/// An image with its caption; nothing where it wasn't drawn.
fn drawn(thumbnails: &Thumbnails, path: &str, caption: &Markup) -> Markup {
    html! {
        @if let Some(uri) = thumbnails.uri(path) { (figure(Some(&uri), path, path, caption)) }
    }
}

/// Figures, or pairs of them, that open on a click.
fn gallery(title: &str, class: &str, figures: &[Markup]) -> Markup {
    let content = html! {
        @if figures.iter().any(|one| !html::is_empty(one)) {
            div class=(class) { @for one in figures { (one) } }
        }
    };
    details(title, &content)
}

fn labelled(class: Option<&str>, path: &str) -> Markup {
    html! { b { (shorten(class.unwrap_or("without a label"), 40)) } span.soft { (shorten(path, 40)) } }
}

fn conflicts(found: &Value, thumbnails: &Thumbnails) -> Markup {
    let Some(duplicates) = part::<Duplicates>(found, "duplicates") else { return html! {} };
    let figures: Vec<Markup> = duplicates
        .conflicts
        .iter()
        .flatten()
        .take(2 * MAX_SHOWN)
        .map(|[path, class]| drawn(thumbnails, path, &labelled(Some(class), path)))
        .collect();
    let count = counted(duplicates.contradictory, "image");
    gallery(&format!("Equal images with different labels ({count})"), "images", &figures)
}

/// Equal images: one of each group, with the paths of all.
fn duplicates(found: &Value, thumbnails: &Thumbnails) -> Markup {
    let Some(duplicates) = part::<Duplicates>(found, "duplicates") else { return html! {} };
    let group = |paths: &Vec<String>| {
        let Some(first) = paths.first() else { return Markup::default() };
        let more = paths.len().saturating_sub(MAX_PATHS);
        let caption = html! {
            b { (counted(paths.len() as u64, "equal file")) }
            @for path in paths.iter().take(MAX_PATHS) { span.soft.path title=(path) { (shorten(path, 40)) } }
            @if more > 0 { span.soft { "and " (thousands(more as u64)) " more" } }
        };
        drawn(thumbnails, first, &caption)
    };
    let figures: Vec<Markup> = duplicates.examples.iter().take(MAX_SHOWN).map(group).collect();
    let count = counted(duplicates.count, "image");
    gallery(&format!("Images equal to an earlier one ({count})"), "images", &figures)
}

fn near_duplicates(found: &Value, thumbnails: &Thumbnails) -> Markup {
    let Some(near) = part::<NearDuplicates>(found, "near_duplicates") else { return html! {} };
    let pair = |one: &NearDuplicate| {
        let both = one.paths.iter().zip(&one.classes);
        let both: Vec<Markup> = both
            .map(|(path, class)| drawn(thumbnails, path, &labelled(class.as_deref(), path)))
            .filter(|drawn| !html::is_empty(drawn))
            .collect();
        html! { @if !both.is_empty() { .two { @for one in both { (one) } } } }
    };
    let figures: Vec<Markup> = near.examples.iter().take(MAX_SHOWN).map(pair).collect();
    let title = "Images that differ only by size or compression";
    gallery(&format!("{title} ({})", counted(near.pairs, "pair")), "images pairs", &figures)
}

fn cropped(found: &Value) -> Markup {
    let Some(cropped) = part::<Cropped>(found, "cropped") else { return html! {} };
    html! {
        @if cropped.over_a_quarter > 0 {
            (html::note(&format!(
                "With `fit = \"{}\"`, more than a quarter of {} is cut off; half of all images lose {} or more.",
                cropped.fit, counted(cropped.over_a_quarter, "image"), percent(cropped.median)
            )))
        }
    }
}

fn unusual(found: &Value, thumbnails: &Thumbnails) -> Markup {
    let all: Vec<Unusual> = part(found, "unusual").unwrap_or_default();
    let figures: Vec<Markup> = all
        .iter()
        .take(MAX_SHOWN)
        .map(|one| {
            let caption = html! {
                b { (shorten(one.class.as_deref().unwrap_or("all images"), 40)) } " by " (one.by)
                span.soft { (shorten(&one.path, 40)) }
            };
            drawn(thumbnails, &one.path, &caption)
        })
        .collect();
    let title = "The most unusual images of their classes";
    gallery(&format!("{title} ({})", thousands(all.len() as u64)), "images", &figures)
}
