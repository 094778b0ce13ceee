//! The seal of a record. `run.json` ends with a digest of everything before it, and lists the other
//! files of the record with their lengths and digests, so that the rename that ends a run also seals
//! it. Nothing that differs from that is believed: a result is read from its artifact then.

use super::record::{FORMAT, LOCK, RUN};
use super::{Record, RunsError, labels, results};
use crate::store::{Artifact, Digest, Store, digest_file};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path};
use walkdir::WalkDir;

/// The first format whose records are sealed.
const SEALED_FROM: u32 = 3;

/// The text between the record and its digest, and the one after it.
const BEFORE: &str = ",\n  \"digest\": \"";
const AFTER: &str = "\"\n}\n";

/// A file of a record as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedFile {
    /// The length in bytes.
    pub len: u64,
    pub digest: Digest,
}

/// The files of a record by their paths in its folder, separated by `/`.
pub(super) type SealedFiles = BTreeMap<String, SealedFile>;

/// The result of checking all records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The number of records that were checked.
    pub runs: u64,
    /// The number of those without a seal: they are of an earlier version.
    pub unsealed: u64,
    /// The damage that was repaired from artifacts, one sentence each.
    pub repaired: Vec<String>,
    /// The damage that stays, one sentence each.
    pub damaged: Vec<String>,
}

/// Adds its digest to the JSON of a record, which ends with `\n}`.
pub(super) fn with_digest(mut json: Vec<u8>) -> Vec<u8> {
    json.truncate(json.len().saturating_sub("\n}".len()));
    let digest = Digest::of(&json);
    json.extend_from_slice(format!("{BEFORE}{digest}{AFTER}").as_bytes());
    json
}

/// Why the text of a record with this format isn't believed, if that is so.
pub(super) fn problem(text: &[u8], format: u32) -> Option<&'static str> {
    match has_own_digest(text) {
        Some(true) => None,
        Some(false) => Some("its digest doesn't match"),
        // A newer format is refused for being one.
        None if (SEALED_FROM..=FORMAT).contains(&format) => Some("its digest is missing"),
        None => None,
    }
}

/// Whether the digest at the end of a record is that of the text before it. None without one.
fn has_own_digest(text: &[u8]) -> Option<bool> {
    let text = text.strip_suffix(AFTER.as_bytes())?;
    let (text, digest) = text.split_at_checked(text.len().checked_sub(64)?)?;
    let text = text.strip_suffix(BEFORE.as_bytes())?;
    let digest: Digest = std::str::from_utf8(digest).ok()?.parse().ok()?;
    Some(Digest::of(text) == digest)
}

/// The file `name` in `folder` as it is now.
pub(super) fn file(folder: &Path, name: &str) -> io::Result<SealedFile> {
    if !is_below(name) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let path = folder.join(name);
    let metadata = fs::symlink_metadata(&path)?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(SealedFile { len: metadata.len(), digest: digest_file(&path)? })
}

/// The files of the record in `folder`, as they are now.
pub(super) fn files(folder: &Path) -> Result<SealedFiles, RunsError> {
    let mut files = SealedFiles::new();
    for entry in WalkDir::new(folder).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| RunsError::io("list", folder, error.into()))?;
        let name = entry.path().strip_prefix(folder).ok().and_then(Path::to_str);
        let Some(name) = name.filter(|name| entry.file_type().is_file() && is_of_record(name))
        else {
            continue;
        };
        let sealed =
            file(folder, name).map_err(|error| RunsError::io("read", entry.path(), error))?;
        files.insert(name.to_owned(), sealed);
    }
    Ok(files)
}

/// Whether a file is part of the record. The user's labels change, and pages are drawn again at any
/// time.
fn is_of_record(name: &str) -> bool {
    let is_page = name.starts_with("report") && name.ends_with(".html");
    !(is_page || name.starts_with('.') || [RUN, LOCK, labels::FILE].contains(&name))
}

impl Record {
    /// Whether a digest protects its files. Records of earlier versions have none.
    pub fn is_sealed(&self) -> bool {
        self.format >= SEALED_FROM
    }

    /// Whether a file of the record is what was recorded. Without a seal that isn't known, and the
    /// file is believed.
    pub(super) fn is_intact(&self, name: &str) -> bool {
        let recorded = || self.files.get(name);
        !self.is_sealed() || recorded().is_some_and(|recorded| is_same(self, name, recorded))
    }

