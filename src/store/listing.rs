//! What lies in a folder outside the store: names and digests, without reading again what was read before. The digests
//! are remembered by (device, inode, length, modification and change time), one memo file a folder. A file that was
//! changed as lately as the look itself isn't remembered: it could change once more within the same tick of the clock.

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

/// A change younger than this at the time of the look isn't remembered. File systems tick every few milliseconds, old
/// ones every two seconds.
const YOUNG: Duration = Duration::from_secs(2);

/// A folder's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The files, sorted by path. Links are followed.
    pub files: Vec<ListedFile>,
    /// What was left out: its path, and why. Sorted.
    pub skipped: Vec<(String, String)>,
    /// The digest of `files`: names and contents, wherever the folder lies.
    pub digest: Digest,
}

/// Told how many bytes are digested, of how many; says whether to go on.
pub(super) type Watch<'a> = &'a (dyn Fn(u64, u64) -> bool + Sync);

/// What tells that a file hasn't changed.
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

/// A file that was found, not yet digested.
struct Found {
    path: String,
    identity: Identity,
}

/// Lists `folder` through the memo file `memo`. `own` is left out: a store may lie in the folder that it works for.
pub(super) fn list(
    folder: &Path,
    memo: &Path,
    own: &Path,
    now: SystemTime,
    watch: Watch,
) -> Result<Listing, StoreError> {
    let looked = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let known = read_memo(memo);
    let (found, mut skipped) = walk(folder, own)?;
    let (digests, read) = digest_new(folder, &found, &known, watch)?;
    let stale = read > 0 || known.len() != found.len();
    let mut files = Vec::with_capacity(found.len());
    let mut remembered = Vec::with_capacity(found.len());
    for (found, digest) in found.into_iter().zip(digests) {
        match digest {
            Err(error) => skipped.push((found.path, error.to_string())),
            Ok(digest) => {
                let file = ListedFile { path: found.path, len: found.identity.length, digest };
                if is_old(&found.identity, looked) {
                    remembered.push((file.path.clone(), found.identity, digest));
                }
                files.push(file);
            }
        }
    }
    if stale {
        // Without it the next look only takes longer.
        let _ = sealed::write(memo, &sealed::seal(&encode(&remembered)), false);
    }
    skipped.sort_unstable();
    let manifest = Manifest { files };
    let digest = manifest.digest();
    Ok(Listing { files: manifest.files, skipped, digest })
}

/// Whether the last change was long enough before the look. The change time is the kernel's; the modification time is
/// whatever an archive said.
fn is_old(identity: &Identity, looked: Duration) -> bool {
    let (seconds, nanoseconds) = identity.changed;
    let changed = Duration::new(seconds.max(0) as u64, nanoseconds.clamp(0, 999_999_999) as u32);
    changed + YOUNG <= looked
}

type Walked = (Vec<Found>, Vec<(String, String)>);

fn walk(folder: &Path, own: &Path) -> Result<Walked, StoreError> {
    let metadata = std::fs::metadata(folder).map_err(StoreError::io("looking at", folder))?;
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
                skipped.push((relative(folder, &path).into_owned(), what_failed(error)));
                continue;
            }
        };
        let mut skip =
            |why: &str| skipped.push((relative(folder, entry.path()).into_owned(), why.to_owned()));
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
                Err(why) => skip(&why),
            }
        }
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok((found, skipped))
}

