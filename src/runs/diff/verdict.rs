//! Whether the difference between two runs on a split allows a verdict, and which one: only on the
//! same test images, and only where it is statistically significant.

use super::evaluation::{PairedTest, SplitDiff};
use crate::common::number::{counted, measured, thousands};
use serde::Serialize;

/// Fewer shared images of different test sets give no verdict.
const MIN_SHARED: u64 = 30;

/// The outcome of the comparison on one split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The second run is better, statistically significant.
    Better,
    /// The second run is worse, statistically significant.
    Worse,
    NotSignificant,
    /// No verdict: the split selected the epochs.
    Selection,
    /// No verdict: the predictions of a run are missing.
    Unpaired,
    /// No verdict: too few images are in both test sets.
    FewShared,
}

impl Verdict {
    pub(super) fn of(split: &str, paired: Option<&PairedTest>) -> Verdict {
        if split != "test" {
            return Verdict::Selection;
        }
        let Some(test) = paired else { return Verdict::Unpaired };
        match (test.same_images || test.common >= MIN_SHARED, test.is_significant()) {
            (false, _) => Verdict::FewShared,
            (true, false) => Verdict::NotSignificant,
            (true, true) if test.only_second > test.only_first => Verdict::Better,
            (true, true) => Verdict::Worse,
        }
    }

    /// Whether it is a verdict, of a difference or of none.
    pub fn is_comparison(self) -> bool {
        self.is_significant() || self == Verdict::NotSignificant
    }

    /// Whether the runs differ, statistically significant.
    pub fn is_significant(self) -> bool {
        matches!(self, Verdict::Better | Verdict::Worse)
    }
}

impl SplitDiff {
    /// The verdict in words: `the second run is better, statistically significant (p = 0.003)`.
    pub fn verdict_text(&self) -> String {
        let p = self.paired.map_or(1.0, |test| test.p_value);
        let with_p = |text: &str| format!("{text} (p = {})", measured(p));
        match self.verdict {
            Verdict::Better => with_p("the second run is better, statistically significant"),
            Verdict::Worse => with_p("the first run is better, statistically significant"),
            Verdict::NotSignificant => with_p("not statistically significant"),
            Verdict::Selection => {
                "no verdict: the validation images selected the epochs, only test images compare models"
                    .to_owned()
            }
            Verdict::Unpaired => {
                "no verdict: without the predictions of both runs, the test images that they share are unknown"
                    .to_owned()
            }
            Verdict::FewShared => {
                let shared = match self.paired.map_or(0, |test| test.common) {
                    0 => "no test image".to_owned(),
                    shared => counted(shared, "test image"),
                };
                let [first, second] = [self.first.count, self.second.count].map(thousands);
                format!(
                    "no verdict: the runs share {shared}, of {first} and {second}; {MIN_SHARED} are needed"
                )
            }
        }
    }

    /// McNemar's test and its counts. None without a verdict.
    pub fn basis_text(&self) -> Option<String> {
        let test = self.paired.filter(|_| self.allows_verdict())?;
        let [first, second] = [test.only_first, test.only_second].map(thousands);
        let images = match test.same_images {
            true => format!("the same {}", counted(test.common, "image")),
            false => {
                let [first, second] = [self.first.count, self.second.count].map(thousands);
                let shared = thousands(test.common);
                format!("the {shared} test images that both runs have, of {first} and {second}")
            }
        };
        Some(format!(
            "McNemar's exact test on {images}: {first} correct only in the first run, {second} only in the second"
        ))
    }

    /// Whether the runs can be compared on this split, significantly or not.
    pub fn allows_verdict(&self) -> bool {
        self.verdict.is_comparison()
    }
}
