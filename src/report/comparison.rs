//! Several runs on a page: what they reached, where they were asked otherwise, whether the differences are more than
//! chance, their curves on one another.

use super::facts;
use super::headline::chosen;
use super::html::{self, Column, Table, duration, section, side_by_side};
use super::training::points;
use crate::common::number::thousands;
use crate::draw::{Bar, Bars, COLORS, Lines, Series, Unit, escape, percent};
use crate::metrics::{EpochRow, Evaluation};
use crate::runs::diff::{SplitDiff, diff};
use crate::runs::{Results, StageFacts, TrainingSide};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Runs on a page, parameters and classes in tables.
const MOST_RUNS: usize = 30;
const MOST_PARAMETERS: usize = 200;
const MOST_CLASSES: usize = 30;

/// What is read of a run once.
struct Side<'a> {
    results: &'a Results<'a>,
    evaluation: Option<Evaluation>,
    history: Option<(&'a StageFacts, Vec<EpochRow>)>,
}

impl Side<'_> {
    fn id(&self) -> &str {
        self.results.record().id.as_str()
    }
}

pub(super) fn page(runs: &[Results]) -> String {
    let sides: Vec<Side> = runs
        .iter()
        .take(MOST_RUNS)
        .map(|results| Side {
            results,
            evaluation: results.evaluations().into_iter().next().map(|(_, evaluation)| evaluation),
            history: results.histories().into_iter().next(),
        })
        .collect();
    let mut body = header(runs.len());
    body.push_str(&section("Accuracy", &format!("{}{}", accuracies(&sides), table(&sides))));
    body.push_str(&section("More than chance?", &tests(&sides)));
    body.push_str(&section("What was asked otherwise", &parameters(&sides)));
    body.push_str(&section("Training", &curves(&sides)));
    body.push_str(&section("Classes", &classes(&sides)));
    body.push_str(&facts::footer(
        &sides.iter().map(|side| side.results.record()).collect::<Vec<_>>(),
    ));
    html::page(&format!("{} runs compared", runs.len()), &body)
}

fn header(count: usize) -> String {
    let cut = if count > MOST_RUNS {
        format!(" The first {MOST_RUNS} are shown.")
    } else {
        String::new()
    };
    let held = if count > 0 {
        "The first is the one that the others are held against."
    } else {
        "There is nothing to compare."
    };
    format!(
        "<header><p class=\"eyebrow\">Comparison</p><h1>{count} runs</h1><p class=\"under\">{held}{cut}</p></header>\n"
    )
}

fn accuracies(sides: &[Side]) -> String {
    let bar = |side: &Side| {
        let (name, split) = chosen(side.evaluation.as_ref()?)?;
        Some(Bar {
            name: side.id().to_owned(),
            value: split.accuracy,
            interval: Some(split.accuracy_interval),
            text: percent(split.accuracy),
            hover: format!(
                "{}: {} on {} {name} images",
                side.id(),
                percent(split.accuracy),
                thousands(split.count)
            ),
            ..Bar::default()
        })
    };
    let bars = sides.iter().filter_map(bar).collect();
    let title = "Accuracy with its 95\u{202f}% interval".to_owned();
    Bars { title, about: "Accuracy of each run".to_owned(), bars, full: Some(1.0) }.draw()
}

fn table(sides: &[Side]) -> String {
    let mut table = Table::new(&[
        ("Run", Column::Text),
        ("Pipeline", Column::Text),
        ("Started", Column::Text),
        ("Outcome", Column::Text),
        ("Accuracy", Column::Number),
        ("95\u{202f}% interval", Column::Number),
        ("Images", Column::Number),
        ("Macro F1", Column::Number),
        ("Cross-entropy", Column::Number),
        ("Epoch kept", Column::Number),
        ("Time", Column::Number),
    ]);
    for side in sides {
        let record = side.results.record();
        let split = side.evaluation.as_ref().and_then(chosen);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        let best = side
            .history
            .as_ref()
            .and_then(|(stage, rows)| TrainingSide::of(side.results, stage, rows));
        let interval = |[low, high]: [f64; 2]| format!("{:.1} – {}", low * 100.0, percent(high));
        table.row_html(&[
            format!("<code>{}</code>", escape(side.id())),
            escape(&record.pipeline),
            record.started.to_string(),
            format!("<span class=\"state {0}\">{0}</span>", record.status.word()),
            or_dash(split.map(|(_, split)| format!("<b>{}</b>", percent(split.accuracy)))),
            or_dash(split.map(|(_, split)| interval(split.accuracy_interval))),
            or_dash(
                split.map(|(name, split)| format!("{} {}", thousands(split.count), escape(name))),
            ),
            or_dash(split.map(|(_, split)| format!("{:.3}", split.macro_average.f1))),
            or_dash(split.map(|(_, split)| format!("{:.3}", split.loss))),
            or_dash(best.map(|best| format!("{} of {}", best.kept_epoch, best.epochs))),
            duration(record.seconds),
        ]);
    }
    table.html()
}

