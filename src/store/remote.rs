//! Artifacts of other stores: the text of their keys and manifests is checked before anything is
//! believed, and their files are committed like any artifact's. Transport is left to the caller.

use super::artifact::Artifact;
use super::digest::{Digest, digest_file};
use super::error::StoreError;
use super::manifest::{self, ListedFile, Manifest, Parsed};
use super::slot::{Entry, Slot};
use super::{FORMAT, Store, memo, sealed, split_entry};
use std::path::Path;

/// The paths of objects of a store, relative to the folder that `--cache` names.
pub mod objects {
    use super::{Digest, manifest};
    use crate::store::MemoName;
    use std::path::Path;

    /// The folder of this format.
    const ROOT: &str = "v1";

    /// The file that says the format.
    pub fn format() -> String {
        format!("{ROOT}/format")
    }

    /// The entry of a cache key.
    pub fn key(key: &Digest) -> String {
        sharded("keys", key)
    }

    /// A file of an artifact.
    pub fn file(artifact: &Digest, path: &str) -> String {
        format!("{}/{path}", sharded("artifacts", artifact))
    }

    /// The manifest of an artifact.
    pub fn manifest(artifact: &Digest) -> String {
        file(artifact, manifest::NAME)
    }

    /// A file of the record of a run.
    pub fn of_run(id: &str, name: &str) -> String {
        format!("{ROOT}/runs/{id}/{name}")
    }

    /// The file with the id of the latest run that was pushed under a name.
    pub fn name(name: &str) -> String {
        format!("{ROOT}/names/{name}.id")
    }

    /// A part of a memo entry: `value`, `length` or `file`.
    pub fn memo(bucket: &str, key: &str, part: &str) -> String {
        let folder = Path::new(ROOT).join("memo");
        MemoName::of(bucket, key).path(&folder, part).to_string_lossy().into_owned()
    }

    fn sharded(folder: &str, digest: &Digest) -> String {
        let name = digest.to_string();
        format!("{ROOT}/{folder}/{}/{name}", &name[..2])
    }
}

/// The largest key entry, manifest, value of the memo and format that are read, in bytes.
pub const MAX_KEY: u64 = 64 << 20;
pub const MAX_VALUE: u64 = 64 << 20;
pub const MAX_MANIFEST: u64 = 256 << 20;
pub const MAX_FORMAT: u64 = 1 << 10;

/// The output of a key in another store: known by its manifest, its files are there.
#[derive(Clone, Debug)]
pub struct RemoteArtifact {
    pub key: Digest,
    /// The digest of the manifest.
    pub digest: Digest,
    pub manifest: Manifest,
    /// The log of the build.
    pub log: Vec<u8>,
    /// The store, as the user named it.
    pub place: String,
}

impl RemoteArtifact {
    /// The total length of its files, in bytes.
    pub fn size(&self) -> u64 {
        self.manifest.files.iter().fold(0, |sum, file| sum.saturating_add(file.len))
    }
}

/// Why text of another store isn't believed, as the end of a sentence.
type Refused = String;

/// Checks the text of another store's format file.
///
/// # Errors
/// The end of a sentence about the store.
pub fn check_format(text: &[u8]) -> Result<(), Refused> {
    match std::str::from_utf8(text) {
        Ok(FORMAT) => Ok(()),
        Ok(text) if text.starts_with("pipe store ") => {
            Err(format!("says `{}`: a newer `pipe` wrote it; use that one", text.trim_end()))
        }
        _ => Err("has another text in `v1/format` than a store".to_owned()),
    }
}

/// The text of the format file of a new store.
pub fn format_text() -> &'static str {
    FORMAT
}

/// The artifact and the log in the entry of `key`.
///
/// # Errors
/// The end of a sentence about the entry.
pub fn parse_key(key: &Digest, text: &[u8]) -> Result<(Digest, Vec<u8>), Refused> {
    let payload = sealed::unseal(text).ok_or("isn't what was written: its digest doesn't match")?;
    split_entry(key, payload.to_vec()).ok_or_else(|| "is that of another key".to_owned())
}

