//! Lists an external folder with names and digests, and reads only new and changed files. Digests
//! are remembered together with the stat fields that identify an unchanged file, in one memo file
//! per folder. A file that changed shortly before it was listed isn't remembered: it could change
//! again within the same tick of the file system's clock.

mod walk;

use super::digest::{Digest, digest_open};
use super::error::StoreError;
use super::manifest::{ListedFile, Manifest};
use super::sealed::{self, Sealed};
use crate::common::empty_folders::outermost_empty;
use rayon::prelude::*;
use rustix::fs::{Stat, fstat};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::debug_span;
use walk::Contents;

/// The minimum age of a change for a digest to be remembered. The clocks of file systems tick every
/// few milliseconds, of old ones every two seconds.
const MIN_AGE: Duration = Duration::from_secs(2);

/// The files of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by path. Links are followed.
    pub files: Vec<ListedFile>,
    /// Files that aren't wanted. Sorted.
    pub others: Vec<String>,
    /// Paths that were left out, with the reason. Sorted.
    pub skipped: Vec<(String, Skip)>,
}

impl Listing {
    /// The digest of `files`: names and contents, independent of the folder's path.
    pub fn digest(&self) -> Digest {
        Manifest { files: self.files.clone() }.digest()
    }
}

/// Why a path was left out of a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// Its name begins with a dot.
    Hidden,
    /// A link whose target, as written in it, doesn't exist.
    Dangling(String),
    /// A file or folder that can't be opened, with the system's reason.
    Unreadable(String),
    /// A link to a folder that contains it.
    Loop,
    /// A socket, a pipe or a device.
    NotAFile,
    /// Its name isn't UTF-8.
    NotUtf8,
    /// A folder in which there is no file.
    EmptyFolder,
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
    #[allow(clippy::unnecessary_cast, reason = "the types of the fields differ between systems")]
    fn of(found: &Stat) -> Identity {
        Identity {
            device: found.st_dev as u64,
            inode: found.st_ino as u64,
            length: found.st_size as u64,
            modified: (found.st_mtime as i64, found.st_mtime_nsec as i64),
            changed: (found.st_ctime as i64, found.st_ctime_nsec as i64),
        }
    }
}

/// A remembered file.
type Remembered<'a> = (&'a str, Identity, Digest);

/// Remembered files, sorted by path, as they are in the memo file: there may be a million.
#[derive(Default)]
struct Known {
    entries: Vec<u8>,
    count: usize,
}

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
    let Walked { mut found, mut skipped } =
        debug_span!("list files").in_scope(|| walk(folder, own))?;
    let others = found.extract_if(.., |file| !wanted(&file.path)).map(|file| file.path).collect();
    let known = debug_span!("read remembered digests").in_scope(|| read_memo(memo));
    let (digests, read) =
        debug_span!("digest files").in_scope(|| digest_new(folder, &found, &known, watch))?;
    let stale = read > 0 || known.count != found.len();
    drop(known);
    let mut files = Vec::with_capacity(found.len());
    let mut remembered = Vec::new();
    for (found, digest) in found.into_iter().zip(digests) {
        match digest {
            Err(error) => skipped.push((found.path, Skip::Unreadable(error.to_string()))),
            Ok(digest) => {
                let file = ListedFile { path: found.path, len: found.identity.length, digest };
                if stale && is_old_enough(&found.identity, listed) {
                    encode(&mut remembered, &file.path, &found.identity, &digest);
                }
                files.push(file);
            }
        }
    }
    if stale {
        // Without it the next listing only takes longer.
        let _ = sealed::write_sealed(memo, &[&remembered]);
    }
    drop(remembered);
    skipped.sort_unstable();
    Ok(Listing { files, others, skipped })
}