/// The first run held against each of the others.
fn tests(sides: &[Side]) -> String {
    let Some((first, others)) = sides.split_first() else { return String::new() };
    let mut table = Table::new(&[
        ("Run", Column::Text),
        ("Accuracy", Column::Number),
        ("95\u{202f}% interval", Column::Number),
        ("Only the first right", Column::Number),
        ("Only this one right", Column::Number),
        ("p (McNemar)", Column::Number),
        ("In words", Column::Text),
    ]);
    for other in others {
        let difference = diff(first.results, other.results);
        let Some(split) = difference.splits.first() else { continue };
        let [low, high] = split.accuracy_difference_interval;
        let paired = |text: fn(&crate::runs::diff::PairedDiff) -> String| {
            split.paired.as_ref().map_or("–".to_owned(), text)
        };
        let class = if split.accuracy_difference > 0.0 { "better" } else { "worse" };
        table.row_html(&[
            format!("<code>{}</code>", escape(other.id())),
            format!("<span class=\"{class}\">{}</span>", points_of(split.accuracy_difference)),
            format!("{} to {}", points_of(low), points_of(high)),
            paired(|paired| thousands(paired.only_first)),
            paired(|paired| thousands(paired.only_second)),
            paired(|paired| p_value(paired.p_value)),
            verdict(split).to_owned(),
        ]);
    }
    let html = table.html();
    if html.is_empty() {
        return html;
    }
    let meaning = "Held against the first run, on the same images where both have predictions. p is how likely so uneven \
                   a split of the disagreements would be if both were equally good; of twenty comparisons of equals, one \
                   falls below 0.05.";
    format!("{}{html}", html::note(meaning))
}

fn verdict(split: &SplitDiff) -> &'static str {
    let [low, high] = split.accuracy_difference_interval;
    let sure = split.paired.map_or(low > 0.0 || high < 0.0, |paired| paired.p_value < 0.05);
    match (sure, split.accuracy_difference > 0.0) {
        (false, _) => "could be chance",
        (true, true) => "better",
        (true, false) => "worse",
    }
}