/// The value in the file of a memo entry.
///
/// # Errors
/// The end of a sentence about the file.
pub fn parse_value(key: &str, text: &[u8]) -> Result<Vec<u8>, Refused> {
    let payload = sealed::unseal(text).ok_or("isn't what was written: its digest doesn't match")?;
    memo::value_of(payload.to_vec(), key).ok_or_else(|| "is that of another entry".to_owned())
}

/// The file of a memo entry with this value.
pub fn value_text(key: &str, value: &[u8]) -> Vec<u8> {
    memo::text_of(key, value)
}

/// The manifest of the artifact `digest`.
///
/// # Errors
/// The end of a sentence about the manifest.
pub fn parse_manifest(digest: &Digest, text: &[u8]) -> Result<Manifest, Refused> {
    if Digest::of(text) != *digest {
        return Err("isn't what was written: its digest doesn't match".to_owned());
    }
    let manifest = match Manifest::parse(text) {
        Parsed::Manifest(manifest) => manifest,
        Parsed::Newer(format) => {
            return Err(format!("has format {format}: a newer `pipe` wrote it; use that one"));
        }
        Parsed::Invalid => return Err("can't be parsed, or names a file elsewhere".to_owned()),
    };
    // A commit of the same files writes the same text only if it is in the one form there is.
    let is_sorted = manifest.files.is_sorted_by(|one, next| one.path < next.path);
    let is_plain = |file: &ListedFile| file.path != manifest::NAME && !file.path.contains('\0');
    if manifest.digest() != *digest || !is_sorted || !manifest.files.iter().all(is_plain) {
        return Err("isn't in the form in which `pipe` writes it".to_owned());
    }
    Ok(manifest)
}

/// Compares a file that was copied from another store with its entry in a manifest.
///
/// # Errors
/// The end of a sentence about the file.
pub fn check_file(path: &Path, listed: &ListedFile) -> Result<(), Refused> {
    let failed = |error: std::io::Error| format!("can't be read: {error}");
    let found = std::fs::symlink_metadata(path).map_err(failed)?.len();
    if found != listed.len {
        return Err(format!("has {found} bytes instead of {}", listed.len));
    }
    match digest_file(path).map_err(failed)? == listed.digest {
        true => Ok(()),
        false => Err("differs from its digest".to_owned()),
    }
}

