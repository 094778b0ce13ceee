//! Progress bars on a terminal, one line per running stage: bar, task, rate and remaining time,
//! within 80 columns. Drawn with indicatif; independent of what a stage does.

use super::terminal::Terminal;
use crate::common::number;
use crate::common::visible::visible_line;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often the spinner advances without progress events.
const TICK: Duration = Duration::from_millis(120);

/// The unit of a task that only waits: it has no speed.
const TIME: &str = "seconds";

/// A stage whose amount of work isn't known (yet).
const SPINNER: &str = "{spinner:.cyan} {prefix:<10}  {wide_msg}";
/// A stage whose amount of work is known.
const BAR: &str = "{spinner:.cyan} {prefix:<10}  {bar:12.cyan/dim} {wide_msg}";

/// The bars of the running stages.
pub(super) struct ProgressBars {
    all: MultiProgress,
    bars: BTreeMap<String, Bar>,
}

/// The line of one stage.
struct Bar {
    line: ProgressBar,
    /// The task that the bar counts; of a series ("epoch 3/20") only its name ("epoch").
    task: String,
    /// Whether the bar counts a series of tasks.
    in_series: bool,
    done: u64,
    total: Option<u64>,
    /// When the task began, and how much of it was already done: for the rate.
    since: Instant,
    from: u64,
}

/// Splits the task "epoch 3/20" of a series into its name, index (from 0) and the length of the
/// series.
pub(super) fn series_position(task: &str) -> Option<(&str, u64, u64)> {
    let (name, position) = task.rsplit_once(' ')?;
    let (number, length) = position.split_once('/')?;
    let (number, length) = (number.parse::<u64>().ok()?, length.parse::<u64>().ok()?);
    (1..=length).contains(&number).then(|| (name, number - 1, length))
}

impl ProgressBars {
    pub(super) fn new() -> ProgressBars {
        ProgressBars {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::term_like_with_hz(
                Box::new(Terminal),
                12,
            )),
            bars: BTreeMap::new(),
        }
    }

    /// Adds the line of a stage that starts.
    pub(super) fn add(&mut self, stage: &str) {
        let spinner = ProgressBar::new_spinner().with_style(style(SPINNER));
        let line = self.all.add(spinner.with_prefix(visible_line(stage)));
        line.enable_steady_tick(TICK);
        let (since, task) = (Instant::now(), String::new());
        let bar = Bar { line, task, in_series: false, done: 0, total: None, since, from: 0 };
        self.bars.insert(stage.to_owned(), bar);
    }

    /// Updates a stage's bar. A series of tasks (epochs) is one bar, so that the remaining time is
    /// that of the whole series; tasks in between (validation) change only the text.
    pub(super) fn update(
        &mut self,
        stage: &str,
        task: &str,
        done: u64,
        total: Option<u64>,
        unit: &str,
    ) {
        let Some(bar) = self.bars.get_mut(stage) else { return };
        match (series_position(task), total) {
            (Some((name, index, length)), Some(total)) => {
                bar.in_series = true;
                let done = index.saturating_mul(total).saturating_add(done);
                bar.count(name, done, Some(length.saturating_mul(total)));
            }
            _ if bar.in_series => {}
            _ => bar.count(task, done, total),
        }
        bar.line.set_message(visible_line(&bar.text(task, unit)));
    }

    /// Removes a stage's line.
    pub(super) fn remove(&mut self, stage: &str) {
        if let Some(bar) = self.bars.remove(stage) {
            bar.line.finish_and_clear();
            self.all.remove(&bar.line);
        }
    }

    /// Prints permanent lines above the bars.
    pub(super) fn print_above(&self, text: &str) {
        self.suspend(|| super::note(text));
    }

    /// Runs `print` with the bars out of the way.
    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.all.suspend(print)
    }

    /// Removes all lines.
    pub(super) fn clear(&mut self) {
        let stages: Vec<String> = self.bars.keys().cloned().collect();
        stages.iter().for_each(|stage| self.remove(stage));
    }
}