/// A difference of shares in points: `+1.5`.
fn points_of(difference: f64) -> String {
    // Not "-0.0".
    let points = (difference * 1000.0).round() / 10.0 + 0.0;
    format!("{points:+.1}").replace('-', "\u{2212}")
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

/// Parameters that aren't the same in all runs.
fn parameters(sides: &[Side]) -> String {
    let values: Vec<BTreeMap<String, String>> = sides.iter().map(asked).collect();
    let keys: BTreeSet<&String> = values.iter().flat_map(BTreeMap::keys).collect();
    let differs = |key: &&&String| {
        values
            .iter()
            .any(|side| side.get(**key) != values.first().and_then(|first| first.get(**key)))
    };
    let columns: Vec<(&str, Column)> = [("Parameter", Column::Text)]
        .into_iter()
        .chain(sides.iter().map(|side| (side.id(), Column::Text)))
        .collect();
    let mut table = Table::new(&columns);
    let differing: Vec<&String> = keys.iter().filter(differs).copied().collect();
    for key in differing.iter().take(MOST_PARAMETERS) {
        let cell = |side: &BTreeMap<String, String>| {
            side.get(*key).map_or_else(
                || "<span class=\"soft\">–</span>".to_owned(),
                |value| format!("<code>{}</code>", escape(value)),
            )
        };
        let name = format!("<code>{}</code>", escape(key));
        table.row_html(&std::iter::once(name).chain(values.iter().map(cell)).collect::<Vec<_>>());
    }
    let more = differing.len().saturating_sub(MOST_PARAMETERS);
    let more = if more > 0 { html::note(&format!("And {more} more.")) } else { String::new() };
    table.html() + &more
}

/// Everything asked of a run, by path: `train.head.dropout`.
fn asked(side: &Side) -> BTreeMap<String, String> {
    let record = side.results.record();
    let mut values = BTreeMap::from([("seed".to_owned(), record.seed.to_string())]);
    for stage in &record.stages {
        let mut leaves = Vec::new();
        facts::flatten(&stage.stage, &Value::Object(stage.parameters.clone()), &mut leaves);
        values.extend(leaves.into_iter().map(|(key, value)| (key, facts::cut(&value, 80))));
    }
    values
}

fn curves(sides: &[Side]) -> String {
    let histories: Vec<(&str, &[EpochRow])> = sides
        .iter()
        .filter_map(|side| Some((side.id(), side.history.as_ref()?.1.as_slice())))
        .take(COLORS)
        .collect();
    let chart = |title: &str, unit: Unit, value: fn(&EpochRow) -> Option<f64>| {
        let series = histories.iter().enumerate().map(|(color, (id, rows))| Series {
            name: (*id).to_owned(),
            color,
            dashed: false,
            points: points(rows, value),
        });
        Lines {
            title: title.to_owned(),
            x: "epoch".to_owned(),
            x_unit: Unit::Whole,
            y_unit: unit,
            series: series.filter(|series| !series.points.is_empty()).collect(),
            marks: Vec::new(),
        }
        .draw()
    };
    let of_all = sides.iter().filter(|side| side.history.is_some()).count();
    let cut = if of_all > COLORS {
        html::note(&format!("The curves of the first {COLORS} runs."))
    } else {
        String::new()
    };
    cut + &side_by_side(&[
        chart("Validation loss", Unit::Number, |row| row.validation_loss),
        chart("Validation accuracy", Unit::Share, |row| row.validation_accuracy),
        chart("Training loss", Unit::Number, |row| Some(row.train_loss)),
        chart("Training accuracy", Unit::Share, |row| Some(row.train_accuracy)),
    ])
}

/// F1 of the classes in which the runs differ most.
fn classes(sides: &[Side]) -> String {
    let f1: Vec<BTreeMap<&str, f64>> = sides
        .iter()
        .map(|side| {
            let split = side.evaluation.as_ref().and_then(chosen);
            split.map_or_else(BTreeMap::new, |(_, split)| {
                split.per_class.iter().map(|class| (class.class.as_str(), class.f1)).collect()
            })
        })
        .collect();
    let names: BTreeSet<&str> = f1.iter().flat_map(|side| side.keys().copied()).collect();
    let spread = |name: &str| {
        let of_name = || f1.iter().filter_map(|side| side.get(name));
        of_name().copied().fold(f64::NEG_INFINITY, f64::max)
            - of_name().copied().fold(f64::INFINITY, f64::min)
    };
    let mut names: Vec<(&str, f64)> = names.into_iter().map(|name| (name, spread(name))).collect();
    names.sort_by(|a, b| b.1.total_cmp(&a.1));
    let columns: Vec<(&str, Column)> = [("F1 of", Column::Text)]
        .into_iter()
        .chain(sides.iter().map(|side| (side.id(), Column::Number)))
        .collect();
    let mut table = Table::new(&columns);
    for (name, _) in names.iter().take(MOST_CLASSES) {
        let cell = |side: &BTreeMap<&str, f64>| {
            side.get(name).map_or_else(|| "–".to_owned(), |f1| format!("{f1:.3}"))
        };
        table.row(
            &std::iter::once((*name).to_owned()).chain(f1.iter().map(cell)).collect::<Vec<_>>(),
        );
    }
    let cut = names.len().saturating_sub(MOST_CLASSES);
    let rest = if cut > 0 {
        html::note(&format!("The {MOST_CLASSES} that differ most, of {}.", names.len()))
    } else {
        String::new()
    };
    rest + &table.html()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_in_points() {
        assert_eq!(
            [0.0, -0.0, 0.0154, -0.2, -0.00001].map(points_of),
            ["+0.0", "+0.0", "+1.5", "\u{2212}20.0", "+0.0"]
        );
        assert_eq!([0.0, 0.0005, 0.05, 1.0].map(p_value), ["< 0.001", "< 0.001", "0.050", "1.000"]);
    }
}
