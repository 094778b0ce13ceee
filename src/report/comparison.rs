//! The comparison of several runs with the first: metrics, significance of the differences, changed
//! parameters, curves.

use super::changed_confusions;
use super::changed_images;
use super::headline::primary_split;
use super::html::{self, Column, Table, section, side_by_side};
use super::provenance::{self, cut, prefix};
use super::stages;
use super::training::points;
use crate::common::number::{seconds, thousands};
use crate::draw::{Axes, Bar, BarChart, COLORS, LineChart, Series, Unit, percent};
use crate::metrics::{EpochRow, Evaluation, SplitMetrics};
use crate::runs::diff::{Diff, PairedTest, SplitDiff, Verdict, diff, legends};
use crate::runs::{Record, Results, StageRecord, TrainingSummary};
use maud::{Markup, Render, html};
use std::collections::{BTreeMap, BTreeSet};

const MAX_RUNS: usize = 30;
const MAX_PARAMETERS: usize = 200;
const MAX_VALUE: usize = 80;
const MAX_CLASSES: usize = 30;

/// One of the runs, with the results that the page needs.
struct Side<'a> {
    results: &'a Results<'a>,
    /// The differences from the other runs.
    name: String,
    evaluation: Option<Evaluation>,
    history: Option<(&'a StageRecord, Vec<EpochRow>)>,
}

impl Side<'_> {
    fn of<'a>(results: &'a Results<'a>, name: String) -> Side<'a> {
        let evaluation = results.evaluations().into_iter().next().map(|(_, evaluation)| evaluation);
        Side { results, name, evaluation, history: results.histories().into_iter().next() }
    }

    fn record(&self) -> &Record {
        self.results.record()
    }

    fn id(&self) -> &str {
        self.record().id.as_str()
    }

    fn split(&self) -> Option<(&str, &SplitMetrics)> {
        primary_split(self.evaluation.as_ref()?)
    }
}

pub(super) fn page(runs: &[Results]) -> Markup {
    let runs_shown = &runs[..runs.len().min(MAX_RUNS)];
    let records: Vec<&Record> = runs_shown.iter().map(Results::record).collect();
    let names = legends(&records);
    let sides: Vec<Side> =
        runs_shown.iter().zip(names).map(|(results, name)| Side::of(results, name)).collect();
    let diffs: Vec<Diff> =
        sides.iter().skip(1).map(|other| diff(sides[0].results, other.results)).collect();
    let body = html! {
        (header(runs.len()))
        @for note in diffs.iter().flat_map(|diff| &diff.notes).collect::<BTreeSet<_>>() {
            (html::note(note))
        }
        (section("Accuracy", &html! { (accuracies(&sides)) (table(&sides)) }))
        (section("Statistical significance", &tests(&sides, &diffs)))
        (section("Changed predictions", &changed_predictions(&sides, &diffs)))
        (section("Changed confusions", &changed_confusions(&sides, &diffs)))
        (section("Changed parameters", &changed_parameters(&sides)))
        (section("Training", &curves(&sides)))
        (section("Classes", &classes(&sides)))
        (section("Stages", &stage_table(&sides)))
        (provenance::footer(&records))
    };
    html::page(&format!("{} runs compared", runs.len()), &body)
}

fn header(count: usize) -> Markup {
    html! {
        header {
            p.eyebrow { "Comparison" }
            h1 { (count) " runs" }
            p.under {
                @if count > 0 { "The others are compared with the first." } @else { "There is nothing to compare." }
                @if count > MAX_RUNS { " The first " (MAX_RUNS) " are shown." }
            }
        }
    }
}

fn accuracies(sides: &[Side]) -> Markup {
    let bar = |side: &Side| {
        let (name, split) = side.split()?;
        let (accuracy, images) = (percent(split.accuracy), thousands(split.count));
        Some(Bar {
            name: side.name.clone(),
            value: split.accuracy,
            interval: Some(split.accuracy_interval),
            tooltip: format!("{} ({}): {accuracy} on {images} {name} images", side.name, side.id()),
            label: accuracy,
        })
    };
    BarChart {
        title: "Accuracy with its 95\u{202f}% interval".to_owned(),
        description: "Accuracy of each run".to_owned(),
        bars: sides.iter().filter_map(bar).collect(),
        max: Some(1.0),
    }
    .render()
}

