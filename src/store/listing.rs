//! Lists an external folder with names and digests, and reads only new and changed files. Digests
//! are remembered together with the stat fields that identify an unchanged file, in one memo file
//! per folder. A file that changed shortly before it was listed isn't remembered: it could change
//! again within the same tick of the file system's clock.

use super::digest::{Digest, digest_open};
use super::error::StoreError;
use super::manifest::{ListedFile, Manifest};
use super::sealed::{self, Sealed};
use rayon::prelude::*;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use walkdir::{DirEntry, WalkDir};

/// The minimum age of a change for a digest to be remembered. The clocks of file systems tick every
/// few milliseconds, of old ones every two seconds.
const MIN_AGE: Duration = Duration::from_secs(2);

/// The files of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by path. Links are followed.
    pub files: Vec<ListedFile>,
    /// Paths that were left out, with the reason. Sorted.
    pub skipped: Vec<(String, String)>,
    /// The digest of `files`: names and contents, independent of the folder's path.
    pub digest: Digest,
}

/// Called with the number of bytes digested and in total. Returns whether to continue.
pub(super) type Watch<'a> = &'a (dyn Fn(u64, u64) -> bool + Sync);

/// The stat fields that identify an unchanged file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Identity {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

type Known = HashMap<String, (Identity, Digest)>;

/// A file that isn't digested yet.
struct Found {
    path: String,
    identity: Identity,
}

/// Which files are listed, by their relative paths.
pub(super) type Wanted<'a> = &'a dyn Fn(&str) -> bool;

/// Lists the wanted files of `folder` with the memo file `memo`; others aren't read. Leaves out the
/// folder `own`: a store may be inside of a listed folder.
pub(super) fn list(
    folder: &Path,
    memo: &Path,
    own: &Path,
    now: SystemTime,
    wanted: Wanted,
    watch: Watch,
) -> Result<Listing, StoreError> {
    // A clock before 1970 makes every file too young to be remembered.
    let listed = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let known = read_memo(memo);
    let (mut found, mut skipped) = walk(folder, own)?;
    found.retain(|file| wanted(&file.path));
    let (digests, read) = digest_new(folder, &found, &known, watch)?;
    let stale = read > 0 || known.len() != found.len();
    let mut files = Vec::with_capacity(found.len());
    let mut remembered = Vec::with_capacity(found.len());
    for (found, digest) in found.into_iter().zip(digests) {
        match digest {
            Err(error) => skipped.push((found.path, error.to_string())),
            Ok(digest) => {
                let file = ListedFile { path: found.path, len: found.identity.length, digest };
                if is_old_enough(&found.identity, listed) {
                    remembered.push((file.path.clone(), found.identity, digest));
                }
                files.push(file);
            }
        }
    }
    if stale {
        // Without it the next listing only takes longer.
        let _ = sealed::write(memo, &sealed::seal(&encode(&remembered)), false);
    }
    skipped.sort_unstable();
    let manifest = Manifest { files };
    let digest = manifest.digest();
    Ok(Listing { files: manifest.files, skipped, digest })
}

/// The digest of a single file with the memo file `memo`: read only if it is new or changed.
pub(super) fn digest_one(path: &Path, memo: &Path, now: SystemTime) -> Result<Digest, StoreError> {
    let failed = |error| StoreError::io("reading", path)(error);
    let file = File::open(path).map_err(failed)?;
    let identity = Identity::of(&file.metadata().map_err(failed)?);
    if let Some((known, digest)) = read_memo(memo).get("")
        && *known == identity
    {
        return Ok(*digest);
    }
    let digest = digest_open(&file, identity.length).map_err(failed)?;
    if is_old_enough(&identity, now.duration_since(UNIX_EPOCH).unwrap_or_default()) {
        // Without it the next call only takes longer.
        let _ = sealed::write(
            memo,
            &sealed::seal(&encode(&[(String::new(), identity, digest)])),
            false,
        );
    }
    Ok(digest)
}

/// Whether a file's last change was long enough before it was listed. The kernel sets the change
/// time; the modification time may come from an archive.
fn is_old_enough(identity: &Identity, listed: Duration) -> bool {
    let (seconds, nanoseconds) = identity.changed;
    let changed = Duration::new(seconds.max(0) as u64, nanoseconds.clamp(0, 999_999_999) as u32);
    changed + MIN_AGE <= listed
}

