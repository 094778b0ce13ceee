//! `pipe diff RUN RUN…`: compares runs with a baseline: changed parameters, data and outputs, whether
//! the difference in metrics is statistically significant, and the images whose prediction changed.

mod changes;
mod markdown;

use super::failure::Failure;
use super::shared::{StoreArguments, find_run, warn_of_damage};
use crate::common::number;
use crate::runs::diff::{
    Change, ClassDiff, ClassScores, ClassTest, Diff, Presence, SplitDiff, SplitSummary, StageDiff,
    StageOutput, TrainingDiff,
};
use crate::runs::{self, Record, Results, RunsError, Timestamp};
use crate::store::Store;
use crate::ui::{self, Side, Style, Table};
use clap::Args;
use std::process::ExitCode;

/// Compare runs with a baseline
///
/// Shows changed parameters, data and outputs, the difference in metrics, and the images whose
/// prediction changed. On the test images that both runs evaluated, McNemar's exact test decides
/// whether the difference in accuracy is statistically significant. `pipe report` makes a page of
/// the same, with thumbnails.
#[derive(Args)]
#[command(after_help = "Examples:
  pipe diff @1 @0             the latest run compared with the one before it
  pipe diff base @1 @0        each compared with the run named base
  pipe diff k3f 9xa --json    as JSON
  pipe diff main @0 --gate    for a pull request: exit code 1 if @0 is worse