/// `120/2,000 images`, `3.4 MB of 102.5 MB`.
fn amount(done: u64, total: Option<u64>, unit: &str) -> String {
    match (unit, total) {
        ("bytes", Some(total)) => format!("{} of {}", number::bytes(done), number::bytes(total)),
        ("bytes", None) => number::bytes(done),
        (TIME, None) => number::about(done as f64),
        (_, Some(total)) => {
            format!("{}/{} {unit}", number::thousands(done), number::thousands(total))
        }
        (_, None) => format!("{} {unit}", number::thousands(done)),
    }
}

impl Bar {
    fn count(&mut self, task: &str, done: u64, total: Option<u64>) {
        if self.task != task {
            (self.task, self.since, self.from) = (task.to_owned(), Instant::now(), done);
            self.line.set_style(style(if total.is_some() { BAR } else { SPINNER }));
        }
        (self.done, self.total) = (done, total);
        // The length first: a position past the old length would be drawn as a full bar.
        if let Some(total) = total {
            self.line.set_length(total);
        }
        self.line.set_position(done);
    }

    /// `epoch 3/20  210 images/s  1 min 12 s left`. In a series, the bar shows the amount.
    fn text(&self, task: &str, unit: &str) -> String {
        let mut parts = vec![task.to_owned()];
        if !self.in_series {
            parts.push(amount(self.done, self.total, unit));
        }
        let seconds = self.since.elapsed().as_secs_f64();
        let advanced = self.done.saturating_sub(self.from) as f64;
        if seconds > 0.5 && advanced > 0.0 && unit != TIME {
            let rate = advanced / seconds;
            parts.push(match unit {
                "bytes" => format!("{}/s", number::bytes(rate as u64)),
                _ => format!("{} {unit}/s", number::measured((rate * 10.0).round() / 10.0)),
            });
            let left = self.total.map_or(0, |total| total.saturating_sub(self.done));
            if left > 0 {
                parts.push(format!("{} left", number::about(left as f64 / rate)));
            }
        }
        parts.join("  ")
    }
}

/// Both templates are constants that a test parses.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .map(|style| style.progress_chars("━╸─"))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_of_a_series_has_a_position() {
        assert_eq!(series_position("epoch 3/20"), Some(("epoch", 2, 20)));
        for other in ["decode", "epoch 0/3", "epoch 4/3", "epoch x/3", "epoch", "a/b c/d", ""] {
            assert_eq!(series_position(other), None, "{other}");
        }
    }

    #[test]
    fn templates_are_valid() {
        for template in [SPINNER, BAR] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn a_series_of_epochs_is_one_bar_that_tasks_in_between_do_not_move() {
        let mut bars = ProgressBars::new();
        bars.add("train");
        let mut position = |task: &str, done, total| {
            bars.update("train", task, done, Some(total), "steps");
            let bar = &bars.bars["train"];
            (bar.line.position(), bar.line.length())
        };
        assert_eq!(position("read", 3, 4), (3, Some(4)));
        assert_eq!(position("epoch 1/3", 2, 10), (2, Some(30)));
        assert_eq!(position("validation", 1, 2), (2, Some(30)));
        assert_eq!(position("epoch 2/3", 5, 10), (15, Some(30)));
    }

    #[test]
    fn a_wait_has_no_speed() {
        let mut bars = ProgressBars::new();
        bars.add("train");
        let bar = bars.bars.get_mut("train").unwrap();
        bar.count("wait", 0, None);
        bar.since -= Duration::from_secs(10);
        bar.count("wait", 9, None);
        assert_eq!(bar.text("wait", "seconds"), "wait  9 s");
        assert!(bar.text("wait", "files").contains("files/s"));
    }

    #[test]
    fn bars_survive_any_sequence_of_events() {
        let mut bars = ProgressBars::new();
        bars.update("unknown", "decode", 1, None, "images");
        bars.add("train");
        bars.update("train", "epoch 2/2", u64::MAX, Some(u64::MAX), "steps");
        bars.update("train", "epoch 1/2", 5, Some(3), "steps");
        bars.update("train", "validation", 1, None, "steps");
        bars.clear();
        bars.remove("train");
    }
}