impl Store {
    /// Takes the artifact of another store: `copy` writes its files to a folder, which is then
    /// committed. Waits as [`Store::enter`] if another process makes it meanwhile. With `force`, also
    /// if the key has an artifact.
    ///
    /// # Errors
    /// Those of `copy`; if the folder then has other files than the manifest lists, or the store
    /// fails.
    pub fn take<E: From<StoreError>>(
        &self,
        artifact: &RemoteArtifact,
        force: bool,
        keep_waiting: &mut dyn FnMut() -> bool,
        copy: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Artifact, E> {
        let slot = match self.enter(&artifact.key, force, keep_waiting)? {
            Entry::Hit(found) => return Ok(found),
            Entry::Miss(slot) => slot,
        };
        copy(slot.path())?;
        Ok(commit(slot, artifact)?)
    }

    /// The entry of a key as it is written, if it leads to this artifact.
    pub fn key_entry(
        &self,
        key: &Digest,
        artifact: &Digest,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        if self.read_key(key)?.is_none_or(|(found, _)| found != *artifact) {
            return Ok(None);
        }
        let path = self.key_path(key);
        std::fs::read(&path).map(Some).map_err(StoreError::io("reading", &path))
    }
}

fn commit(slot: Slot, artifact: &RemoteArtifact) -> Result<Artifact, StoreError> {
    let path = slot.path().to_owned();
    let committed = slot.commit_if(&artifact.log, |digest| *digest == artifact.digest)?;
    committed.ok_or_else(|| {
        let reason = "its files aren't those of its manifest".to_owned();
        StoreError::Unfit { path, reason }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listed(path: &str) -> ListedFile {
        ListedFile { path: path.to_owned(), len: 1, digest: Digest::of(path.as_bytes()) }
    }

    fn parsed(files: Vec<ListedFile>) -> Result<Manifest, String> {
        let text = Manifest { files }.text();
        parse_manifest(&Digest::of(text.as_bytes()), text.as_bytes())
    }

    #[test]
    fn a_manifest_is_believed_only_in_its_one_form_and_with_files_inside() {
        assert_eq!(parsed(vec![listed("a"), listed("b/c")]).unwrap().files.len(), 2);
        for path in ["../a", "/etc/passwd", "a/../../b", "manifest.json", "a//b", "", ".", "a\0b"] {
            assert!(parsed(vec![listed(path)]).is_err(), "{path:?}");
        }
        assert!(parsed(vec![listed("b"), listed("a")]).is_err(), "not sorted");
        assert!(parsed(vec![listed("a"), listed("a")]).is_err(), "twice");
        let text = Manifest { files: vec![listed("a")] }.text();
        let spaced = text.replace(':', ": ");
        assert!(parse_manifest(&Digest::of(spaced.as_bytes()), spaced.as_bytes()).is_err());
        assert!(parse_manifest(&Digest::of(b"other"), text.as_bytes()).is_err());
    }

    #[test]
    fn an_entry_is_that_of_its_key_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (key, other) = (Digest::of(b"key"), Digest::of(b"other"));
        let Ok(Entry::Miss(slot)) = store.enter(&key, false, &mut || true) else { panic!() };
        std::fs::write(slot.path().join("a"), "content").unwrap();
        let artifact = slot.commit(b"log\n").unwrap();
        let text = store.key_entry(&key, &artifact.digest).unwrap().unwrap();
        assert_eq!(parse_key(&key, &text).unwrap(), (artifact.digest, b"log\n".to_vec()));
        assert!(store.key_entry(&key, &other).unwrap().is_none());
        assert!(parse_key(&other, &text).unwrap_err().contains("another key"));
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert!(parse_key(&key, &changed).is_err(), "byte {at}");
            assert!(parse_key(&key, &text[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_value_of_a_memo_is_that_of_its_key_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.memo().put("some bucket", "key", b"value").unwrap();
        let object = objects::memo("some bucket", "key", "value");
        let text = std::fs::read(folder.path().join(object)).unwrap();
        assert_eq!(text, value_text("key", b"value"));
        assert_eq!(parse_value("key", &text).unwrap(), b"value");
        assert!(parse_value("other", &text).unwrap_err().contains("another entry"));
        for at in 0..text.len() {
            assert!(parse_value("key", &text[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn files_that_arent_those_of_the_manifest_are_not_committed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let manifest = Manifest {
            files: vec![ListedFile { path: "a".into(), len: 3, digest: Digest::of(b"abc") }],
        };
        let (key, digest) = (Digest::of(b"key"), manifest.digest());
        let place = "elsewhere".to_owned();
        let artifact = RemoteArtifact { key, digest, manifest, log: b"log\n".to_vec(), place };
        let take = |content: &'static [u8], extra: bool| {
            store.take(&artifact, false, &mut || true, |folder| {
                std::fs::write(folder.join("a"), content).unwrap();
                if extra {
                    std::fs::write(folder.join("b"), "").unwrap();
                }
                Ok::<(), StoreError>(())
            })
        };
        assert!(take(b"abd", false).is_err());
        assert!(take(b"abc", true).is_err());
        assert!(store.lookup(&key).unwrap().is_none());
        assert!(store.artifacts().is_empty());
        assert_eq!(take(b"abc", false).unwrap().digest, digest);
        assert_eq!(store.log(&key).unwrap(), b"log\n");
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_handled(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse_key(&Digest::of(b"key"), &text).is_err());
            prop_assert!(parse_manifest(&Digest::of(&text), &text).is_err());
            prop_assert!(parse_value("key", &text).is_err());
            let _ = check_format(&text);
        }
    }
}
