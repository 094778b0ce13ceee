//! The changes of single images: of the data, and of what the runs predict.

use crate::common::number::{self, counted};
use crate::runs::diff::{ChangedImage, ChangedImages, ConfusionDiff, DataDiff, Diff, Moved};
use crate::ui::{Side, Style, Table};

/// The number of images, or of confusions, that a list shows; `--json` has all.
const SHOWN: usize = 8;

/// Images added, removed, replaced, relabelled and moved, each with the first names.
pub(super) fn data(style: Style, diffs: &[DataDiff]) -> String {
    let mut text = String::new();
    for diff in diffs {
        let mut table = Table::new([
            (format!("data of {}", diff.stage).as_str(), Side::Left),
            ("images", Side::Right),
            ("such as", Side::Left),
        ]);
        let moved = |list: &[Moved]| -> Vec<String> {
            let line = |one: &Moved| format!("{} ({} -> {})", one.path, one.first, one.second);
            list.iter().map(line).collect()
        };
        for (name, list) in [
            ("added", diff.added.clone()),
            ("removed", diff.removed.clone()),
            ("other content", diff.replaced.clone()),
            ("other label", moved(&diff.relabelled)),
            ("other split", moved(&diff.moved)),
        ] {
            if !list.is_empty() {
                let count = number::thousands(list.len() as u64);
                let names = list.into_iter().take(SHOWN).collect::<Vec<_>>().join(", ");
                table.row([name.to_owned(), count, names]);
            }
        }
        text.push_str(&format!("\n{}", table.render(style)));
    }
    text
}

/// The pairs of classes that one run confuses more often, those that differ most first.
pub(super) fn confusions(style: Style, diff: &Diff, cells: &[ConfusionDiff]) -> String {
    let mut table = super::sides(diff, "confused", Side::Right, &["difference"]);
    for cell in cells.iter().take(SHOWN) {
        table.row([
            format!("{} as {}", cell.label, cell.prediction),
            number::thousands(cell.first),
            number::thousands(cell.second),
            format!("{:+}", cell.difference()),
        ]);
    }
    match cells.len().saturating_sub(SHOWN) {
        _ if table.is_empty() => String::new(),
        0 => format!("\n{}", table.render(style)),
        more => format!("\n{}and {more} more; `--json` has all\n", table.render(style)),
    }
}

/// The images that became right, then those that became wrong.
pub(super) fn images(style: Style, images: &ChangedImages) -> String {
    let lists = [("fixed", &images.fixed), ("broken", &images.broken)];
    lists.into_iter().map(|(name, list)| changed(style, name, list)).collect()
}

fn changed(style: Style, name: &str, list: &[ChangedImage]) -> String {
    if list.is_empty() {
        return String::new();
    }
    let heading = format!("{}: {name}", counted(list.len() as u64, "image"));
    let columns = [(heading.as_str(), Side::Left), ("is", Side::Left), ("first", Side::Left)];
    let mut table = Table::new(columns.into_iter().chain([("second", Side::Left)]));
    let prediction =
        |(class, p): &(String, f32)| format!("{class} {}", number::percent(f64::from(*p)));
    for image in list.iter().take(SHOWN) {
        table.row([
            image.path.clone(),
            image.label.clone(),
            prediction(&image.first),
            prediction(&image.second),
        ]);
    }
    let more = list.len().saturating_sub(SHOWN);
    let more = match more {
        0 => String::new(),
        more => format!("and {more} more; `pipe report` shows them as thumbnails\n"),
    };
    format!("\n{}{more}", table.render(style))
}
