//! The comparison of runs as Markdown, for a pull request.

use crate::common::markdown::plain;
use crate::common::number;
use crate::runs::Record;
use crate::runs::diff::{Change, ClassTest, Diff, SplitDiff, SplitSummary, changes, legends};

/// The number of changed parameters, and of classes, that are listed.
const SHOWN: usize = 20;

/// A heading with the verdict, a table of the runs, and for each compared run what changed.
pub(super) fn report(
    first: &Record,
    others: &[Record],
    diffs: &[Diff],
    all_compared: bool,
) -> String {
    let records: Vec<&Record> = [first].into_iter().chain(others).collect();
    let names = legends(&records);
    let verdict = match (diffs.iter().any(Diff::is_worse), all_compared) {
        (true, _) => "a run is significantly worse than the baseline",
        (false, true) => "no run is significantly worse than the baseline",
        (false, false) => "no verdict: a run can't be compared with the baseline",
    };
    let several = diffs.iter().any(|diff| tests(diff).count() > 1);
    let name_of = |name: &str, split: &SplitDiff| match several {
        true => format!("{name}, {}", split.stage),
        false => name.to_owned(),
    };
    let mut text = format!("### pipe: {verdict}\n\n");
    text.push_str("| run | test accuracy | 95 % interval | images | verdict |\n");
    text.push_str("| --- | ---: | ---: | ---: | --- |\n");
    let baseline = diffs.iter().find(|diff| tests(diff).next().is_some());
    for split in baseline.into_iter().flat_map(tests) {
        text.push_str(&row(&name_of(&names[0], split), &split.first, "baseline"));
    }
    for (diff, name) in diffs.iter().zip(&names[1..]) {
        if tests(diff).next().is_none() {
            text.push_str(&format!("| {} | | | | no test metrics in both |\n", plain(name)));
        }
        for split in tests(diff) {
            text.push_str(&row(&name_of(name, split), &split.second, &split.verdict_text()));
        }
    }
    for ((other, diff), name) in others.iter().zip(diffs).zip(&names[1..]) {
        text.push_str(&format!("\n#### {}\n\n", plain(name)));
        text.push_str(&list(&changes(first, other)));
        diff.notes.iter().for_each(|note| text.push_str(&format!("\n{}\n", plain(note))));
        tests(diff).for_each(|split| text.push_str(&details(split, several)));
    }
    text
}

/// Whether there is a verdict about a run in each of the `evaluations` of the baseline on test images.
pub(super) fn is_compared(diff: &Diff, evaluations: usize) -> bool {
    let compared = tests(diff).filter(|split| split.allows_verdict()).count();
    compared > 0 && compared >= evaluations
}

/// The test splits of a comparison: one for each evaluation.
fn tests(diff: &Diff) -> impl Iterator<Item = &SplitDiff> {
    diff.splits.iter().filter(|split| split.split == "test")
}

fn row(name: &str, side: &SplitSummary, verdict: &str) -> String {
    let [low, high] = side.accuracy_interval.map(number::percent);
    format!(
        "| {} | {} | {low} to {high} | {} | {verdict} |\n",
        plain(name),
        number::percent(side.accuracy),
        number::thousands(side.count)
    )
}

/// The changed parameters.
fn list(changes: &[Change]) -> String {
    let lines =
        changes.iter().take(SHOWN).map(|change| format!("- {}\n", plain(&change.to_string())));
    let more = changes.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("- and {more} more\n") } else { String::new() };
    match changes {
        [] => "- no parameter changed\n".to_owned(),
        _ => lines.collect::<String>() + &more,
    }
}

/// The test behind the verdict, and the classes that are worse; of which evaluation, if there are
/// several.
fn details(split: &SplitDiff, several: bool) -> String {
    let of = if several { format!("{}: ", plain(&split.stage)) } else { String::new() };
    let basis = split.basis_text();
    let mut text = basis.map_or_else(String::new, |basis| format!("\n{of}{basis}.\n"));
    let worse = split.classes.iter().filter_map(|class| {
        let test = class.paired.filter(ClassTest::is_worse)?;
        Some(format!(
            "- class {} is worse (p = {}): {} images correct only in the first run, {} only in the second\n",
            plain(&class.class),
            number::measured(test.p_value),
            number::thousands(test.only_first),
            number::thousands(test.only_second)
        ))
    });
    let worse: String = worse.take(SHOWN).collect();
    if !worse.is_empty() {
        text.push_str(&format!("\n{worse}"));
    }
    text
}
