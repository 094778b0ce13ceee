//! One line per epoch, in columns that fit a terminal of 80 columns beside the stage's name.

use crate::common::number;
use crate::common::visible::visible;

/// A scalar's column: its heading, the scalar's name, the width, and how the value is written.
type Column = (&'static str, &'static str, usize, fn(f64) -> String);

const COLUMNS: [Column; 7] = [
    ("loss", "train/loss", 6, loss),
    ("accuracy", "train/accuracy", 8, number::percent),
    ("val loss", "validation/loss", 8, loss),
    ("val acc.", "validation/accuracy", 8, number::percent),
    ("lr", "learning_rate", 7, rate),
    ("images/s", "images_per_second", 8, |value| number::thousands(value.round() as u64)),
    ("time", "seconds", 5, clock),
];

/// The share of an epoch in which a GPU waited for data: said where it matters, without a column.
const WAITING: &str = "gpu_waiting";

/// The width of the column with the number of the epoch.
const EPOCH: usize = 7;

/// The scalars of one epoch, in the order in which they were reported.
#[derive(Default)]
pub(super) struct Epoch {
    /// The number of the epoch, from 1.
    pub(super) number: u64,
    scalars: Vec<(String, f64)>,
}

impl Epoch {
    /// An epoch without scalars.
    pub(super) fn new(number: u64) -> Epoch {
        Epoch { number, scalars: Vec::new() }
    }

    /// Adds a scalar.
    pub(super) fn add(&mut self, name: &str, value: f64) {
        self.scalars.push((name.to_owned(), value));
    }

    /// Whether there is nothing to show.
    pub(super) fn is_empty(&self) -> bool {
        self.scalars.is_empty()
    }

    /// The line of the epoch: ` 3/20  0.412 …`. Scalars without a column follow by name.
    pub(super) fn line(&self, of: Option<u64>) -> String {
        let number = match of {
            Some(of) => format!("{}/{of}", self.number),
            None => self.number.to_string(),
        };
        let mut line = format!("{number:>EPOCH$}");
        for (_, name, width, write) in COLUMNS {
            let value = self.scalars.iter().find(|(scalar, _)| scalar == name);
            let text = value.map_or_else(|| "-".to_owned(), |(_, value)| write(*value));
            line.push_str(&format!(" {text:>width$}"));
        }
        let has_column = |scalar: &str| COLUMNS.iter().any(|(_, name, ..)| *name == scalar);
        for (name, value) in self.scalars.iter().filter(|(name, _)| !has_column(name)) {
            if name == WAITING {
                if *value >= 0.02 {
                    line.push_str(&format!("  waited {}", number::percent(*value)));
                }
                continue;
            }
            line.push_str(&format!("  {} {}", visible(name), number::measured(*value)));
        }
        line
    }
}

/// The headings above the lines of epochs.
pub(super) fn headings() -> String {
    let headings = COLUMNS.iter().map(|(heading, _, width, _)| format!(" {heading:>width$}"));
    format!("{:>EPOCH$}{}", "epoch", headings.collect::<String>())
}

fn loss(value: f64) -> String {
    if value.abs() < 100.0 { format!("{value:.3}") } else { format!("{value:.1}") }
}

/// Learning rates from 0.0001 as decimals, smaller ones in scientific notation.
fn rate(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        0.0001.. => format!("{value:.5}"),
        _ => format!("{value:.1e}"),
    }
}

/// `4.2 s`, `1:12`, `2:03:40`.
fn clock(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_headings_line_up_within_66_columns() {
        let mut epoch = Epoch::new(3);
        for (name, value) in [
            ("learning_rate", 0.000_938),
            ("train/loss", 2.3249),
            ("train/accuracy", 0.1534),
            ("validation/loss", 123.456),
            ("validation/accuracy", 1.0),
            ("images_per_second", 12_345.6),
            ("seconds", 72.4),
        ] {
            epoch.add(name, value);
        }
        let line = epoch.line(Some(120));
        assert_eq!(headings(), "  epoch   loss accuracy val loss val acc.      lr images/s  time");
        assert_eq!(line, "  3/120  2.325   15.3 %    123.5  100.0 % 0.00094   12,346  1:12");
        assert!(line.len() <= 66 && line.len() == headings().len());
    }

    #[test]
    fn missing_values_are_dashes_and_other_scalars_follow() {
        let mut epoch = Epoch::new(1);
        assert!(epoch.is_empty());
        epoch.add("train/loss", 0.5);
        epoch.add("grad\u{1b}norm", 2.5);
        let line = epoch.line(None);
        assert!(line.starts_with("      1  0.500        -        -"), "{line}");
        assert!(line.ends_with("-  grad\\u{1b}norm 2.5"), "{line}");
        for (share, end) in [(0.019, "norm 2.5"), (0.053, "norm 2.5  waited 5.3 %")] {
            let mut epoch = Epoch { number: 1, scalars: epoch.scalars.clone() };
            epoch.add("gpu_waiting", share);
            assert!(epoch.line(None).ends_with(end), "{share}");
        }
    }

    #[test]
    fn durations_and_rates_are_short() {
        assert_eq!([0.04, 9.96, 59.6, 3_723.0].map(clock), ["0.0 s", "0:10", "1:00", "1:02:03"]);
        assert_eq!([0.0, 0.1, 0.000_1, 7.87e-9].map(rate), ["0", "0.10000", "0.00010", "7.9e-9"]);
    }
}
