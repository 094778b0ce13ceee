//! The items that a garbage collection removes, as a table and as JSON, in names that people know:
//! stage, pipeline and run.

use super::reachable::{self, Origin};
use crate::common::number;
use crate::runs::{Record, Timestamp};
use crate::store::{Collection, Part, Removed};
use crate::ui::{Side, Style, Table};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Largest number of rows in the table.
const ROWS: usize = 20;

pub(super) struct Listing {
    origins: HashMap<Part, Origin>,
}

/// A row of the table: an artifact, a checkpoint, or all items of one category.
struct Row {
    name: String,
    count: u64,
    origin: Option<Origin>,
    last_used: Timestamp,
    bytes: u64,
}

impl Listing {
    /// With the names that these runs give, the latest first.
    pub(super) fn new(records: &[Record]) -> Listing {
        Listing { origins: reachable::origins(records) }
    }

    /// The table and its sum; with `would`, of a plan.
    pub(super) fn text(&self, collection: &Collection, would: bool) -> String {
        let rows = self.rows(collection);
        let mut table = Table::new([
            ("stage", Side::Left),
            ("pipeline", Side::Left),
            ("run", Side::Left),
            ("last used", Side::Left),
            ("made in", Side::Right),
            ("size", Side::Right),
        ]);
        rows.iter().take(ROWS).for_each(|row| table.row(row.cells()));
        let table = if rows.is_empty() { String::new() } else { table.render(Style::stdout()) };
        let more = match rows.len().saturating_sub(ROWS) {
            0 => String::new(),
            more => format!("and {} more; --json lists them\n", number::thousands(more as u64)),
        };
        let gap = if rows.is_empty() { "" } else { "\n" };
        format!("{table}{more}{gap}{}", self.total(collection, would))
    }

    /// `2 artifacts and 3 other items removed, 57.0 MB of 61.2 MB`, and the time to make them again.
    pub(super) fn total(&self, collection: &Collection, would: bool) -> String {
        let [freed, before] = [collection.freed(), collection.before].map(number::bytes);
        if collection.removed.is_empty() {
            return format!("nothing to remove: the store takes {before}\n");
        }
        let artifacts = number::counted(artifacts(collection), "artifact");
        let others = collection.removed.len() as u64 - self::artifacts(collection);
        let others = number::counted(others, "other item");
        let would = if would { " would be" } else { "" };
        let again = match self.seconds(collection) {
            (_, 0, _) => String::new(),
            (seconds, _, unknown) => {
                let unknown = match unknown {
                    0 => String::new(),
                    count => format!(", and that of {} isn't known", number::thousands(count)),
                };
                format!("making the outputs again takes {}{unknown}\n", number::seconds(seconds))
            }
        };
        format!("{artifacts} and {others}{would} removed: {freed} of {before}\n{again}")
    }

    pub(super) fn json(&self, collection: &Collection, limit: Option<u64>, dry_run: bool) -> Value {
        let (seconds, ..) = self.seconds(collection);
        let sum = |is_artifact: bool| {
            let of = |removed: &&Removed| is_artifact == is_artifact_part(&removed.item.part);
            let bytes = collection.removed.iter().filter(of).map(|removed| removed.bytes);
            json!({ "count": bytes.clone().count(), "bytes": bytes.sum::<u64>() })
        };
        json!({
            "dry_run": dry_run,
            "artifacts": sum(true),
            "other": sum(false),
            "bytes_before": collection.before,
            "bytes_after": collection.after(),
            "max_size": limit,
            "seconds": seconds,
            "items": collection.removed.iter().map(|removed| self.item(removed)).collect::<Vec<_>>(),
        })
    }

    fn item(&self, removed: &Removed) -> Value {
        let part = &removed.item.part;
        let origin = self.origins.get(part);
        json!({
            "kind": kind(part, origin),
            "name": name(part),
            "stage": origin.map(|origin| &origin.stage),
            "pipeline": origin.map(|origin| &origin.pipeline),
            "run": origin.map(|origin| &origin.run),
            "runs": origin.map_or(0, |origin| origin.runs),
            "last_used": Timestamp::from(removed.item.last_used),
            "seconds": origin.and_then(|origin| origin.seconds),
            "bytes": removed.bytes,
        })
    }

