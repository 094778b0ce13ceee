//! The memo: a key-value cache for pure, repeatable work such as downloads, image headers, features
//! and checkpoints. It may affect running time, never results, so any entry may be removed at any
//! time. Writes are atomic; a truncated or changed value reads as absent.

use super::artifact::mark_committed;
use super::digest::Digest;
use super::folders;
use super::holder::Holder;
use super::lock::Lock;
use super::maintenance::{DiskFile, disk_files};
use super::sealed::{self, Sealed};
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The minimum time between two updates of an entry's time of last use: exact enough for `gc` with
/// few writes.
const TOUCH_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// The memo of a store. Cheap to clone, usable from any thread and process.
#[derive(Clone, Debug)]
pub struct Memo {
    home: Arc<Home>,
    sources: Vec<Arc<dyn MemoSource>>,
}

/// The memo of a store elsewhere. It has entries or not; nothing else follows from what is wrong with
/// it, apart from a warning.
pub trait MemoSource: Debug + Send + Sync {
    /// The place of the store, as the user named it.
    fn place(&self) -> &str;

    /// The value of `key` in `bucket`. None if it is absent or damaged, or the store can't be used.
    fn value(&self, bucket: &str, key: &str) -> Option<Vec<u8>>;

    /// Copies the file of `key` in `bucket` into `folder`. None if it is absent, isn't the one with
    /// this digest or has more than `most` bytes, or the store can't be used.
    fn file(
        &self,
        bucket: &str,
        key: &str,
        digest: &Digest,
        most: u64,
        folder: &Path,
    ) -> Option<PathBuf>;

    /// Says that an entry isn't used, for a reason: the end of a sentence.
    fn refuse(&self, reason: String);
}

#[derive(Debug)]
struct Home {
    values: PathBuf,
    locks: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

/// The parts of an entry: the extensions of its files. Without the first that it has, it is absent.
pub(super) const PARTS: [&str; 4] = ["value", "length", "partial", "file"];

/// The name of an entry: its bucket, and the digest of its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoName {
    /// The folder of the bucket.
    pub(super) folder: String,
    pub(super) key: Digest,
}

impl MemoName {
    /// The entry of `key` in `bucket`.
    pub fn of(bucket: &str, key: &str) -> MemoName {
        MemoName { folder: folder_name(bucket), key: Digest::of(key.as_bytes()) }
    }

    /// The bucket; other characters than ASCII letters and digits are `_`.
    pub fn bucket(&self) -> &str {
        self.folder.strip_suffix('_').unwrap_or(&self.folder)
    }

    pub(super) fn is_in(&self, bucket: &str) -> bool {
        self.folder == folder_name(bucket)
    }

    pub(super) fn path(&self, values: &Path, part: &str) -> PathBuf {
        let name = self.key.to_string();
        values.join(&self.folder).join(&name[..2]).join(format!("{name}.{part}"))
    }
}

