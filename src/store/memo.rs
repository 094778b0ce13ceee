//! A keyed side store for pure, repeatable work: downloads, facts of images, features, checkpoints. It may change how
//! long something takes, never a byte of what comes out, so anything in it may vanish at any time. It survives kills; a
//! value that was cut short or changed reads as absent.

use super::artifact::settle;
use super::digest::Digest;
use super::lock::Lock;
use super::sealed::{self, Sealed};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How old a time of last use may get before a use renews it: exact enough for `gc`, and few writes.
const RENEW: Duration = Duration::from_secs(24 * 3600);

/// The memo of a store. Cheap to clone; usable from any thread and process.
#[derive(Clone, Debug)]
pub struct Memo(Arc<Home>);

#[derive(Debug)]
struct Home {
    values: PathBuf,
    locks: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

/// A lock on a key of the memo, held until dropped.
#[derive(Debug)]
pub struct MemoLock(#[expect(dead_code, reason = "held, not looked at")] Lock);

impl Memo {
    pub(super) fn new(values: PathBuf, locks: PathBuf) -> Memo {
        Memo(Arc::new(Home { values, locks, _temporary: None }))
    }

    /// A memo that vanishes with its last clone, for tests.
    pub fn temporary() -> io::Result<Memo> {
        let folder = tempfile::tempdir()?;
        let (values, locks) = (folder.path().join("memo"), folder.path().join("locks"));
        Ok(Memo(Arc::new(Home { values, locks, _temporary: Some(folder) })))
    }

    /// What was put under `key` in `bucket`, if it is there whole.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let path = self.place(bucket, key, "value");
        let value = read(&path, key)?;
        renew(&path);
        Some(value)
    }

    /// Keeps `value` under `key` in `bucket`. Whoever reads meanwhile sees the old value or the new, whole.
    pub fn put(&self, bucket: &str, key: &str, value: &[u8]) -> io::Result<()> {
        write(&self.place(bucket, key, "value"), key, value)
    }

    /// The file that was linked under `key` in `bucket`, if it is there in its full length. Its content isn't read:
    /// whoever does checks it. Read-only.
    pub fn file(&self, bucket: &str, key: &str) -> Option<PathBuf> {
        let seal = self.place(bucket, key, "length");
        let length = u64::from_le_bytes(read(&seal, key)?.try_into().ok()?);
        let path = self.place(bucket, key, "file");
        let found = std::fs::metadata(&path).ok()?;
        if !found.is_file() || found.len() != length {
            return None;
        }
        renew(&seal);
        Some(path)
    }

    /// Keeps `file` under `key` in `bucket`: a hard link, or a copy where links fail. The file becomes read-only and gets
    /// the time of committed files, so it has to be the caller's own, and finished.
    pub fn link(&self, bucket: &str, key: &str, file: &Path) -> io::Result<()> {
        if self.file(bucket, key).is_some() {
            return Ok(());
        }
        self.discard(bucket, key, &["length", "file"])?;
        let path = self.place(bucket, key, "file");
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        std::fs::create_dir_all(folder)?;
        let linked = tempfile::Builder::new()
            .prefix(sealed::UNFINISHED)
            .make_in(folder, |name| std::fs::hard_link(file, name))
            .map(tempfile::NamedTempFile::into_temp_path);
        let kept = match linked {
            Ok(linked) => linked,
            Err(_) => {
                let mut copy = sealed::unfinished(folder)?;
                io::copy(&mut File::open(file)?, &mut copy)?;
                copy.into_temp_path()
            }
        };
        let opened = File::open(&kept)?;
        settle(&opened)?;
        let length = opened.metadata()?.len();
        kept.persist(&path)?;
        write(&self.place(bucket, key, "length"), key, &length.to_le_bytes())
    }

    /// Where a file for `key` in `bucket` may be made bit by bit, by whoever holds the key's [`lock`](Self::lock): it
    /// survives kills until it is finished, linked and removed, or too old for `gc`.
    pub fn partial(&self, bucket: &str, key: &str) -> io::Result<PathBuf> {
        let path = self.place(bucket, key, "partial");
        std::fs::create_dir_all(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        Ok(path)
    }

    /// Forgets what is kept under `key` in `bucket`.
    pub fn remove(&self, bucket: &str, key: &str) -> io::Result<()> {
        self.discard(bucket, key, &["length", "file", "value"])
    }

    fn discard(&self, bucket: &str, key: &str, parts: &[&str]) -> io::Result<()> {
        for what in parts {
            match std::fs::remove_file(self.place(bucket, key, what)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits for the lock of `key` in `bucket`: for work that two processes shouldn't both do.
    pub fn lock(&self, bucket: &str, key: &str) -> io::Result<MemoLock> {
        let name = Digest::of(format!("{bucket}\n{key}").as_bytes());
        Lock::wait(&self.0.locks.join(name.to_string())).map(MemoLock)
    }

    /// Every file that is kept, for tests that lose some.
    #[cfg(test)]
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
        let walk = walkdir::WalkDir::new(&self.0.values).sort_by_file_name();
        let files = walk
            .into_iter()
            .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_type().is_file()));
        files.map(|entry| Ok(entry?.into_path())).collect()
    }

    fn place(&self, bucket: &str, key: &str, what: &str) -> PathBuf {
        let name = Digest::of(key.as_bytes()).to_string();
        let shelf = name.get(..2).unwrap_or_default();
        self.0.values.join(plain(bucket)).join(shelf).join(format!("{name}.{what}"))
    }
}

/// A bucket's name as a folder's.
fn plain(bucket: &str) -> String {
    let keep =
        |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
    format!("{}_", bucket.chars().map(keep).collect::<String>())
}

/// The payload of a memo file names its key, so that a file under another's name isn't taken for it.
fn write(path: &Path, key: &str, value: &[u8]) -> io::Result<()> {
    let mut payload = (key.len() as u64).to_le_bytes().to_vec();
    payload.extend_from_slice(key.as_bytes());
    payload.extend_from_slice(value);
    sealed::write(path, &sealed::seal(&payload), false)
}

fn read(path: &Path, key: &str) -> Option<Vec<u8>> {
    let Ok(Sealed::Whole(payload)) = sealed::read(path) else { return None };
    let (length, rest) = payload.split_first_chunk::<8>()?;
    let (found, value) =
        rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    (found == key.as_bytes()).then(|| value.to_vec())
}

/// Notes that a file was used, for `gc`. Best effort: a store may be read-only.
pub(super) fn renew(path: &Path) {
    let now = SystemTime::now();
    let Ok(file) = File::open(path) else { return };
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    if modified.is_ok_and(|time| now.duration_since(time).is_ok_and(|age| age > RENEW)) {
        let _ = file.set_modified(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_is_there_until_it_is_removed() {
        let memo = Memo::temporary().unwrap();
        assert_eq!(memo.get("b", "k"), None);
        memo.put("b", "k", b"one").unwrap();
        memo.put("b", "k", b"two").unwrap();
        memo.put("c", "k", b"").unwrap();
        assert_eq!(memo.clone().get("b", "k").as_deref(), Some(&b"two"[..]));
        assert_eq!(memo.get("c", "k").as_deref(), Some(&b""[..]));
        memo.remove("b", "k").unwrap();
        memo.remove("b", "k").unwrap();
        assert_eq!(memo.get("b", "k"), None);
        assert!(memo.get("c", "k").is_some());
    }

    #[test]
    fn every_truncation_reads_as_absent() {
        let memo = Memo::temporary().unwrap();
        memo.put("b", "key", b"value").unwrap();
        let outside = tempfile::tempdir().unwrap();
        let file = outside.path().join("file");
        std::fs::write(&file, b"content").unwrap();
        memo.link("b", "key", &file).unwrap();
        let whole = |what| std::fs::read(memo.place("b", "key", what)).unwrap();
        for what in ["value", "length", "file"] {
            let bytes = whole(what);
            let path = memo.place("b", "key", what);
            for length in 0..bytes.len() {
                std::fs::remove_file(&path).unwrap();
                std::fs::write(&path, &bytes[..length]).unwrap();
                assert_eq!(memo.get("b", "key").is_none(), what == "value", "{what} {length}");
                assert_eq!(memo.file("b", "key").is_none(), what != "value", "{what} {length}");
            }
            std::fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(std::fs::read(memo.file("b", "key").unwrap()).unwrap(), b"content");
    }

    #[test]
    fn a_file_under_anothers_name_is_not_taken_for_it() {
        let memo = Memo::temporary().unwrap();
        memo.put("b", "one", b"1").unwrap();
        memo.put("b", "two", b"2").unwrap();
        std::fs::rename(memo.place("b", "one", "value"), memo.place("b", "two", "value")).unwrap();
        assert_eq!(memo.get("b", "two"), None);
    }

    #[test]
    fn a_link_outlives_its_file_and_can_be_made_again() {
        let memo = Memo::temporary().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let file = outside.path().join("file");
        std::fs::write(&file, b"content").unwrap();
        memo.link("b", "k", &file).unwrap();
        memo.link("b", "k", &file).unwrap();
        std::fs::remove_file(memo.place("b", "k", "length")).unwrap();
        assert_eq!(memo.file("b", "k"), None);
        memo.link("b", "k", &file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(std::fs::read(memo.file("b", "k").unwrap()).unwrap(), b"content");
        let folder = memo.place("b", "k", "file");
        assert_eq!(std::fs::read_dir(folder.parent().unwrap()).unwrap().count(), 2);
    }

    #[test]
    fn one_at_a_time_holds_a_key() {
        let memo = Memo::temporary().unwrap();
        let held = memo.lock("b", "k").unwrap();
        let _other = memo.lock("b", "l").unwrap();
        let waits = {
            let memo = memo.clone();
            std::thread::spawn(move || drop(memo.lock("b", "k").unwrap()))
        };
        std::thread::sleep(Duration::from_millis(30));
        assert!(!waits.is_finished());
        drop(held);
        waits.join().unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bucket_and_key_work(bucket in ".{0,8}", key in ".{0,300}", value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let memo = Memo::temporary().unwrap();
            memo.put(&bucket, &key, &value).unwrap();
            prop_assert_eq!(memo.get(&bucket, &key), Some(value));
        }
    }
}
