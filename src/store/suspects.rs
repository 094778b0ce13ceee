//! Artifacts that were made from damaged ones. A stage checks what it reads, but memory and disks
//! that damage a file may have given other bytes a moment after the check. So an output that was made
//! from files found damaged is put aside, and the next run makes it again.

use super::artifact::Artifact;
use super::digest::Digest;
use super::error::StoreError;
use super::manifest::is_among;
use super::sealed::{self, Sealed};
use super::{KeyHeader, Store, header_of};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::Path;

/// An artifact that a stage read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeFrom {
    pub artifact: Digest,
    /// The files that were read: a `/` at the end means a folder. None means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<String>,
}

/// A damaged artifact, or one that was made from one.
#[derive(Clone, Debug)]
pub(super) struct Doubtful {
    pub artifact: Digest,
    /// The damaged files. None if it isn't known which are.
    pub files: Option<Vec<String>>,
}

impl Doubtful {
    /// The files of the damaged artifact at this path that aren't what was committed.
    pub(super) fn of(path: &Path, artifact: Digest) -> Doubtful {
        let files = Artifact::remains(path, &artifact).map(|remains| remains.damaged_files());
        Doubtful { artifact, files: files.filter(|files| !files.is_empty()) }
    }

    fn was_read_by(&self, from: &MadeFrom) -> bool {
        let reads: Vec<&str> = from.reads.iter().map(String::as_str).collect();
        let is_read = |file: &String| reads.is_empty() || is_among(file, &reads);
        from.artifact == self.artifact
            && self.files.as_ref().is_none_or(|files| files.iter().any(is_read))
    }
}

impl Store {
    /// Puts the artifacts aside that were made from damaged ones, and those made from these.
    ///
    /// # Errors
    /// If an I/O operation fails.
    pub(super) fn put_suspects_aside(&self, damaged: Vec<Doubtful>) -> Result<(), StoreError> {
        if damaged.is_empty() {
            return Ok(());
        }
        let headers: Vec<KeyHeader> = self
            .named_by_digest("keys")
            .into_iter()
            .filter_map(|(path, key)| match sealed::read(&path) {
                Ok(Sealed::Whole(payload)) => header_of(&key, &payload).map(|(header, _)| header),
                _ => None,
            })
            .collect();
        let mut seen: HashSet<Digest> = damaged.iter().map(|one| one.artifact).collect();
        let mut doubtful = damaged;
        while let Some(source) = doubtful.pop() {
            for header in &headers {
                let is_made_from_it = header.made_from.iter().any(|from| source.was_read_by(from));
                if !is_made_from_it || !seen.insert(header.artifact) {
                    continue;
                }
                let path = self.artifact_path(&header.artifact);
                if path.symlink_metadata().is_ok() {
                    let [made, from] = [header.artifact, source.artifact].map(|one| one.short());
                    let sentence = format!(
                        "artifact {made} was made from artifact {from}, which is damaged: the next run makes it again"
                    );
                    self.put_aside(&path, &sentence, "it was made from a damaged artifact")?;
                }
                doubtful.push(Doubtful { artifact: header.artifact, files: None });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Build, Entry, Origin};

    fn made(store: &Store, name: &str, made_from: Vec<MadeFrom>) -> Artifact {
        let key = Digest::of(name.as_bytes());
        let Ok(Entry::Miss(slot)) = store.enter(&key, false, &mut || true) else {
            panic!("{name}")
        };
        for file in ["read", "aside"] {
            std::fs::write(slot.path().join(file), format!("{file} of {name}")).unwrap();
        }
        let origin = Origin { machine: Some("a machine".to_owned()), made_from };
        slot.built_by(origin).commit(b"log\n").unwrap()
    }

    fn reads(artifact: &Artifact, files: &[&str]) -> MadeFrom {
        let reads = files.iter().map(|file| (*file).to_owned()).collect();
        MadeFrom { artifact: artifact.digest, reads }
    }

    /// Damages a file behind the quick check.
    fn damage(artifact: &Artifact, name: &str) {
        let path = artifact.file(name);
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        let length = std::fs::read(&path).unwrap().len();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, vec![b'x'; length]).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(time).unwrap();
    }

    #[test]
    fn what_was_made_from_damaged_files_is_put_aside_with_what_was_made_from_it() {
        for (file, gone) in [("read", vec!["a", "b", "c", "d"]), ("aside", vec!["a", "d"])] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            let a = made(&store, "a", Vec::new());
            let b = made(&store, "b", vec![reads(&a, &["read"])]);
            let other = made(&store, "other", Vec::new());
            made(&store, "c", vec![reads(&other, &[]), reads(&b, &["aside"])]);
            made(&store, "d", vec![reads(&a, &[])]);
            made(&store, "e", vec![reads(&other, &[])]);
            damage(&a, file);
            let verified = store.verify(&mut |_| true).unwrap();
            assert_eq!(verified.damaged.len(), 1, "{verified:?}");
            assert_eq!(verified.suspects.len(), gone.len() - 1, "{verified:?}");
            for name in ["a", "b", "c", "d", "e", "other"] {
                let found = store.lookup(&Digest::of(name.as_bytes())).unwrap();
                assert_eq!(found.is_none(), gone.contains(&name), "{file} {name}");
            }
            let again = store.verify(&mut |_| true).unwrap();
            assert!(again.damaged.is_empty() && again.suspects.is_empty(), "{again:?}");
        }
    }

    #[test]
    fn an_entry_of_an_earlier_version_says_nothing_of_its_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let a = made(&store, "a", Vec::new());
        let key = Digest::of(b"a");
        let text = std::fs::read_to_string(store.key_path(&key)).unwrap();
        assert!(!text.contains("made_from"), "{text}");
        let machine = Some("a machine".to_owned());
        let build = Build { artifact: a.digest, machine };
        assert_eq!(store.last_build(&key).unwrap(), Some(build));
    }
}
