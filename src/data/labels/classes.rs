//! The list of classes: its order, and what is suspicious about it.

use super::{Labelling, is_below};
use crate::common::layout::{Layout, folder_at};
use crate::common::number::counted;
use crate::common::words::{and_list, shortened_list};
use crate::data::images::ImageSet;
use std::collections::BTreeMap;
use unicode_normalization::UnicodeNormalization;

/// Largest number of folders in a warning.
const SHOWN: usize = 5;

/// The index of each class as it is written, and the names. Classes with the same name are merged.
pub(super) fn ordered<'a>(
    written: &[Option<&'a str>],
    names: &BTreeMap<String, String>,
) -> (BTreeMap<&'a str, u32>, Vec<String>) {
    let mut found: Vec<&str> = written.iter().flatten().copied().collect();
    found.sort_unstable();
    found.dedup();
    sort_numbers(&mut found);
    let (mut order, mut classes) = (BTreeMap::new(), Vec::<String>::new());
    let mut indices = BTreeMap::<&str, u32>::new();
    for class in found {
        let name = names.get(class).map_or(class, String::as_str);
        let index = *indices.entry(name).or_insert_with(|| {
            classes.push(name.to_owned());
            classes.len() as u32 - 1
        });
        order.insert(class, index);
    }
    (order, classes)
}

/// Sorts by value if all are decimal numbers.
fn sort_numbers(found: &mut [&str]) {
    let is_number = |text: &str| {
        text.chars().all(|letter| matches!(letter, '0'..='9' | '.' | '-' | '+'))
            && text.parse::<f64>().is_ok_and(f64::is_finite)
    };
    if !found.iter().all(|class| is_number(class)) {
        return;
    }
    let integers: Option<Vec<i128>> = found.iter().map(|class| class.parse().ok()).collect();
    match integers {
        // Exact, where a `f64` isn't.
        Some(_) => found.sort_by_key(|class| class.parse::<i128>().unwrap_or_default()),
        None => found.sort_by(|a, b| {
            let value = |text: &str| text.parse::<f64>().unwrap_or_default();
            value(a).total_cmp(&value(b))
        }),
    }
}

/// A warning for each group of classes that differ only in case, blanks or Unicode form.
pub(super) fn alike(classes: &[String]) -> Vec<String> {
    let plain = |class: &str| {
        let text: String = class.nfkc().collect::<String>().to_lowercase().nfkc().collect();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for class in classes {
        groups.entry(plain(class)).or_default().push(class);
    }
    let alike = groups.into_values().filter(|group| group.len() > 1);
    alike
        .map(|group| {
            let shown: Vec<String> = group.iter().map(|class| visible(class)).collect();
            format!(
                "the classes {} differ only in case, blanks or Unicode form: if they are one, give them one name in class_names",
                and_list(shown.iter().map(String::as_str))
            )
        })
        .collect()
}

/// A class name with blanks at its ends and combining marks as escapes, so that names that look the
/// same on screen differ.
fn visible(class: &str) -> String {
    let trimmed = class.trim();
    let start = class.len() - class.trim_start().len();
    let (before, after) = (&class[..start], &class[start + trimmed.len()..]);
    let mut text = before.escape_unicode().to_string();
    for letter in trimmed.chars() {
        match unicode_normalization::char::is_combining_mark(letter) {
            true => text.extend(letter.escape_unicode()),
            false => text.push(letter),
        }
    }
    text.extend(after.escape_unicode());
    text
}

/// A warning that names the folders that would be classes if an image were in them.
pub(super) fn without_images(
    set: &ImageSet,
    labelling: &Labelling,
    layout: &Layout,
    order: &BTreeMap<&str, u32>,
) -> Option<String> {
    let level = labelling.rule.depth.map_or(layout.class_level, |depth| depth - 1);
    let mut folders: BTreeMap<&str, (u64, Option<&str>)> = BTreeMap::new();
    for skipped in set.skipped() {
        let is_split = layout.splits.is_empty() || layout.split(&skipped.path).is_some();
        let Some(folder) = folder_at(&skipped.path, level) else { continue };
        if is_below(&skipped.path, labelling.unlabelled) || !is_split || order.contains_key(folder)
        {
            continue;
        }
        let (count, first) = folders.entry(folder).or_default();
        if !skipped.path.ends_with('/') {
            *count += 1;
            first.get_or_insert(&skipped.path);
        }
    }
    if folders.is_empty() {
        return None;
    }
    let named = shortened_list(folders.keys().copied(), SHOWN);
    let examples: Vec<String> = folders
        .iter()
        .take(SHOWN)
        .map(|(folder, (count, first))| match first {
            Some(first) => {
                format!(
                    "`{folder}` has {} that can't be used, such as {first}",
                    counted(*count, "file")
                )
            }
            None => format!("`{folder}` is empty"),
        })
        .collect();
    Some(format!("no image is in {named}, so no class has this name: {}", examples.join("; ")))
}
