//! `rejected.csv`: every file that isn't used, with its class as far as it is known and the reason.
//! A reason is a kind of reasons, or a kind, a colon and a detail.

use super::DataError;
use crate::common::csv_text::not_a_formula;
use crate::common::number::thousands;
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file.
pub const REJECTED: &str = "rejected.csv";

/// An image that can't be decoded.
pub const UNDECODABLE: &str = "can't be decoded";
/// A file or folder that can't be opened.
pub const UNREADABLE: &str = "can't be opened";
/// A link to a file that isn't there.
pub const DANGLING: &str = "dangling link";
/// A row of a table whose image isn't there.
pub const NO_FILE: &str = "no such file";
/// An image in a format that can't be read.
pub const UNSUPPORTED: &str = "unsupported format";
/// A file that is no image.
pub const OTHER: &str = "not an image";
/// A file or folder whose name begins with a dot, or metadata of macOS.
pub const HIDDEN: &str = "hidden";
/// A socket, a pipe or a device.
pub const NOT_A_FILE: &str = "not an image: neither a file nor a folder";
/// A file whose name isn't UTF-8.
pub const NOT_UTF8: &str = "name that isn't UTF-8";
/// A file that could hold images, beside those that were chosen.
pub const NOT_CHOSEN: &str = "not chosen";
/// A folder without files.
pub const EMPTY: &str = "empty folder";

/// An image of which there is a copy in a split that is scored.
pub const LEAK: &str = "copy in another split";

/// Reasons that count as rejected images, against `max_rejected`.
const COUNTED: [&str; 5] = [UNDECODABLE, UNREADABLE, DANGLING, NO_FILE, UNSUPPORTED];

/// A file that isn't used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rejected {
    /// Relative path, folders with a `/` at their end.
    pub path: String,
    /// Its class; empty where it isn't known.
    pub class: String,
    pub reason: String,
}

impl Rejected {
    /// The kind of the reason.
    pub fn kind(&self) -> &str {
        self.reason.split_once(": ").map_or(self.reason.as_str(), |(kind, _)| kind)
    }

    /// Whether it is an image that should have been used.
    pub fn is_counted(&self) -> bool {
        COUNTED.contains(&self.kind())
    }
}

/// Writes [`REJECTED`] into a folder.
pub fn write(folder: &Path, rejected: &[Rejected]) -> Result<(), DataError> {
    let path = folder.join(REJECTED);
    let written = || {
        let mut csv = csv::Writer::from_path(&path)?;
        csv.write_record(["path", "class", "reason"])?;
        for one in rejected {
            let row = [&one.path, &one.class, &one.reason].map(|field| not_a_formula(field));
            csv.write_record(row.iter().map(|field| field.as_bytes()))?;
        }
        Ok(csv.flush()?)
    };
    written().map_err(|error: csv::Error| DataError::io("write", &path, error.into()))
}

/// The number of files for each kind of reason.
pub fn counts(rejected: &[Rejected]) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    for one in rejected {
        *counts.entry(one.kind()).or_default() += 1;
    }
    counts
}

/// "3 not used (2 dangling link, 1 not an image)"; empty if every file is used.
pub fn summary(rejected: &[Rejected]) -> String {
    if rejected.is_empty() {
        return String::new();
    }
    let kinds =
        counts(rejected).into_iter().map(|(kind, count)| format!("{kind}: {}", thousands(count)));
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    format!("{} not used ({kinds})", thousands(rejected.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(path: &str, reason: &str) -> Rejected {
        Rejected { path: path.into(), class: "=1+1".into(), reason: reason.into() }
    }

    #[test]
    fn the_table_names_each_file_and_no_field_is_a_formula() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [
            one("a,b.png", "can't be decoded: the file is empty"),
            one("@x/1.png", DANGLING),
            one("n.txt", OTHER),
            one("m.txt", OTHER),
        ];
        write(folder.path(), &rows).unwrap();
        let text = std::fs::read_to_string(folder.path().join(REJECTED)).unwrap();
        assert_eq!(
            text,
            "path,class,reason\n\"a,b.png\",'=1+1,can't be decoded: the file is empty\n\
             '@x/1.png,'=1+1,dangling link\nn.txt,'=1+1,not an image\nm.txt,'=1+1,not an image\n"
        );
        assert_eq!(
            summary(&rows),
            "4 not used (can't be decoded: 1, dangling link: 1, not an image: 2)"
        );
        assert_eq!(rows.iter().filter(|row| row.is_counted()).count(), 2);
        assert_eq!(summary(&[]), "");
    }
}
