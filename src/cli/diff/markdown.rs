//! The comparison of runs as Markdown, for a pull request.

use crate::common::number;
use crate::common::visible::visible_line;
use crate::runs::Record;
use crate::runs::diff::{Change, ClassTest, Diff, SplitDiff, changes, legends};

/// The number of changed parameters, and of classes, that are listed.
const SHOWN: usize = 20;

/// A heading with the verdict, a table of the runs, and for each compared run what changed.
pub(super) fn report(first: &Record, others: &[Record], diffs: &[Diff]) -> String {
    let records: Vec<&Record> = [first].into_iter().chain(others).collect();
    let names = legends(&records);
    let verdict = match diffs.iter().any(Diff::is_worse) {
        true => "a run is significantly worse than the baseline",
        false => "no run is significantly worse than the baseline",
    };
    let mut text = format!("### pipe: {verdict}\n\n");
    text.push_str("| run | test accuracy | 95 % interval | images | verdict |\n");
    text.push_str("| --- | ---: | ---: | ---: | --- |\n");
    let test = |diff: &Diff| diff.splits.iter().find(|split| split.split == "test").cloned();
    if let Some(split) = diffs.first().and_then(test) {
        text.push_str(&row(&names[0], &split.first.clone(), "baseline"));
    }
    for (diff, name) in diffs.iter().zip(&names[1..]) {
        match test(diff) {
            Some(split) => text.push_str(&row(name, &split.second, &split.verdict_text())),
            None => text.push_str(&format!("| {} | | | | no test metrics in both |\n", safe(name))),
        }
    }
    for ((other, diff), name) in others.iter().zip(diffs).zip(&names[1..]) {
        text.push_str(&format!("\n#### {}\n\n", safe(name)));
        text.push_str(&list(&changes(first, other)));
        test(diff).iter().for_each(|split| text.push_str(&details(split)));
    }
    text
}

fn row(name: &str, side: &crate::runs::diff::SplitSummary, verdict: &str) -> String {
    let [low, high] = side.accuracy_interval.map(number::percent);
    format!(
        "| {} | {} | {low} to {high} | {} | {verdict} |\n",
        safe(name),
        number::percent(side.accuracy),
        number::thousands(side.count)
    )
}

/// The changed parameters.
fn list(changes: &[Change]) -> String {
    let lines =
        changes.iter().take(SHOWN).map(|change| format!("- {}\n", safe(&change.to_string())));
    let more = changes.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("- and {more} more\n") } else { String::new() };
    match changes {
        [] => "- no parameter changed\n".to_owned(),
        _ => lines.collect::<String>() + &more,
    }
}

/// The test behind the verdict, and the classes that are worse.
fn details(split: &SplitDiff) -> String {
    let mut text = split.basis_text().map_or_else(String::new, |basis| format!("\n{basis}.\n"));
    let worse = split.classes.iter().filter_map(|class| {
        let test = class.paired.filter(ClassTest::is_worse)?;
        Some(format!(
            "- {} is worse (p = {}): {} images correct only in the first run, {} only in the second\n",
            safe(&class.class),
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

/// Text from outside, without meaning in Markdown or HTML.
fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in visible_line(text).chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '~' | '#' | '@' => safe.extend(['\\', c]),
            _ => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_meaning_in_markdown() {
        assert_eq!(safe("a|b <i>*c*\u{202e}"), "a\\|b &lt;i>\\*c\\*\\\\u{202e}");
    }
}
