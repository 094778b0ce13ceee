//! What the images are like: classes and how unequal, sizes, formats, what could not be read. Reads `explore.json` as
//! far as it understands it: a part that is missing or of another form is left out.

use super::html::{self, Column, Table, details, side_by_side, tiles};
use crate::common::number::thousands;
use crate::draw::{Bar, Bars, Bin, Histogram, percent};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::cmp::Reverse;

/// Classes in the chart, rejected images in the table.
const MOST_CLASSES: usize = 40;
const MOST_REJECTED: usize = 50;

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

/// A part of the exploration, where it is there in the form expected.
fn part<T: DeserializeOwned>(found: &Value, key: &str) -> Option<T> {
    T::deserialize(found.get(key)?).ok()
}

/// The plots of an exploration.
pub(super) fn plots(found: &Value) -> String {
    let classes: Vec<Class> = part(found, "classes").unwrap_or_default();
    let rejected: Option<Rejected> = part(found, "rejected");
    let facts = tiles(&facts(found, &classes, rejected.as_ref()));
    let sides = histogram(found, "shorter_side", "Sizes", "shorter side, pixels");
    let shapes = histogram(found, "aspect_ratio", "Shapes", "width / height");
    let right = [sides, shapes, formats(found)].concat();
    let charts = side_by_side(&[class_bars(classes), right]);
    let rejected = rejected.map_or_else(String::new, |rejected| rejected_table(&rejected));
    format!("{facts}{charts}{rejected}")
}

fn facts(
    found: &Value,
    classes: &[Class],
    rejected: Option<&Rejected>,
) -> Vec<(&'static str, String)> {
    let number = |key: &str| found.get(key).and_then(Value::as_u64);
    let mut facts = Vec::new();
    if let Some(images) = number("images") {
        facts.push(("Images", thousands(images)));
    }
    if let Some(unlabelled) = number("unlabelled").filter(|count| *count > 0) {
        facts.push(("Without a label", thousands(unlabelled)));
    }
    let smallest = classes.iter().map(|class| class.count).min().unwrap_or(0);
    let largest = classes.iter().map(|class| class.count).max().unwrap_or(0);
    if smallest > 0 {
        facts.push(("Class imbalance", format!("{:.1} : 1", largest as f64 / smallest as f64)));
    }
    if let Some(rejected) = rejected {
        facts.push(("Unreadable", thousands(rejected.count)));
    }
    if let Some(twice) =
        found.pointer("/duplicates/count").and_then(Value::as_u64).filter(|count| *count > 0)
    {
        facts.push(("Copies of others", thousands(twice)));
    }
    for (key, name) in [("mean", "Mean RGB"), ("std", "RGB deviation")] {
        if let Some(channels) = part::<[f64; 3]>(found, key) {
            facts.push((name, channels.map(|channel| format!("{:.0}", channel * 255.0)).join(" ")));
        }
    }
    facts
}

fn class_bars(mut classes: Vec<Class>) -> String {
    classes.sort_by_key(|class| Reverse(class.count));
    let total: u64 = classes.iter().map(|class| class.count).fold(0, u64::saturating_add);
    let count = classes.len();
    if count > MOST_CLASSES {
        // Both ends tell how unequal the classes are; the middle doesn't.
        classes.drain(MOST_CLASSES / 2..count - MOST_CLASSES / 2);
    }
    let bar = |class: Class| Bar {
        hover: format!(
            "{}: {} images, {}",
            class.class,
            thousands(class.count),
            percent(class.count as f64 / total.max(1) as f64)
        ),
        value: class.count as f64,
        text: thousands(class.count),
        name: class.class,
        ..Bar::default()
    };
    let title = match count > MOST_CLASSES {
        true => format!(
            "Images of each class, the {0} largest and {0} smallest of {count}",
            MOST_CLASSES / 2
        ),
        false => "Images of each class".to_owned(),
    };
    let bars = classes.into_iter().map(bar).collect();
    Bars { title, about: "Images of each class".to_owned(), bars, full: None }.draw()
}

fn histogram(found: &Value, key: &str, title: &str, x: &str) -> String {
    let ranges: Vec<Range> = part(found, key).unwrap_or_default();
    let bins = ranges
        .into_iter()
        .take(200)
        .map(|Range { low, high, count }| Bin { low, high, count })
        .collect();
    Histogram { title: title.to_owned(), x: x.to_owned(), bins }.draw()
}

fn formats(found: &Value) -> String {
    let mut formats: Vec<Format> = part(found, "formats").unwrap_or_default();
    formats.sort_by_key(|format| Reverse(format.count));
    let bar = |format: Format| Bar {
        name: format.format,
        value: format.count as f64,
        text: thousands(format.count),
        ..Bar::default()
    };
    let bars = formats.into_iter().take(12).map(bar).collect();
    Bars {
        title: "Formats".to_owned(),
        about: "Images of each format".to_owned(),
        bars,
        full: None,
    }
    .draw()
}

fn rejected_table(rejected: &Rejected) -> String {
    let mut table = Table::new(&[("Image", Column::Text), ("Why it was left out", Column::Text)]);
    for image in rejected.examples.iter().take(MOST_REJECTED) {
        table.row(&[image.path.clone(), image.reason.clone()]);
    }
    let more = rejected.count.saturating_sub(rejected.examples.len().min(MOST_REJECTED) as u64);
    let more = if more > 0 {
        html::note(&format!("And {} more.", thousands(more)))
    } else {
        String::new()
    };
    let table = table.html();
    if table.is_empty() {
        table
    } else {
        details("Images that could not be read", &format!("<div>{table}{more}</div>"))
    }
}