/// The lock of a key, held until dropped.
#[derive(Debug)]
pub struct MemoLock(#[expect(dead_code, reason = "held until dropped")] Lock);

impl Memo {
    pub(super) fn new(values: PathBuf, locks: PathBuf) -> Memo {
        let home = Arc::new(Home { values, locks, _temporary: None });
        Memo { home, sources: Vec::new() }
    }

    /// A memo that is removed with its last clone, for tests.
    pub fn temporary() -> io::Result<Memo> {
        let folder = tempfile::tempdir()?;
        let (values, locks) = (folder.path().join("memo"), folder.path().join("locks"));
        let home = Arc::new(Home { values, locks, _temporary: Some(folder) });
        Ok(Memo { home, sources: Vec::new() })
    }

    /// The same memo with those of stores elsewhere. Only who asks [`sources`](Self::sources) uses
    /// them.
    pub fn with_sources(self, sources: Vec<Arc<dyn MemoSource>>) -> Memo {
        Memo { sources, ..self }
    }

    /// The memos of stores elsewhere, in the order in which they are asked.
    pub fn sources(&self) -> &[Arc<dyn MemoSource>] {
        &self.sources
    }

    /// The value of `key` in `bucket`. None if it is absent or damaged.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let path = self.path(bucket, key, "value");
        let value = read(&path, key)?;
        touch(&path);
        Some(value)
    }

    /// Whether `key` in `bucket` has a value of this many bytes. It isn't read, so it may be damaged.
    pub fn has_value_of(&self, bucket: &str, key: &str, length: usize) -> bool {
        let path = self.path(bucket, key, "value");
        let whole = sealed::HEADER + size_of::<u64>() + key.len() + length;
        let found = std::fs::metadata(&path);
        let is_there = found.is_ok_and(|found| found.is_file() && found.len() == whole as u64);
        if is_there {
            touch(&path);
        }
        is_there
    }

    /// Sets the value of `key` in `bucket`. A concurrent reader gets the old or the new value.
    pub fn put(&self, bucket: &str, key: &str, value: &[u8]) -> io::Result<()> {
        write(&self.path(bucket, key, "value"), key, value)
    }

    /// The read-only file linked under `key` in `bucket`. None if it is absent or has another
    /// length. The content isn't checked.
    pub fn file(&self, bucket: &str, key: &str) -> Option<PathBuf> {
        let seal = self.path(bucket, key, "length");
        let length = u64::from_le_bytes(read(&seal, key)?.try_into().ok()?);
        let path = self.path(bucket, key, "file");
        let found = std::fs::metadata(&path).ok()?;
        if !found.is_file() || found.len() != length {
            return None;
        }
        touch(&seal);
        Some(path)
    }

    /// Stores `file` under `key` in `bucket` as a hard link, or as a copy if linking fails. The
    /// file becomes read-only and gets the modification time of committed files, so it must be
    /// complete and owned by the caller.
    pub fn link(&self, bucket: &str, key: &str, file: &Path) -> io::Result<()> {
        if self.file(bucket, key).is_some() {
            return Ok(());
        }
        self.discard(bucket, key, &["length", "file"])?;
        let path = self.path(bucket, key, "file");
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
        mark_committed(&opened)?;
        let length = opened.metadata()?.len();
        kept.persist(&path)?;
        write(&self.path(bucket, key, "length"), key, &length.to_le_bytes())
    }

    /// The path for a partial file of `key` in `bucket`, to be written by the holder of the key's
    /// [`lock`](Self::lock). It survives kills until it is linked and removed, or collected by
    /// `gc`.
    pub fn partial(&self, bucket: &str, key: &str) -> io::Result<PathBuf> {
        let path = self.path(bucket, key, "partial");
        std::fs::create_dir_all(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        if !path.is_file() {
            folders::remove(&path)?;
        }
        Ok(path)
    }

    /// Removes `key` from `bucket`.
    pub fn remove(&self, bucket: &str, key: &str) -> io::Result<()> {
        self.discard(bucket, key, &["length", "file", "value"])
    }

    fn discard(&self, bucket: &str, key: &str, parts: &[&str]) -> io::Result<()> {
        for part in parts {
            folders::remove(&self.path(bucket, key, part))?;
        }
        Ok(())
    }

    /// Locks `key` in `bucket`, waiting if it is taken: for work that should be done once.
    pub fn lock(&self, bucket: &str, key: &str) -> io::Result<MemoLock> {
        Lock::wait(&self.lock_path(bucket, key)).map(MemoLock)
    }

    /// The same, interruptible: while another process has the lock, `keep_waiting` is called several
    /// times a second. None once it returns false.
    pub fn lock_watched(
        &self,
        bucket: &str,
        key: &str,
        keep_waiting: &mut dyn FnMut() -> bool,
    ) -> io::Result<Option<MemoLock>> {
        let lock = Lock::watched(&self.lock_path(bucket, key), keep_waiting)?;
        Ok(lock.map(MemoLock))
    }

    /// The process that has the lock of a key.
    pub fn holder(&self, bucket: &str, key: &str) -> Option<Holder> {
        Holder::of(&self.lock_path(bucket, key))
    }

    fn lock_path(&self, bucket: &str, key: &str) -> PathBuf {
        let name = Digest::of(format!("{bucket}\n{key}").as_bytes());
        self.home.locks.join(name.to_string())
    }

    /// The files of an entry as they are on disk; none if it is absent.
    pub fn disk_files(&self, name: &MemoName) -> Vec<DiskFile> {
        let parts = PARTS.iter().map(|part| name.path(&self.home.values, part));
        parts.flat_map(|path| disk_files(&path)).collect()
    }

    /// All files, for tests that remove some.
    #[cfg(test)]
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
        let walk = walkdir::WalkDir::new(&self.home.values).sort_by_file_name();
        let files = walk
            .into_iter()
            .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_type().is_file()));
        files.map(|entry| Ok(entry?.into_path())).collect()
    }

    fn path(&self, bucket: &str, key: &str, part: &str) -> PathBuf {
        MemoName::of(bucket, key).path(&self.home.values, part)
    }
}