/// The digest of a single file with the memo file `memo`: read only if it is new or changed.
pub(super) fn digest_one(path: &Path, memo: &Path, now: SystemTime) -> Result<Digest, StoreError> {
    let failed = |error| StoreError::io("reading", path)(error);
    let file = File::open(path).map_err(failed)?;
    let identity = Identity::of(&fstat(&file).map_err(|error| failed(error.into()))?);
    if let Some((_, known, digest)) = read_memo(memo).iter().next()
        && known == identity
    {
        return Ok(digest);
    }
    let digest = digest_open(&file, identity.length).map_err(failed)?;
    if is_old_enough(&identity, now.duration_since(UNIX_EPOCH).unwrap_or_default()) {
        let mut bytes = Vec::new();
        encode(&mut bytes, "", &identity, &digest);
        // Without it the next call only takes longer.
        let _ = sealed::write_sealed(memo, &[&bytes]);
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

/// The files below a folder, without their contents.
struct Walked {
    /// Sorted by path.
    found: Vec<Found>,
    skipped: Vec<(String, Skip)>,
}

/// The paths of files, and of what was left out with the reason.
pub type Scan = (Vec<String>, Vec<(String, Skip)>);

/// The paths of the files below a folder, sorted, and of what was left out. Links are followed. The
/// folder `own` is left out, as in a listing.
///
/// # Errors
/// If `folder` isn't a folder or can't be read.
pub fn scan(folder: &Path, own: &Path) -> Result<Scan, StoreError> {
    let Walked { found, mut skipped } = walk(folder, own)?;
    skipped.sort_unstable();
    Ok((found.into_iter().map(|file| file.path).collect(), skipped))
}

fn walk(folder: &Path, own: &Path) -> Result<Walked, StoreError> {
    let metadata =
        std::fs::metadata(folder).map_err(StoreError::io("reading the metadata of", folder))?;
    if !metadata.is_dir() {
        return Err(StoreError::io("listing", folder)(io::ErrorKind::NotADirectory.into()));
    }
    let own = rustix::fs::stat(own).map(|found| walk::identity(&found)).ok();
    let Contents { mut found, mut folders, mut skipped } = walk::walk(folder, own)?;
    let by_path = |a: &Found, b: &Found| a.path.cmp(&b.path);
    match found.len() {
        // Not worth starting the thread pool.
        0..1000 => found.sort_unstable_by(by_path),
        _ => {
            found.par_sort_unstable_by(by_path);
            place_in_order(&mut found);
        }
    }
    // Each after those around it.
    folders.sort_unstable();
    let empty = empty(&folders, &found, &skipped);
    skipped.extend(empty);
    Ok(Walked { found, skipped })
}

/// Copies the paths to where one lies behind the other in memory: a folder is read in no order, and
/// each of the passes that follow would wait for the memory of each path (0.15 s for a million).
fn place_in_order(found: &mut [Found]) {
    // All copies before the first path is freed, whose memory would be used again.
    let paths: Vec<String> = found.par_iter().map(|file| file.path.clone()).collect();
    found.par_iter_mut().zip(paths).for_each(|(file, path)| file.path = path);
}

/// The outermost of the folders that have nothing in them but hidden files.
fn empty(folders: &[String], found: &[Found], skipped: &[(String, Skip)]) -> Vec<(String, Skip)> {
    let seen = skipped.iter().filter(|(_, reason)| *reason != Skip::Hidden);
    let seen = seen.map(|(path, _)| path.as_str());
    // The folders of files, each once as far as its files are next to each other.
    let mut used: Vec<&str> =
        found.iter().filter_map(|file| Some(file.path.rsplit_once('/')?.0)).collect();
    used.dedup();
    let empty = outermost_empty(folders, used.into_iter().chain(seen)).into_iter();
    empty.map(|path| (path, Skip::EmptyFolder)).collect()
}

/// The digests in the order of `found`, known ones without reading the file, and the number of
/// files read. A file that can't be read has an error in its place.
fn digest_new(
    folder: &Path,
    found: &[Found],
    known: &Known,
    watch: Watch,
) -> Result<(Vec<io::Result<Digest>>, usize), StoreError> {
    // Both are sorted.
    let mut known = known.iter().peekable();
    let mut remembered = |file: &Found| {
        while known.next_if(|(path, ..)| *path < file.path.as_str()).is_some() {}
        let (path, identity, digest) = known.peek()?;
        (*path == file.path && *identity == file.identity).then_some(*digest)
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

/// Adds an entry of the memo file, little-endian: device, inode, length, two times as seconds and
/// nanoseconds, digest (32), length of the path (4), path.
fn encode(bytes: &mut Vec<u8>, path: &str, identity: &Identity, digest: &Digest) {
    for word in [identity.device, identity.inode, identity.length] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for word in [identity.modified.0, identity.modified.1, identity.changed.0, identity.changed.1] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(digest.as_bytes());
    bytes.extend_from_slice(&(path.len() as u32).to_le_bytes());
    bytes.extend_from_slice(path.as_bytes());
}

/// Takes the next entry.
fn decode<'a>(bytes: &mut &'a [u8]) -> Option<Remembered<'a>> {
    let (device, inode, length) = (take_u64(bytes)?, take_u64(bytes)?, take_u64(bytes)?);
    let mut time = || Some((take_u64(bytes)? as i64, take_u64(bytes)? as i64));
    let identity = Identity { device, inode, length, modified: time()?, changed: time()? };
    let digest = Digest::from_bytes(*bytes.split_off(..32)?.first_chunk()?);
    let path_length = u32::from_le_bytes(*bytes.split_off(..4)?.first_chunk()?);
    let path = std::str::from_utf8(bytes.split_off(..path_length as usize)?).ok()?;
    Some((path, identity, digest))
}

impl Known {
    /// The entries of a memo file; none if one can't be decoded.
    fn read(entries: Vec<u8>) -> Option<Known> {
        let (mut rest, mut count) = (entries.as_slice(), 0);
        while !rest.is_empty() {
            decode(&mut rest)?;
            count += 1;
        }
        Some(Known { entries, count })
    }

    fn iter(&self) -> impl Iterator<Item = Remembered<'_>> {
        let mut rest = self.entries.as_slice();
        std::iter::from_fn(move || decode(&mut rest))
    }
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?))
}

fn read_memo(path: &Path) -> Known {
    match sealed::read(path) {
        Ok(Sealed::Whole(payload)) => Known::read(payload).unwrap_or_default(),
        _ => Known::default(),
    }
}

#[cfg(test)]
mod tests;
