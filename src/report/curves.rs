//! ROC and precision-recall curves, and the calibration of the probabilities, on the test split.

use super::html::{self, Column, Table, details, side_by_side, tiles};
use crate::common::number::{counted, thousands};
use crate::common::words::shortened_list;
use crate::draw::{Axes, Bin, Histogram, LineChart, Marker, Series, Unit, percent, shorten};
use crate::metrics::{Calibration, CalibrationBin, Curve, CurveOf, Curves};
use crate::runs::{Results, StageRecord};
use maud::{Markup, html};

/// The longest class name in a legend, and the number of class names in a note.
const NAME: usize = 24;
const MAX_NAMES: usize = 8;

/// The color of diagonals: gray, the last of the palette.
const DIAGONAL: usize = 5;

/// All charts. Empty where the run has no curves: older ones, and those without a test split.
pub(super) fn plots(results: &Results, stage: &StageRecord) -> Markup {
    let Some(curves) = results.curves(stage) else { return Markup::default() };
    html! {
        (tiles(&numbers(&curves)))
        (side_by_side([roc(&curves), precision_recall(&curves)]))
        (notes(&curves))
        (side_by_side([reliability(&curves.calibration), confidences(&curves.calibration)]))
        (details("Calibration as a table", &bin_table(&curves.calibration)))
    }
}

fn numbers(curves: &Curves) -> Vec<(&'static str, String)> {
    let mean = |list: &[Curve]| {
        let average = list.iter().find(|curve| curve.of == CurveOf::Macro)?;
        Some(format!("{:.3}", average.area))
    };
    let calibration = &curves.calibration;
    let numbers = [
        ("ROC AUC, macro average", mean(&curves.roc)),
        ("Mean average precision", mean(&curves.precision_recall)),
        ("Expected calibration error", Some(percent(calibration.expected_error))),
        ("Largest calibration error", Some(percent(calibration.max_error))),
    ];
    numbers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn roc(curves: &Curves) -> Markup {
    let lines = lines(&curves.roc);
    if lines.is_empty() {
        return Markup::default();
    }
    let chance = diagonal("chance");
    let title = "ROC: true positive rate";
    chart(title, "false positive rate", lines.into_iter().chain([chance]).collect(), Vec::new())
}

fn precision_recall(curves: &Curves) -> Markup {
    chart("Precision", "recall", lines(&curves.precision_recall), Vec::new())
}

/// The curves with their areas in the legend.
fn lines(curves: &[Curve]) -> Vec<Series> {
    let line = |(color, curve): (usize, &Curve)| Series {
        name: format!("{} {:.3}", name(&curve.of), curve.area),
        color,
        dashed: curve.of == CurveOf::Micro,
        points: curve.points(),
    };
    curves.iter().take(DIAGONAL).enumerate().map(line).collect()
}

fn name(of: &CurveOf) -> String {
    match of {
        CurveOf::Macro => "macro average".to_owned(),
        CurveOf::Micro => "micro average".to_owned(),
        CurveOf::Class(class) => shorten(class, NAME),
    }
}

fn diagonal(name: &str) -> Series {
    let points = vec![(0.0, 0.0), (1.0, 1.0)];
    Series { name: name.to_owned(), color: DIAGONAL, dashed: true, points }
}

fn chart(title: &str, x_label: &str, series: Vec<Series>, markers: Vec<Marker>) -> Markup {
    LineChart {
        title: title.to_owned(),
        x_label: x_label.to_owned(),
        x_unit: Unit::Share,
        y_unit: Unit::Share,
        axes: Axes::Unit,
        series,
        markers,
    }
    .render()
}

/// Which curves are shown, and which classes have none.
fn notes(curves: &Curves) -> Markup {
    let shown = "Each class against all others: the averages, and the classes with the smallest area \
                 under the curve. The numbers are these areas.";
    let names: Vec<String> = curves.left_out.iter().map(|class| shorten(class, NAME)).collect();
    html! {
        @if !curves.roc.is_empty() { (html::note(shown)) }
        @if !names.is_empty() {
            (html::note(&format!(
                "Left out, since none of the test images are of the class, or all are: {}.",
                shortened_list(names.iter().map(String::as_str), MAX_NAMES)
            )))
        }
    }
}

/// Accuracy by probability: a calibrated model is on the diagonal.
fn reliability(calibration: &Calibration) -> Markup {
    let width = 1.0 / calibration.bins.len().max(1) as f64;
    let filled = || calibration.bins.iter().enumerate().filter(|(_, bin)| bin.count > 0);
    if filled().next().is_none() {
        return Markup::default();
    }
    let accuracy = Series {
        name: "accuracy".to_owned(),
        color: 0,
        dashed: false,
        points: filled().map(|(_, bin)| (bin.confidence, bin.accuracy)).collect(),
    };
    let marker = |(at, bin): (usize, &CalibrationBin)| {
        let [low, high] = [at, at + 1].map(|end| percent(end as f64 * width));
        let label = format!("{} from {low} to {high}", counted(bin.count, "image"));
        Marker { series: 1, x: bin.confidence, label }
    };
    let series = vec![diagonal("calibrated"), accuracy];
    let x_label = "probability of the predicted class";
    chart("Accuracy by probability", x_label, series, filled().map(marker).collect())
}

fn confidences(calibration: &Calibration) -> Markup {
    let width = 1.0 / calibration.bins.len().max(1) as f64;
    let bins = calibration.bins.iter().enumerate().map(|(at, bin)| Bin {
        low: at as f64 * width,
        high: (at + 1) as f64 * width,
        count: bin.count,
    });
    Histogram {
        title: "Images by probability".to_owned(),
        x_label: "probability of the predicted class".to_owned(),
        bins: bins.collect(),
    }
    .render()
}

fn bin_table(calibration: &Calibration) -> Markup {
    let names = ["Probability up to", "Images", "Mean probability", "Accuracy"];
    let mut table = Table::new(&names.map(|name| (name, Column::Number)));
    let width = 1.0 / calibration.bins.len().max(1) as f64;
    for (at, bin) in calibration.bins.iter().enumerate().filter(|(_, bin)| bin.count > 0) {
        table.row([
            percent((at + 1) as f64 * width),
            thousands(bin.count),
            percent(bin.confidence),
            percent(bin.accuracy),
        ]);
    }
    table.render()
}