type Walked = (Vec<Found>, Vec<(String, String)>);

fn walk(folder: &Path, own: &Path) -> Result<Walked, StoreError> {
    let metadata =
        std::fs::metadata(folder).map_err(StoreError::io("reading the metadata of", folder))?;
    if !metadata.is_dir() {
        return Err(StoreError::io("listing", folder)(io::ErrorKind::NotADirectory.into()));
    }
    let own = std::fs::metadata(own).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    let mut walker = WalkDir::new(folder).min_depth(1).follow_links(true).into_iter();
    while let Some(entry) = walker.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_owned();
                skipped.push((relative(folder, &path).into_owned(), walk_error(error)));
                continue;
            }
        };
        let mut skip = |reason: &str| {
            skipped.push((relative(folder, entry.path()).into_owned(), reason.to_owned()))
        };
        let is_folder = entry.file_type().is_dir();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            skip("hidden");
            if is_folder {
                walker.skip_current_dir();
            }
        } else if is_folder {
            if own.is_some()
                && entry
                    .metadata()
                    .is_ok_and(|metadata| own == Some((metadata.dev(), metadata.ino())))
            {
                walker.skip_current_dir();
            }
        } else {
            match describe(folder, &entry) {
                Ok(file) => found.push(file),
                Err(reason) => skip(&reason),
            }
        }
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok((found, skipped))
}

fn describe(folder: &Path, entry: &DirEntry) -> Result<Found, String> {
    let metadata = entry.metadata().map_err(walk_error)?;
    if !metadata.is_file() {
        return Err("neither a file nor a folder".to_owned());
    }
    match entry.path().strip_prefix(folder).unwrap_or(entry.path()).to_str() {
        Some(path) => Ok(Found { path: path.to_owned(), identity: Identity::of(&metadata) }),
        None => Err("its name isn't UTF-8".to_owned()),
    }
}

fn relative<'a>(folder: &Path, path: &'a Path) -> std::borrow::Cow<'a, str> {
    path.strip_prefix(folder).unwrap_or(path).to_string_lossy()
}

fn walk_error(error: walkdir::Error) -> String {
    match error.loop_ancestor() {
        Some(_) => "a link to a folder that contains it".to_owned(),
        None => error.into_io_error().map_or("can't be read".to_owned(), |error| error.to_string()),
    }
}

/// The digests in the order of `found`, known ones without reading the file, and the number of
/// files read. A file that can't be read has an error in its place.
fn digest_new(
    folder: &Path,
    found: &[Found],
    known: &Known,
    watch: Watch,
) -> Result<(Vec<io::Result<Digest>>, usize), StoreError> {
    let remembered = |file: &Found| match known.get(&file.path) {
        Some((identity, digest)) if *identity == file.identity => Some(*digest),
        _ => None,
    };
    let mut digests: Vec<Option<io::Result<Digest>>> =
        found.iter().map(|file| remembered(file).map(Ok)).collect();
    let unknown = |digests: &[Option<io::Result<Digest>>]| {
        digests.iter().filter(|digest| digest.is_none()).count()
    };
    let to_read = unknown(&digests);
    if to_read > 0 {
        let new = digests.iter().zip(found).filter(|(digest, _)| digest.is_none());
        let total = new.map(|(_, file)| file.identity.length).sum();
        let (done, stopped) = (AtomicU64::new(0), AtomicBool::new(!watch(0, total)));
        digests.par_iter_mut().zip(found).filter(|(digest, _)| digest.is_none()).for_each(
            |(digest, file)| {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let length = file.identity.length;
                *digest = Some(
                    File::open(folder.join(&file.path)).and_then(|file| digest_open(&file, length)),
                );
                let done = done.fetch_add(length, Ordering::Relaxed) + length;
                if !watch(done, total) {
                    stopped.store(true, Ordering::Relaxed);
                }
            },
        );
    }
    let digests: Option<Vec<_>> = digests.into_iter().collect();
    Ok((digests.ok_or(StoreError::Cancelled)?, to_read))
}