With --gate, a run is worse where McNemar's test on the same test images says
so (p < 0.05): overall, or in a class, with p times the number of classes.
Each run is tested by itself. A run without a verdict, for want of test images
that both runs have, fails, too.")]
pub(super) struct Arguments {
    /// The first run, the baseline
    #[arg(value_name = "RUN")]
    first: String,
    /// The runs to compare with it
    #[arg(value_name = "RUN", required = true)]
    others: Vec<String>,
    /// Print Markdown, and exit with 1 unless every run is compared with the first and none is
    /// significantly worse
    #[arg(long, conflicts_with = "json")]
    gate: bool,
    #[command(flatten)]
    store: StoreArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let store = arguments.store.open_existing()?;
    let first = find_run(&store, &arguments.first)?;
    // The gate leaves no run out.
    let others = match arguments.gate {
        true => {
            arguments.others.iter().map(|name| find_run(&store, name)).collect::<Result<_, _>>()?
        }
        false => readable(&store, &arguments.others)?,
    };
    let compare = |other: &Record| {
        runs::diff(&Results::of(&first).with_store(&store), &Results::of(other).with_store(&store))
    };
    let diffs: Vec<Diff> = others.iter().map(compare).collect();
    if arguments.gate {
        let evaluations = Results::of(&first).with_store(&store).evaluations();
        let tests = evaluations.iter().filter(|(_, one)| one.splits.contains_key("test")).count();
        let is_compared = |diff: &Diff| markdown::is_compared(diff, tests);
        ui::data(&markdown::report(&first, &others, &diffs, diffs.iter().all(is_compared)))?;
        let passes = diffs.iter().all(|diff| is_compared(diff) && !diff.is_worse());
        return Ok(if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    match diffs.as_slice() {
        [diff] if arguments.json => ui::json(diff)?,
        diffs if arguments.json => ui::json(&diffs)?,
        diffs => {
            let texts: Vec<String> = diffs.iter().map(|diff| text(Style::stdout(), diff)).collect();
            ui::out(&texts.join("\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The runs with these names, without those whose record is damaged: a warning names them.
///
/// # Errors
/// If a run isn't found, or none can be read.
fn readable(store: &Store, names: &[String]) -> Result<Vec<Record>, Failure> {
    let mut records = Vec::new();
    let mut damaged = Vec::new();
    for name in names {
        match runs::find(&store.runs_folder(), name) {
            Ok(record) => {
                warn_of_damage(&record);
                records.push(record);
            }
            Err(error @ RunsError::Unreadable { .. }) => damaged.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    if records.is_empty()
        && let Some(error) = damaged.pop()
    {
        return Err(error.into());
    }
    damaged.iter().for_each(|error| ui::warning(&format!("{error}; it is left out")));
    Ok(records)
}

fn text(style: Style, diff: &Diff) -> String {
    let now = Timestamp::now();
    let mut text = String::new();
    for side in [&diff.first, &diff.second] {
        let (took, ago) = (number::seconds(side.seconds), side.started.ago(now));
        text.push_str(&format!(
            "{}  {}  {} after {took}  {ago}\n",
            style.bold(side.run.as_str()),
            side.pipeline,
            side.status
        ));
    }
    if !diff.notes.is_empty() {
        text.push_str(&format!("\n{}\n", diff.notes.join("\n")));
    }
    if diff.is_empty() {
        text.push_str("\nidentical parameters and outputs\n");
        return text;
    }
    text.push_str(&parameters(style, diff));
    text.push_str(&changes::data(style, &diff.data));
    text.push_str(&outputs(style, diff));
    text.push_str(&training(style, diff));
    for split in &diff.splits {
        text.push_str(&metrics(style, diff, split));
        text.push_str(&changes::confusions(style, diff, &split.confusions));
        text.push_str(&changes::images(style, &split.images));
    }
    text
}

/// Changed parameters, wiring included.
fn parameters(style: Style, diff: &Diff) -> String {
    let mut table = sides(diff, "parameter", Side::Left, &[]);
    let mut add = |prefix: &str, changes: &[Change]| {
        for Change { key, first, second } in changes {
            let shown = |value: &Option<serde_json::Value>| {
                value.as_ref().map_or("-".to_owned(), ToString::to_string)
            };
            table.row([format!("{prefix}{key}"), shown(first), shown(second)]);
        }
    };
    add("", &diff.settings);
    for stage in &diff.stages {
        add(&format!("{}.", stage.stage), &stage.wiring);
        add(&format!("{}.", stage.stage), &stage.parameters);
    }
    if table.is_empty() { String::new() } else { format!("\n{}", table.render(style)) }
}

/// The output of every stage by digest and the time that it took, those that differ first.
fn outputs(style: Style, diff: &Diff) -> String {
    let mut table = sides(diff, "output of", Side::Left, &["", "took first", "took second"]);
    let short = |digest: &Option<String>| {
        digest.as_deref().map_or("-".to_owned(), |digest| digest.chars().take(12).collect())
    };
    for stage in &diff.stages {
        let [first, second] = took(diff, &stage.stage);
        table.row([
            stage.stage.clone(),
            short(&stage.first_digest),
            short(&stage.second_digest),
            verdict(stage).to_owned(),
            first,
            second,
        ]);
    }
    for stage in &diff.same_stages {
        let [first, second] = took(diff, stage);
        table.row([stage.clone(), String::new(), String::new(), "same".to_owned(), first, second]);
    }
    if table.is_empty() { String::new() } else { format!("\n{}", table.render(style)) }
}

/// How long a stage ran in each run, else why it didn't.
fn took(diff: &Diff, stage: &str) -> [String; 2] {
    let outputs = diff.outputs.iter().find(|outputs| outputs.stage == stage);
    let text = |output: Option<&StageOutput>| match output {
        None => "-".to_owned(),
        Some(output) => {
            output.seconds.map_or_else(|| output.state.as_str().to_owned(), number::seconds)
        }
    };
    [outputs.and_then(|both| both.first.as_ref()), outputs.and_then(|both| both.second.as_ref())]
        .map(text)
}

fn verdict(stage: &StageDiff) -> &'static str {
    match (stage.presence, stage.output_changed) {
        (Presence::OnlyFirst, _) => "only in the first",
        (Presence::OnlySecond, _) => "only in the second",
        (Presence::Both, Some(true)) => "changed",
        (Presence::Both, Some(false)) => "same",
        (Presence::Both, None) => "missing in one",
    }
}

/// The last and best epochs of each training, side by side.
fn training(style: Style, diff: &Diff) -> String {
    let mut text = String::new();
    for TrainingDiff { stage, first, second } in &diff.training {
        let mut table = sides(diff, stage, Side::Right, &[]);
        let sides = [first, second];
        let optional =
            |value: Option<f64>, format: fn(f64) -> String| value.map_or("-".into(), format);
        let mut row = |name: &str, cells: [String; 2]| {
            table.row([name.to_owned()].into_iter().chain(cells));
        };
        row("epochs", sides.map(|side| side.epochs.to_string()));
        row("best epoch", sides.map(|side| side.best_epoch.to_string()));
        row("train loss", sides.map(|side| number::measured(side.train_loss)));
        row("train accuracy", sides.map(|side| number::percent(side.train_accuracy)));
        row("validation loss", sides.map(|side| optional(side.validation_loss, number::measured)));
        let accuracy = sides.map(|side| optional(side.validation_accuracy, number::percent));
        row("validation accuracy", accuracy);
        text.push_str(&format!("\n{}", table.render(style)));
    }
    text
}

/// The metrics of one split side by side, the significance of their difference, and the classes.
fn metrics(style: Style, diff: &Diff, split: &SplitDiff) -> String {
    let mut table = sides(diff, &format!("{} split", split.split), Side::Right, &["difference"]);
    let interval =
        |[low, high]: [f64; 2]| format!("{} to {}", number::percent(low), number::percent(high));
    // A difference between metrics of different images is no difference between models.
    let same_images = split.paired.is_some_and(|test| test.same_images);
    let difference = |text: String| if same_images { text } else { String::new() };
    let [first, second] = [&split.first, &split.second];
    let both =
        |name, value: fn(&SplitSummary) -> Option<f64>| Some((name, value(first)?, value(second)?));
    let shares = [
        both("accuracy", |side| Some(side.accuracy)),
        both("top 5", |side| side.top5),
        both("macro F1", |side| Some(side.macro_f1)),
        both("ROC AUC", |side| side.roc_auc),
        both("average precision", |side| side.average_precision),
        both("calibration error", |side| side.calibration_error),
    ];
    for (name, first, second) in shares.into_iter().flatten() {
        let change = difference(points(second - first));
        let cells = [number::percent(first), number::percent(second), change];
        table.row([name.to_owned()].into_iter().chain(cells));
        if name == "accuracy" {
            let intervals =
                [&split.first, &split.second].map(|side| interval(side.accuracy_interval));
            table.row(["95 % interval".to_owned()].into_iter().chain(intervals));
        }
    }
    let (first, second) = (split.first.loss, split.second.loss);
    let loss = format!("{}{}", sign(second - first), number::measured((second - first).abs()));
    table.row([
        "loss".to_owned(),
        number::measured(first),
        number::measured(second),
        difference(loss),
    ]);
    table.row([
        "images".to_owned(),
        number::thousands(split.first.count),
        number::thousands(split.second.count),
    ]);
    if let Some(test) = split.paired.filter(|test| !test.same_images && split.allows_verdict()) {
        let [first, second] = test.accuracies();
        table.row([
            "accuracy on shared".to_owned(),
            number::percent(first),
            number::percent(second),
            points(second - first),
        ]);
    }
    format!(
        "\n{}\n{}\n{}",
        table.render(style),
        significance(style, split),
        classes(style, &split.classes)
    )
}

/// The verdict and what it rests on.
fn significance(style: Style, split: &SplitDiff) -> String {
    let verdict = style.bold(&split.verdict_text());
    split.basis_text().map_or(verdict.clone(), |basis| format!("{verdict}\n{basis}"))
}

/// The metrics of each class, in the order of the diff: largest difference first.
fn classes(style: Style, classes: &[ClassDiff]) -> String {
    let numbers = ["F1 first", "F1 second", "difference", "recall first", "recall second"]
        .map(|name| (name, Side::Right));
    let columns = [("class", Side::Left)].into_iter().chain(numbers);
    let mut table = Table::new(columns.chain([("", Side::Left)]));
    for class in classes {
        // Without images of the class nothing is known of it.
        let share = |side: &Option<ClassScores>, value: fn(&ClassScores) -> f64| {
            let known = side.as_ref().filter(|side| side.support > 0).map(value);
            known.map_or("-".to_owned(), number::percent)
        };
        table.row([
            class.class.clone(),
            share(&class.first, |side| side.f1),
            share(&class.second, |side| side.f1),
            class.f1_difference.map_or("-".to_owned(), points),
            share(&class.first, |side| side.recall),
            share(&class.second, |side| side.recall),
            class.paired.filter(ClassTest::is_worse).map_or_else(String::new, |test| {
                format!("worse, statistically significant (p = {})", number::measured(test.p_value))
            }),
        ]);
    }
    if table.is_empty() { String::new() } else { format!("\n{}", table.render(style)) }
}

/// A table with a column for each of the two runs, headed by their ids, and further columns.
fn sides(diff: &Diff, heading: &str, side: Side, more: &[&str]) -> Table {
    let runs = [diff.first.run.as_str(), diff.second.run.as_str()];
    let others = runs.into_iter().chain(more.iter().copied()).map(|name| (name, side));
    Table::new([(heading, Side::Left)].into_iter().chain(others))
}

/// A difference of two shares in percentage points: `+1.2 points`.
fn points(difference: f64) -> String {
    format!("{}{:.1} points", sign(difference), difference.abs() * 100.0)
}

fn sign(value: f64) -> &'static str {
    if value < 0.0 { "-" } else { "+" }
}