    /// Artifacts and checkpoints in the order of their removal, then the sums of other categories by
    /// name.
    fn rows(&self, collection: &Collection) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let mut sums: Vec<Row> = Vec::new();
        for removed in &collection.removed {
            let part = &removed.item.part;
            let origin = self.origins.get(part).cloned();
            let row = Row {
                name: category(part, origin.as_ref()),
                count: 1,
                last_used: removed.item.last_used.into(),
                bytes: removed.bytes,
                origin,
            };
            match sums.iter_mut().find(|sum| sum.name == row.name) {
                _ if row.origin.is_some() => rows.push(row),
                Some(sum) => sum.add(row),
                None => sums.push(row),
            }
        }
        sums.sort_by(|one, other| one.name.cmp(&other.name));
        rows.extend(sums);
        rows
    }

    /// The time to make the artifacts and checkpoints again, of how many of them it is known, and of
    /// how many not.
    fn seconds(&self, collection: &Collection) -> (f64, u64, u64) {
        let parts = collection.removed.iter().map(|removed| &removed.item.part);
        let made = parts.filter(|part| is_artifact_part(part) || self.origins.contains_key(part));
        made.fold((0.0, 0, 0), |(seconds, known, unknown), part| {
            match self.origins.get(part).and_then(|origin| origin.seconds) {
                Some(more) => (seconds + more, known + 1, unknown),
                None => (seconds, known, unknown + 1),
            }
        })
    }
}

impl Row {
    fn add(&mut self, other: Row) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.last_used = self.last_used.max(other.last_used);
    }

    fn cells(&self) -> [String; 6] {
        let name = match self.count {
            1 => self.name.clone(),
            count => format!("{} ({})", self.name, number::thousands(count)),
        };
        let origin = self.origin.as_ref();
        let run = origin.map(|origin| match origin.runs {
            0 | 1 => origin.run.to_string(),
            runs => format!("{} and {} more", origin.run, number::thousands(runs - 1)),
        });
        let seconds = origin.and_then(|origin| origin.seconds).map(number::seconds);
        [
            name,
            origin.map(|origin| origin.pipeline.clone()).unwrap_or_default(),
            run.unwrap_or_default(),
            self.last_used.ago(Timestamp::now()),
            seconds.unwrap_or_default(),
            number::bytes(self.bytes),
        ]
    }
}

fn artifacts(collection: &Collection) -> u64 {
    collection.removed.iter().filter(|removed| is_artifact_part(&removed.item.part)).count() as u64
}

fn is_artifact_part(part: &Part) -> bool {
    matches!(part, Part::Artifact(_))
}

/// The name in the first column.
fn category(part: &Part, origin: Option<&Origin>) -> String {
    match (part, origin) {
        (Part::Memo(_), Some(origin)) => format!("{}: checkpoint", origin.stage),
        (_, Some(origin)) => origin.stage.clone(),
        (Part::Artifact(_), None) => "of no run on record".to_owned(),
        (Part::Memo(name), None) => format!("memo: {}", name.bucket()),
        (Part::Key(_), None) => "keys without artifact".to_owned(),
        (Part::Listing(_), None) => "folder listings".to_owned(),
        (Part::Damaged(_), None) => "damaged".to_owned(),
        (Part::Leftover(_), None) => "left by killed runs".to_owned(),
    }
}

/// The kind in JSON.
fn kind(part: &Part, origin: Option<&Origin>) -> &'static str {
    match part {
        Part::Artifact(_) => "artifact",
        Part::Memo(_) if origin.is_some() => "checkpoint",
        Part::Memo(_) => "memo",
        Part::Key(_) => "key",
        Part::Listing(_) => "listing",
        Part::Damaged(_) => "damaged",
        Part::Leftover(_) => "leftover",
    }
}

/// The name in JSON: a digest, a bucket of the memo, or a file's name.
fn name(part: &Part) -> String {
    match part {
        Part::Artifact(digest) | Part::Key(digest) => digest.to_string(),
        Part::Memo(name) => name.bucket().to_owned(),
        Part::Listing(path) | Part::Damaged(path) | Part::Leftover(path) => {
            path.file_name().unwrap_or_default().to_string_lossy().into_owned()
        }
    }
}
