//! Statistics of a data set: images of each class, sizes, formats, unreadable files. Parts of
//! `explore.json` that are missing or have an unexpected form are left out.

use super::findings::{self, Thumbnails};
use super::html::{self, Column, Table, details, side_by_side, tiles, with_code};
use crate::common::number::{counted, thousands};
use crate::draw::{Bar, BarChart, Bin, Histogram, percent};
use maud::{Markup, Render, html};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::cmp::Reverse;

const MAX_CLASSES: usize = 40;
const MAX_BINS: usize = 200;
const MAX_FORMATS: usize = 12;
const MAX_REJECTED: usize = 50;

#[derive(Deserialize)]
struct Class {
    class: String,
    count: u64,
}

#[derive(Deserialize)]
struct Range {
    low: f64,
    high: f64,
    count: u64,
}

#[derive(Deserialize)]
struct Format {
    format: String,
    count: u64,
}

#[derive(Deserialize)]
struct Rejected {
    count: u64,
    #[serde(default)]
    examples: Vec<RejectedImage>,
}

#[derive(Deserialize)]
struct RejectedImage {
    path: String,
    reason: String,
}

/// Files that aren't used for one reason.
#[derive(Deserialize)]
struct NotUsed {
    reason: String,
    count: u64,
    #[serde(default)]
    examples: Vec<String>,
}

/// The value of a key, where it is there in the form expected.
pub(super) fn part<T: DeserializeOwned>(found: &Value, key: &str) -> Option<T> {
    T::deserialize(found.get(key)?).ok()
}

/// The charts of an exploration, and its findings with small images.
pub(super) fn plots(found: &Value, thumbnails: &Thumbnails) -> Markup {
    let classes: Vec<Class> = part(found, "classes").unwrap_or_default();
    let rejected: Option<Rejected> = part(found, "rejected");
    let statistics = tiles(&statistics(found, &classes, rejected.as_ref()));
    let right = html! {
        (histogram(found, "shorter_side", "Sizes", "shorter side, pixels"))
        (histogram(found, "aspect_ratio", "Aspect ratios", "width / height"))
        (formats(found))
    };
    html! {
        (statistics)
        (side_by_side([class_bars(classes), right]))
        @for warning in part::<Vec<String>>(found, "warnings").unwrap_or_default() {
            (html::note(&warning))
        }
        (findings::images(found, thumbnails))
        @if let Some(rejected) = rejected { (rejected_table(&rejected)) }
        (not_used_table(&part::<Vec<NotUsed>>(found, "not_used").unwrap_or_default()))
    }
}

fn statistics(
    found: &Value,
    classes: &[Class],
    rejected: Option<&Rejected>,
) -> Vec<(&'static str, String)> {
    let number = |path: &str| found.pointer(path).and_then(Value::as_u64);
    let positive = |path: &str| number(path).filter(|count| *count > 0).map(thousands);
    let smallest = classes.iter().map(|class| class.count).min().unwrap_or(0);
    let largest = classes.iter().map(|class| class.count).max().unwrap_or(0);
    let imbalance = (smallest > 0).then(|| format!("{:.1} : 1", largest as f64 / smallest as f64));
    let color = |key: &str| {
        let channels: [f64; 3] = part(found, key)?;
        Some(channels.map(|channel| format!("{:.0}", channel * 255.0)).join(" "))
    };
    let statistics = [
        ("Images", number("/images").map(thousands)),
        ("Without a label", positive("/unlabelled")),
        ("Class imbalance", imbalance),
        ("Unreadable", rejected.map(|rejected| thousands(rejected.count))),
        ("Duplicates", positive("/duplicates/count")),
        ("Near duplicates", positive("/near_duplicates/pairs")),
        ("Mean RGB", color("mean")),
        ("RGB deviation", color("std")),
    ];
    statistics.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn class_bars(mut classes: Vec<Class>) -> Markup {
    classes.sort_by_key(|class| Reverse(class.count));
    let total: u64 = classes.iter().map(|class| class.count).fold(0, u64::saturating_add);
    let count = classes.len();
    let title = if count > MAX_CLASSES {
        // Both ends show the imbalance.
        let half = MAX_CLASSES / 2;
        classes.drain(half..count - half);
        let count = thousands(count as u64);
        format!("Images of each class, the {half} largest and {half} smallest of {count}")
    } else {
        "Images of each class".to_owned()
    };
    let bar = |class: Class| Bar {
        tooltip: format!(
            "{}: {}, {}",
            class.class,
            counted(class.count, "image"),
            percent(class.count as f64 / total.max(1) as f64)
        ),
        ..count_bar(class.class, class.count)
    };
    let bars = classes.into_iter().map(bar).collect();
    BarChart { title, description: "Images of each class".to_owned(), bars, max: None }.render()
}

fn count_bar(name: String, count: u64) -> Bar {
    Bar { name, value: count as f64, label: thousands(count), ..Bar::default() }
}

fn histogram(found: &Value, key: &str, title: &str, x_label: &str) -> Markup {
    let ranges: Vec<Range> = part(found, key).unwrap_or_default();
    let bins = ranges
        .into_iter()
        .take(MAX_BINS)
        .map(|Range { low, high, count }| Bin { low, high, count })
        .collect();
    Histogram { title: title.to_owned(), x_label: x_label.to_owned(), bins }.render()
}

fn formats(found: &Value) -> Markup {
    let mut formats: Vec<Format> = part(found, "formats").unwrap_or_default();
    formats.sort_by_key(|format| Reverse(format.count));
    let bar = |format: Format| count_bar(format.format, format.count);
    BarChart {
        title: "Formats".to_owned(),
        description: "Images of each format".to_owned(),
        bars: formats.into_iter().take(MAX_FORMATS).map(bar).collect(),
        max: None,
    }
    .render()
}

fn rejected_table(rejected: &Rejected) -> Markup {
    let mut table = Table::new(&[("Image", Column::Text), ("Reason", Column::Text)]);
    let shown = &rejected.examples[..rejected.examples.len().min(MAX_REJECTED)];
    for image in shown {
        table.row([image.path.render(), with_code(&image.reason)]);
    }
    let more = rejected.count.saturating_sub(shown.len() as u64);
    let content = html! {
        @if !shown.is_empty() {
            div {
                (table.render())
                @if more > 0 { (html::note(&format!("And {} more.", thousands(more)))) }
            }
        }
    };
    details("Images that could not be read", &content)
}

/// The other files that aren't used, by reason, with the first of each.
fn not_used_table(not_used: &[NotUsed]) -> Markup {
    let mut table = Table::new(&[
        ("Reason", Column::Text),
        ("Files", Column::Number),
        ("Such as", Column::Text),
    ]);
    for one in not_used {
        let first = one.examples.first().cloned().unwrap_or_default();
        table.row([with_code(&one.reason), thousands(one.count).render(), first.render()]);
    }
    html! {
        @if !not_used.is_empty() { (details("Other files that are not used", &table.render())) }
    }
}