/// The folder of a bucket.
fn folder_name(bucket: &str) -> String {
    let keep =
        |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
    format!("{}_", bucket.chars().map(keep).collect::<String>())
}

/// The payload contains the key, so that a renamed file isn't taken for another key's.
fn write(path: &Path, key: &str, value: &[u8]) -> io::Result<()> {
    let length = (key.len() as u64).to_le_bytes();
    sealed::write_sealed(path, &[&length, key.as_bytes(), value])
}

/// The text of the file of a value, for stores elsewhere.
pub(super) fn text_of(key: &str, value: &[u8]) -> Vec<u8> {
    let length = (key.len() as u64).to_le_bytes();
    sealed::seal(&[&length, key.as_bytes(), value].concat())
}

fn read(path: &Path, key: &str) -> Option<Vec<u8>> {
    let Ok(Sealed::Whole(payload)) = sealed::read(path) else { return None };
    value_of(payload, key)
}

/// The value in the payload of an entry, if it is that of `key`.
pub(super) fn value_of(mut payload: Vec<u8>, key: &str) -> Option<Vec<u8>> {
    let (length, rest) = payload.split_first_chunk::<8>()?;
    let (found, value) =
        rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let start = payload.len() - value.len();
    (found == key.as_bytes()).then(|| {
        payload.drain(..start);
        payload
    })
}

/// Updates the time of last use, for `gc`. Best effort: the store may be read-only.
pub(super) fn touch(path: &Path) {
    let now = SystemTime::now();
    let Ok(file) = File::open(path) else { return };
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    if modified.is_ok_and(|time| now.duration_since(time).is_ok_and(|age| age > TOUCH_INTERVAL)) {
        let _ = file.set_modified(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_is_kept_until_it_is_removed() {
        let memo = Memo::temporary().unwrap();
        assert_eq!(memo.get("b", "k"), None);
        memo.put("b", "k", b"one").unwrap();
        memo.put("b", "k", b"two").unwrap();
        memo.put("c", "k", b"").unwrap();
        assert_eq!(memo.clone().get("b", "k").as_deref(), Some(&b"two"[..]));
        assert_eq!(memo.get("c", "k").as_deref(), Some(&b""[..]));
        assert!(memo.has_value_of("b", "k", 3) && memo.has_value_of("c", "k", 0));
        assert!(!memo.has_value_of("b", "k", 4) && !memo.has_value_of("b", "l", 3));
        memo.remove("b", "k").unwrap();
        memo.remove("b", "k").unwrap();
        assert_eq!(memo.get("b", "k"), None);
        assert!(memo.get("c", "k").is_some());
    }

    #[test]
    fn every_truncated_entry_reads_as_absent() {
        let memo = Memo::temporary().unwrap();
        memo.put("b", "key", b"value").unwrap();
        let outside = tempfile::tempdir().unwrap();
        let file = outside.path().join("file");
        std::fs::write(&file, b"content").unwrap();
        memo.link("b", "key", &file).unwrap();
        let whole = |what| std::fs::read(memo.path("b", "key", what)).unwrap();
        for what in ["value", "length", "file"] {
            let bytes = whole(what);
            let path = memo.path("b", "key", what);
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
    fn a_renamed_file_is_not_taken_for_another_key() {
        let memo = Memo::temporary().unwrap();
        memo.put("b", "one", b"1").unwrap();
        memo.put("b", "two", b"2").unwrap();
        std::fs::rename(memo.path("b", "one", "value"), memo.path("b", "two", "value")).unwrap();
        assert_eq!(memo.get("b", "two"), None);
    }

    #[test]
    fn a_link_outlives_its_file_and_can_be_renewed() {
        let memo = Memo::temporary().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let file = outside.path().join("file");
        std::fs::write(&file, b"content").unwrap();
        memo.link("b", "k", &file).unwrap();
        memo.link("b", "k", &file).unwrap();
        std::fs::remove_file(memo.path("b", "k", "length")).unwrap();
        assert_eq!(memo.file("b", "k"), None);
        memo.link("b", "k", &file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(std::fs::read(memo.file("b", "k").unwrap()).unwrap(), b"content");
        let folder = memo.path("b", "k", "file");
        assert_eq!(std::fs::read_dir(folder.parent().unwrap()).unwrap().count(), 2);
    }

    #[test]
    fn a_key_is_locked_by_one_at_a_time() {
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