/// The path of the memo file of `folder` in `memos`.
pub(super) fn memo_path(memos: &Path, folder: &Path) -> PathBuf {
    let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    memos.join(Digest::of(folder.as_os_str().as_encoded_bytes()).to_string())
}

/// An entry of the memo file, little-endian: device, inode, length, two times as seconds and
/// nanoseconds, digest (32), length of the path (4), path.
fn encode(files: &[(String, Identity, Digest)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(files.len() * 160);
    for (path, identity, digest) in files {
        for word in [identity.device, identity.inode, identity.length] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for word in
            [identity.modified.0, identity.modified.1, identity.changed.0, identity.changed.1]
        {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(digest.as_bytes());
        bytes.extend_from_slice(&(path.len() as u32).to_le_bytes());
        bytes.extend_from_slice(path.as_bytes());
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Option<Known> {
    let bytes = &mut bytes;
    let mut known = Known::with_capacity(bytes.len() / 120);
    while !bytes.is_empty() {
        let (device, inode, length) = (take_u64(bytes)?, take_u64(bytes)?, take_u64(bytes)?);
        let mut time = || Some((take_u64(bytes)? as i64, take_u64(bytes)? as i64));
        let identity = Identity { device, inode, length, modified: time()?, changed: time()? };
        let digest = Digest::from_bytes(*bytes.split_off(..32)?.first_chunk()?);
        let path_length = u32::from_le_bytes(*bytes.split_off(..4)?.first_chunk()?);
        let path = std::str::from_utf8(bytes.split_off(..path_length as usize)?).ok()?;
        known.insert(path.to_owned(), (identity, digest));
    }
    Some(known)
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?))
}

fn read_memo(path: &Path) -> Known {
    match sealed::read(path) {
        Ok(Sealed::Whole(payload)) => decode(&payload).unwrap_or_default(),
        _ => Known::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Home {
        _temporary: tempfile::TempDir,
        folder: PathBuf,
        memo: PathBuf,
        store: PathBuf,
    }

    impl Home {
        fn new() -> Home {
            let temporary = tempfile::tempdir().unwrap();
            let (folder, memo) = (temporary.path().join("images"), temporary.path().join("memo"));
            let store = folder.join("cache");
            std::fs::create_dir_all(&store).unwrap();
            Home { folder, memo, store, _temporary: temporary }
        }

        fn write(&self, path: &str, content: &[u8]) {
            let path = self.folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }

        /// The number of bytes read and the listing, `later` seconds from now.
        fn list(&self, later: u64) -> (u64, Listing) {
            let read = AtomicU64::new(0);
            let watch = |_, total| {
                read.store(total, Ordering::Relaxed);
                true
            };
            let now = SystemTime::now() + Duration::from_secs(later);
            let listing =
                list(&self.folder, &self.memo, &self.store, now, &|path| path != "big.zip", &watch)
                    .unwrap();
            (read.into_inner(), listing)
        }
    }

    #[test]
    fn a_listing_contains_names_and_contents() {
        let home = Home::new();
        home.write("b/2.jpg", b"two");
        home.write("a.jpg", b"one");
        home.write(".DS_Store", b"x");
        home.write(".ipynb_checkpoints/a.jpg", b"x");
        home.write("cache/v1/artifact", b"x");
        std::os::unix::fs::symlink("a.jpg", home.folder.join("linked.jpg")).unwrap();
        std::os::unix::fs::symlink("nowhere", home.folder.join("broken.jpg")).unwrap();
        std::os::unix::fs::symlink("..", home.folder.join("b/loop")).unwrap();
        let (_, listing) = home.list(0);
        let files: Vec<_> =
            listing.files.iter().map(|file| (file.path.as_str(), file.len, file.digest)).collect();
        let one = Digest::of(b"one");
        assert_eq!(
            files,
            [("a.jpg", 3, one), ("b/2.jpg", 3, Digest::of(b"two")), ("linked.jpg", 3, one)]
        );
        let skipped: Vec<_> = listing.skipped.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(skipped, [".DS_Store", ".ipynb_checkpoints", "b/loop", "broken.jpg"]);
        let elsewhere = Home::new();
        elsewhere.write("b/2.jpg", b"two");
        elsewhere.write("a.jpg", b"one");
        elsewhere.write("linked.jpg", b"one");
        assert_eq!(elsewhere.list(0).1.digest, listing.digest);
        elsewhere.write("b/2.jpg", b"too");
        assert_ne!(elsewhere.list(0).1.digest, listing.digest);
    }

    #[test]
    fn an_unchanged_file_is_not_read_again_unless_it_was_new() {
        let home = Home::new();
        home.write("a", b"one");
        home.write("b", b"three");
        assert_eq!(home.list(0).0, 8);
        assert_eq!(home.list(10).0, 8, "files as new as the first listing were not remembered");
        let (read, listing) = home.list(20);
        assert_eq!(read, 0);
        home.write("a", b"two");
        let (read, changed) = home.list(30);
        assert_eq!(read, 3);
        assert_ne!(changed.digest, listing.digest);
        std::fs::remove_file(home.folder.join("a")).unwrap();
        assert_eq!(home.list(40).1.files.len(), 1);
    }

    #[test]
    fn a_truncated_memo_only_costs_time() {
        let home = Home::new();
        home.write("a", b"one");
        home.write("b", b"three");
        let (_, listing) = home.list(10);
        let bytes = std::fs::read(&home.memo).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&home.memo, &bytes[..length]).unwrap();
            assert_eq!(home.list(10), (8, listing.clone()), "{length}");
        }
        assert_eq!(home.list(20).0, 0);
    }

    #[test]
    fn listing_can_be_cancelled_and_a_missing_folder_is_named() {
        let home = Home::new();
        home.write("a", b"one");
        let now = SystemTime::now();
        let stopped = list(&home.folder, &home.memo, &home.store, now, &|_| true, &|_, _| false);
        assert!(matches!(stopped, Err(StoreError::Cancelled)));
        for wrong in ["none", "a"] {
            let error =
                list(&home.folder.join(wrong), &home.memo, &home.store, now, &|_| true, &|_, _| {
                    true
                })
                .unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }

    #[test]
    fn files_that_are_not_wanted_are_not_read() {
        let home = Home::new();
        home.write("a.jpg", b"one");
        let (_, before) = home.list(0);
        home.write("big.zip", &[1; 1000]);
        let (read, listing) = home.list(0);
        assert_eq!((read, listing), (3, before));
    }

    #[test]
    fn an_unchanged_file_keeps_its_digest() {
        let home = Home::new();
        home.write("a.zip", b"one");
        let path = home.folder.join("a.zip");
        let digest = |later| {
            let now = SystemTime::now() + Duration::from_secs(later);
            digest_one(&path, &home.memo, now).unwrap()
        };
        assert_eq!(digest(0), Digest::of(b"one"));
        assert!(!home.memo.exists(), "a file as new as this isn't remembered");
        assert_eq!(digest(10), Digest::of(b"one"));
        // The memo is used: another digest in it is returned.
        let identity = Identity::of(&path.metadata().unwrap());
        let other = encode(&[(String::new(), identity, Digest::of(b"two"))]);
        sealed::write(&home.memo, &sealed::seal(&other), false).unwrap();
        assert_eq!(digest(20), Digest::of(b"two"));
        home.write("a.zip", b"three");
        assert_eq!(digest(30), Digest::of(b"three"));
    }

    proptest! {
        #[test]
        fn the_memo_round_trips_and_any_bytes_are_handled(
            rows in proptest::collection::btree_map(".{0,9}", (any::<[u64; 3]>(), any::<[i64; 4]>(), any::<[u8; 32]>()), 0..5),
            noise in proptest::collection::vec(any::<u8>(), 0..300), cut in any::<prop::sample::Index>(),
        ) {
            let rows: Vec<_> = rows.into_iter().map(|(path, (a, b, digest))| {
                let [device, inode, length] = a;
                let identity = Identity { device, inode, length, modified: (b[0], b[1]), changed: (b[2], b[3]) };
                (path, identity, Digest::from_bytes(digest))
            }).collect();
            let bytes = encode(&rows);
            let known = decode(&bytes).unwrap();
            prop_assert_eq!(known.len(), rows.len());
            for (path, identity, digest) in &rows {
                prop_assert!(known[path] == (*identity, *digest));
            }
            if !bytes.is_empty() {
                let _ = decode(&bytes[..cut.index(bytes.len())]);
            }
            let _ = decode(&noise);
        }
    }
}