    /// The files that it has beside `run.json`, apart from those that would lie elsewhere.
    pub fn sealed_files(&self) -> impl Iterator<Item = (&str, &SealedFile)> {
        self.files
            .iter()
            .map(|(name, file)| (name.as_str(), file))
            .filter(|(name, _)| is_below(name))
    }

    /// The files that aren't what was recorded.
    pub fn damaged_files(&self) -> Vec<&str> {
        self.damaged_among(|_| true)
    }

    /// The results called `file`, of any stage, that aren't what was recorded. Others aren't read.
    pub fn damaged_results(&self, file: &str) -> Vec<&str> {
        self.damaged_among(|name| Path::new(name).ends_with(file))
    }

    fn damaged_among(&self, wanted: impl Fn(&str) -> bool) -> Vec<&str> {
        let files = self.files.iter().filter(|(name, _)| wanted(name));
        let damaged = files.filter(|(name, recorded)| !is_same(self, name, recorded));
        damaged.map(|(name, _)| name.as_str()).collect()
    }
}

/// Whether a path stays in the folder that it is joined to.
fn is_below(name: &str) -> bool {
    Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

fn is_same(record: &Record, name: &str, recorded: &SealedFile) -> bool {
    // The length first: it is known without reading the file.
    let path = record.folder.join(name);
    fs::symlink_metadata(&path).is_ok_and(|found| found.is_file() && found.len() == recorded.len)
        && file(&record.folder, name).is_ok_and(|found| found == *recorded)
}

/// Checks every record, and repairs what their artifacts still have.
pub fn check_records(records: &[Record], store: &Store) -> Checked {
    let mut checked = Checked { runs: records.len() as u64, ..Checked::default() };
    for record in records {
        if let Some(problem) = &record.problem {
            let text = format!("the record of run {} can't be read: {problem}", record.id);
            checked.damaged.push(text);
            continue;
        }
        checked.unsealed += u64::from(!record.is_sealed());
        for name in record.damaged_files() {
            let of = format!("{name} of run {}", record.id);
            match repair(record, name, store) {
                Ok(true) => {
                    checked.repaired.push(format!("{of} was copied from its artifact again"))
                }
                Ok(false) => checked
                    .damaged
                    .push(format!("{of} differs from its recorded digest, and no artifact has it")),
                Err(error) => {
                    checked.damaged.push(format!("{of} differs from its recorded digest: {error}"))
                }
            }
        }
    }
    checked
}

/// Copies a damaged file of a record from its artifact again. False if no artifact has it.
fn repair(record: &Record, name: &str, store: &Store) -> Result<bool, RunsError> {
    let Some(recorded) = record.files.get(name).filter(|_| is_below(name)) else {
        return Ok(false);
    };
    let Some((artifact, file)) = source(record, name, store) else { return Ok(false) };
    let is_whole = artifact.manifest.files.iter().any(|listed| {
        listed.path == file && listed.digest == recorded.digest && artifact.intact(&file).is_some()
    });
    if !is_whole {
        return Ok(false);
    }
    let path = record.folder.join(name);
    store
        .set_aside(
            &path,
            &format!("{name} of run {}", record.id),
            "it differs from its recorded digest",
        )
        .map_err(|error| RunsError::io("replace", &path, io::Error::other(error)))?;
    results::copy_file(&artifact.file(&file), &path)?;
    Ok(true)
}

/// The artifact that a file of a record was copied from, and its name there.
fn source(record: &Record, name: &str, store: &Store) -> Option<(Artifact, String)> {
    let stage = record.stages.iter().find(|stage| {
        name.strip_prefix(&results::folder_name(&stage.stage))
            .is_some_and(|rest| rest.starts_with('/'))
    })?;
    let digest = stage.digest.as_ref()?.parse().ok()?;
    let file = name.rsplit('/').next()?.to_owned();
    Some((store.artifact(&digest).ok()??, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_of_a_record_is_noticed() {
        let text = with_digest(b"{\n  \"format\": 3,\n  \"id\": \"abcdef\"\n}".to_vec());
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["id"], "abcdef");
        assert_eq!(problem(&text, 3), None);
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone();
                changed[at] ^= 1 << bit;
                assert!(problem(&changed, 3).is_some(), "byte {at}, bit {bit}");
            }
            assert!(problem(&text[..at], 3).is_some(), "cut at {at}");
        }
        assert_eq!(problem(b"{}\n", 2), None, "a record of an earlier version");
    }
}