fn table(sides: &[Side]) -> Markup {
    let mut table = Table::new(&[
        ("Run", Column::Text),
        ("Differs in", Column::Text),
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
        let record = side.record();
        let status = record.status.as_str();
        let training = side
            .history
            .as_ref()
            .and_then(|(stage, rows)| TrainingSummary::of(side.results, stage, rows));
        let metric = |text: fn(&str, &SplitMetrics) -> String| {
            or_dash(side.split().map(|(name, split)| text(name, split)))
        };
        table.row([
            html! { code { (side.id()) } },
            side.name.render(),
            record.pipeline.render(),
            record.started.to_string().render(),
            html! { span.state.(status) { (status) } },
            match side.split() {
                Some((_, split)) => html! { b { (percent(split.accuracy)) } },
                None => "–".render(),
            },
            metric(|_, split| interval(split.accuracy_interval)),
            metric(|name, split| format!("{} {name}", thousands(split.count))),
            metric(|_, split| format!("{:.3}", split.macro_average.f1)),
            metric(|_, split| format!("{:.3}", split.loss)),
            or_dash(
                training.map(|training| format!("{} of {}", training.kept_epoch, training.epochs)),
            ),
            seconds(record.seconds).render(),
        ]);
    }
    table.render()
}

fn or_dash(text: Option<String>) -> Markup {
    text.as_deref().unwrap_or("–").render()
}

fn interval([low, high]: [f64; 2]) -> String {
    format!("{:.1} – {}", low * 100.0, percent(high))
}

/// Each run tested against the first.
fn tests(sides: &[Side], diffs: &[Diff]) -> Markup {
    let mut table = Table::new(&[
        ("Run", Column::Text),
        ("Accuracy", Column::Number),
        ("95\u{202f}% interval", Column::Number),
        ("Only the first correct", Column::Number),
        ("Only this one correct", Column::Number),
        ("p (McNemar)", Column::Number),
        ("Result", Column::Text),
    ]);
    for (other, difference) in sides.iter().skip(1).zip(diffs) {
        let Some(split) = difference.splits.first() else { continue };
        let paired = |text: fn(&PairedTest) -> String| or_dash(split.paired.as_ref().map(text));
        // Only a significant difference has a color, and only the same images have an interval.
        let class = match split.verdict {
            Verdict::Better => Some("better"),
            Verdict::Worse => Some("worse"),
            _ => None,
        };
        let interval = match split.paired.is_some_and(|test| test.same_images) {
            true => {
                let [low, high] = split.accuracy_difference_interval.map(points_of);
                format!("{low} to {high}")
            }
            false => "–".to_owned(),
        };
        table.row([
            other.name.render(),
            html! { span class=[class] { (or_dash(accuracy_change(split).map(points_of))) } },
            interval.render(),
            paired(|paired| thousands(paired.only_first)),
            paired(|paired| thousands(paired.only_second)),
            paired(|paired| p_value(paired.p_value)),
            split.verdict_text().render(),
        ]);
    }
    let table = table.render();
    let meaning = "Compared with the first run, in percentage points, on the test images that both runs have; validation images \
                   selected the epochs and give no verdict. p is the probability of disagreements at least as uneven if both models were equally \
                   good: at most one comparison of equal models in twenty has p below 0.05.";
    html! {
        @if !html::is_empty(&table) { (html::note(meaning)) (table) }
    }
}

/// The difference in accuracy on the images that both runs have; none where it says nothing.
fn accuracy_change(split: &SplitDiff) -> Option<f64> {
    let [first, second] = split.paired.filter(|_| split.allows_verdict())?.accuracies();
    Some(second - first)
}

/// A difference of shares in percentage points: `+1.5`, and `+0.0` for -0.0.
fn points_of(difference: f64) -> String {
    let points = (difference * 1000.0).round() / 10.0 + 0.0;
    format!("{points:+.1}").replace('-', "\u{2212}")
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

fn changed_predictions(sides: &[Side], diffs: &[Diff]) -> Markup {
    html! {
        @for (side, diff) in sides.iter().skip(1).zip(diffs) {
            (changed_images::galleries(&side.name, diff, side.results))
        }
    }
}

/// The confusions of each run that differ from the first one's.
fn changed_confusions(sides: &[Side], diffs: &[Diff]) -> Markup {
    html! {
        @for (side, diff) in sides.iter().skip(1).zip(diffs) {
            (changed_confusions::table(&side.name, diff))
        }
    }
}

/// Parameters that aren't the same in all runs.
fn changed_parameters(sides: &[Side]) -> Markup {
    let values: Vec<BTreeMap<String, String>> = sides.iter().map(parameters).collect();
    let keys: BTreeSet<&String> = values.iter().flat_map(BTreeMap::keys).collect();
    let is_changed =
        |key: &&String| values.windows(2).any(|pair| pair[0].get(*key) != pair[1].get(*key));
    let changed: Vec<&String> = keys.into_iter().filter(is_changed).collect();
    let mut table = Table::new(&columns("Parameter", sides, Column::Text));
    for key in changed.iter().take(MAX_PARAMETERS) {
        let cell = |side: &BTreeMap<String, String>| match side.get(*key) {
            Some(value) => html! { code { (value) } },
            None => html! { span.soft { "–" } },
        };
        table.row([html! { code { (key) } }].into_iter().chain(values.iter().map(cell)));
    }
    let more = changed.len().saturating_sub(MAX_PARAMETERS);
    html! {
        (table.render())
        @if more > 0 { (html::note(&format!("And {} more.", thousands(more as u64)))) }
    }
}

/// A column of names and one for each run.
fn columns<'a>(name: &'a str, sides: &'a [Side], of_run: Column) -> Vec<(&'a str, Column)> {
    let runs = sides.iter().map(|side| (side.name.as_str(), of_run));
    [(name, Column::Text)].into_iter().chain(runs).collect()
}

/// The seed and the parameters of all stages by path: `train.head.dropout`.
fn parameters(side: &Side) -> BTreeMap<String, String> {
    let record = side.record();
    let of_stages = record.stages.iter().flat_map(|stage| {
        let parameters = provenance::parameters(stage).into_iter();
        parameters.map(|(key, value)| (format!("{}.{key}", stage.stage), cut(&value, MAX_VALUE)))
    });
    [("seed".to_owned(), record.seed.to_string())].into_iter().chain(of_stages).collect()
}

fn curves(sides: &[Side]) -> Markup {
    let histories: Vec<(&str, &[EpochRow])> = sides
        .iter()
        .filter_map(|side| Some((side.name.as_str(), side.history.as_ref()?.1.as_slice())))
        .collect();
    let chart = |title: &str, unit: Unit, value: fn(&EpochRow) -> Option<f64>| {
        let series = histories.iter().take(COLORS).enumerate().map(|(color, (name, rows))| {
            Series { name: (*name).to_owned(), color, dashed: false, points: points(rows, value) }
        });
        LineChart {
            title: title.to_owned(),
            x_label: "epoch".to_owned(),
            x_unit: Unit::Whole,
            y_unit: unit,
            axes: Axes::Fitted,
            series: series.filter(|series| !series.points.is_empty()).collect(),
            markers: Vec::new(),
        }
        .render()
    };
    html! {
        @if histories.len() > COLORS { (html::note(&format!("The curves of the first {COLORS} runs."))) }
        (side_by_side([
            chart("Validation loss", Unit::Number, |row| row.validation_loss),
            chart("Validation accuracy", Unit::Share, |row| row.validation_accuracy),
            chart("Training loss", Unit::Number, |row| Some(row.train_loss)),
            chart("Training accuracy", Unit::Share, |row| Some(row.train_accuracy)),
        ]))
    }
}

/// The state, run time and output of each stage in each run; outputs that aren't the first run's
/// are in bold.
fn stage_table(sides: &[Side]) -> Markup {
    let mut names: Vec<&str> = Vec::new();
    for stage in sides.iter().flat_map(|side| &side.record().stages) {
        if !names.contains(&stage.stage.as_str()) {
            names.push(&stage.stage);
        }
    }
    let mut table = Table::new(&columns("Stage", sides, Column::Text));
    for name in names {
        let of_first = sides[0].record().stage(name).and_then(|stage| stage.digest.as_ref());
        let cell = |side: &Side| match side.record().stage(name) {
            Some(stage) => {
                let digest = stage.digest.as_ref();
                let (class, outcome) = stages::outcome(side.record(), stage);
                html! {
                    span.state.(class) { (outcome) }
                    @if stage.seconds > 0.0 { " " (seconds(stage.seconds)) }
                    @if let Some(digest) = digest.map(|digest| prefix(digest, stages::SHORT_DIGEST)) {
                        br;
                        code.soft {
                            @if stage.digest.as_ref() == of_first { (digest) } @else { b { (digest) } }
                        }
                    }
                }
            }
            None => html! { span.soft { "–" } },
        };
        table.row([html! { b { (name) } }].into_iter().chain(sides.iter().map(cell)));
    }
    table.render()
}

/// F1 by class, those in which the runs differ most first.
fn classes(sides: &[Side]) -> Markup {
    let f1: Vec<BTreeMap<&str, f64>> = sides.iter().map(f1_by_class).collect();
    let names: BTreeSet<&str> = f1.iter().flat_map(|side| side.keys().copied()).collect();
    let spread = |name: &str| {
        let of_name = || f1.iter().filter_map(|side| side.get(name)).copied();
        of_name().fold(f64::NEG_INFINITY, f64::max) - of_name().fold(f64::INFINITY, f64::min)
    };
    let mut names: Vec<(&str, f64)> = names.into_iter().map(|name| (name, spread(name))).collect();
    names.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut table = Table::new(&columns("F1 of", sides, Column::Number));
    for (name, _) in names.iter().take(MAX_CLASSES) {
        let cell =
            |side: &BTreeMap<&str, f64>| or_dash(side.get(name).map(|f1| format!("{f1:.3}")));
        table.row([name.render()].into_iter().chain(f1.iter().map(cell)));
    }
    let count = thousands(names.len() as u64);
    html! {
        @if names.len() > MAX_CLASSES {
            (html::note(&format!("The {MAX_CLASSES} that differ most, of {count}.")))
        }
        (table.render())
    }
}

fn f1_by_class<'a>(side: &'a Side) -> BTreeMap<&'a str, f64> {
    let classes = side.split().map(|(_, split)| &split.per_class);
    let with_images = classes.into_iter().flatten().filter(|class| class.support > 0);
    with_images.map(|class| (class.class.as_str(), class.f1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_in_percentage_points() {
        assert_eq!(
            [0.0, -0.0, 0.0154, -0.2, -0.00001].map(points_of),
            ["+0.0", "+0.0", "+1.5", "\u{2212}20.0", "+0.0"]
        );
        assert_eq!([0.0, 0.0005, 0.05, 1.0].map(p_value), ["< 0.001", "< 0.001", "0.050", "1.000"]);
    }
}