fn describe(folder: &Path, entry: &DirEntry) -> Result<Found, String> {
    let metadata = entry.metadata().map_err(what_failed)?;
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

fn what_failed(error: walkdir::Error) -> String {
    match error.loop_ancestor() {
        Some(_) => "a link that leads back to a folder around it".to_owned(),
        None => error.into_io_error().map_or("can't be read".to_owned(), |error| error.to_string()),
    }
}

/// Digests in the order of `found`, those known taken as they are; and how many files were read. A file that can't be
/// read is an error in its own place.
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

/// Where the memo file of `folder` lies in `memos`.
pub(super) fn memo_path(memos: &Path, folder: &Path) -> PathBuf {
    let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    memos.join(Digest::of(folder.as_os_str().as_encoded_bytes()).to_string())
}

/// An entry of the memo file, little-endian: device, inode, length, two times as seconds and nanoseconds, digest (32),
/// length of the path (4), path.
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

    struct Place {
        _temporary: tempfile::TempDir,
        folder: PathBuf,
        memo: PathBuf,
        store: PathBuf,
    }

    impl Place {
        fn new() -> Place {
            let temporary = tempfile::tempdir().unwrap();
            let (folder, memo) = (temporary.path().join("images"), temporary.path().join("memo"));
            let store = folder.join("cache");
            std::fs::create_dir_all(&store).unwrap();
            Place { folder, memo, store, _temporary: temporary }
        }

        fn write(&self, path: &str, content: &[u8]) {
            let path = self.folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }

        /// Bytes read, and the listing, as seen `later` seconds from now.
        fn look(&self, later: u64) -> (u64, Listing) {
            let read = AtomicU64::new(0);
            let watch = |_, total| {
                read.store(total, Ordering::Relaxed);
                true
            };
            let now = SystemTime::now() + Duration::from_secs(later);
            let listing = list(&self.folder, &self.memo, &self.store, now, &watch).unwrap();
            (read.into_inner(), listing)
        }
    }

    #[test]
    fn a_listing_is_names_and_contents() {
        let place = Place::new();
        place.write("b/2.jpg", b"two");
        place.write("a.jpg", b"one");
        place.write(".DS_Store", b"x");
        place.write(".ipynb_checkpoints/a.jpg", b"x");
        place.write("cache/v1/artifact", b"x");
        std::os::unix::fs::symlink("a.jpg", place.folder.join("linked.jpg")).unwrap();
        std::os::unix::fs::symlink("nowhere", place.folder.join("broken.jpg")).unwrap();
        std::os::unix::fs::symlink("..", place.folder.join("b/loop")).unwrap();
        let (_, listing) = place.look(0);
        let files: Vec<_> =
            listing.files.iter().map(|file| (file.path.as_str(), file.len, file.digest)).collect();
        let one = Digest::of(b"one");
        assert_eq!(
            files,
            [("a.jpg", 3, one), ("b/2.jpg", 3, Digest::of(b"two")), ("linked.jpg", 3, one)]
        );
        let skipped: Vec<_> = listing.skipped.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(skipped, [".DS_Store", ".ipynb_checkpoints", "b/loop", "broken.jpg"]);
        let elsewhere = Place::new();
        elsewhere.write("b/2.jpg", b"two");
        elsewhere.write("a.jpg", b"one");
        elsewhere.write("linked.jpg", b"one");
        assert_eq!(elsewhere.look(0).1.digest, listing.digest);
        elsewhere.write("b/2.jpg", b"too");
        assert_ne!(elsewhere.look(0).1.digest, listing.digest);
    }

    #[test]
    fn what_was_read_is_not_read_again_unless_it_was_young() {
        let place = Place::new();
        place.write("a", b"one");
        place.write("b", b"three");
        assert_eq!(place.look(0).0, 8);
        assert_eq!(place.look(10).0, 8, "files as young as the first look were not remembered");
        let (read, listing) = place.look(20);
        assert_eq!(read, 0);
        place.write("a", b"two");
        let (read, changed) = place.look(30);
        assert_eq!(read, 3);
        assert_ne!(changed.digest, listing.digest);
        std::fs::remove_file(place.folder.join("a")).unwrap();
        assert_eq!(place.look(40).1.files.len(), 1);
    }

    #[test]
    fn every_truncation_of_the_memo_only_costs_time() {
        let place = Place::new();
        place.write("a", b"one");
        place.write("b", b"three");
        let (_, listing) = place.look(10);
        let bytes = std::fs::read(&place.memo).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&place.memo, &bytes[..length]).unwrap();
            assert_eq!(place.look(10), (8, listing.clone()), "{length}");
        }
        assert_eq!(place.look(20).0, 0);
    }

    #[test]
    fn a_wish_to_stop_is_heard_and_a_missing_folder_is_named() {
        let place = Place::new();
        place.write("a", b"one");
        let now = SystemTime::now();
        let stopped = list(&place.folder, &place.memo, &place.store, now, &|_, _| false);
        assert!(matches!(stopped, Err(StoreError::Cancelled)));
        for wrong in ["none", "a"] {
            let error =
                list(&place.folder.join(wrong), &place.memo, &place.store, now, &|_, _| true)
                    .unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }

    proptest! {
        #[test]
        fn the_memo_reads_back_and_no_bytes_make_it_panic(
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
