//! The items of a store: all that `gc` can remove, each with its files and the time of its last use.

use super::Keep;
use crate::store::digest::Digest;
use crate::store::error::StoreError;
use crate::store::maintenance::{DiskFile, children, disk_files};
use crate::store::memo::{MemoName, PARTS};
use crate::store::sealed::{self, Sealed, UNFINISHED};
use crate::store::{Store, split_entry};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The identity of an item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Left by a killed process, or a key that can't be read. Of no use to anybody.
    Leftover(PathBuf),
    /// An artifact with its keys and their logs.
    Artifact(Digest),
    /// A key whose artifact isn't in the store.
    Key(Digest),
    /// An entry of the memo, with those that are parts of it.
    Memo(MemoName),
    /// The remembered digests of a folder outside of the store.
    Listing(PathBuf),
    /// Something that was quarantined.
    Damaged(PathBuf),
}

/// A part of the store that is removed or kept as a whole.
#[derive(Clone, Debug)]
pub struct Item {
    pub part: Part,
    /// The time of its last use, exact to a day.
    pub last_used: SystemTime,
    /// The keys of an artifact, or the one of a key.
    pub(super) keys: Vec<Digest>,
    /// In the order of their removal: what leads to others goes before these.
    pub(super) paths: Vec<PathBuf>,
    /// The files at these paths, once for every link.
    pub(super) files: Vec<DiskFile>,
}

impl Item {
    fn new(part: Part, paths: Vec<PathBuf>) -> Item {
        let last_used =
            paths.iter().map(|path| modified(path)).max().unwrap_or(SystemTime::UNIX_EPOCH);
        Item { part, last_used, keys: Vec::new(), files: files(&paths), paths }
    }
}

/// The entries of keys in the store.
#[derive(Default)]
struct Keys {
    of_artifact: HashMap<Digest, Vec<(Digest, PathBuf)>>,
    unreadable: Vec<PathBuf>,
}

impl Store {
    pub(super) fn items(&self, keep: &Keep, with_leftovers: bool) -> Result<Vec<Item>, StoreError> {
        let mut items = Vec::new();
        let mut keys = self.keys()?;
        if with_leftovers {
            let leftovers =
                self.leftovers().into_iter().chain(std::mem::take(&mut keys.unreadable));
            items.extend(leftovers.map(|path| Item::new(Part::Leftover(path.clone()), vec![path])));
        }
        for (path, digest) in self.named_by_digest("artifacts") {
            items.push(artifact(
                path,
                digest,
                keys.of_artifact.remove(&digest).unwrap_or_default(),
            ));
        }
        for (key, path) in keys.of_artifact.into_values().flatten() {
            items.push(Item { keys: vec![key], ..Item::new(Part::Key(key), vec![path]) });
        }
        items.extend(self.memo_items(keep));
        let one =
            |part: fn(PathBuf) -> Part, path: PathBuf| Item::new(part(path.clone()), vec![path]);
        items.extend(self.finished("listings").map(|path| one(Part::Listing, path)));
        items.extend(self.finished("damaged").map(|path| one(Part::Damaged, path)));
        Ok(items)
    }

    fn keys(&self) -> Result<Keys, StoreError> {
        let mut keys = Keys::default();
        for (path, key) in self.named_by_digest("keys") {
            match sealed::read(&path).map_err(StoreError::io("reading", &path))? {
                Sealed::Absent => {}
                Sealed::Damaged => keys.unreadable.push(path),
                Sealed::Whole(payload) => match split_entry(&key, payload) {
                    Some((artifact, _)) => {
                        keys.of_artifact.entry(artifact).or_default().push((key, path))
                    }
                    None => keys.unreadable.push(path),
                },
            }
        }
        Ok(keys)
    }

    fn memo_items(&self, keep: &Keep) -> Vec<Item> {
        let mut entries: BTreeMap<MemoName, Vec<PathBuf>> = BTreeMap::new();
        for bucket in children(&self.root().join("memo")) {
            let Some(folder) = bucket.file_name().and_then(|name| name.to_str()) else { continue };
            for file in children(&bucket).iter().flat_map(|shard| children(shard)) {
                let Some(key) = stem(&file) else { continue };
                let name = MemoName { folder: folder.to_owned(), key };
                let name = keep.parts.get(&name).cloned().unwrap_or(name);
                entries.entry(name).or_default().push(file);
            }
        }
        entries.into_iter().map(|(name, paths)| memo_item(name, paths)).collect()
    }

    /// Slots, job folders and unfinished files. They belong to killed processes if no process uses
    /// the store.
    fn leftovers(&self) -> Vec<PathBuf> {
        let below = |folder: &str| children(&self.root().join(folder));
        let shards = ["artifacts", "keys"].into_iter().flat_map(below);
        let memo = below("memo").into_iter().flat_map(|bucket| children(&bucket));
        let shards: Vec<PathBuf> = shards.chain(memo).collect();
        let files = shards.iter().flat_map(|shard| children(shard)).chain(below("listings"));
        // Readers ignore them: records that are being made or removed.
        let runs = children(&self.runs_folder()).into_iter().filter(|path| is_named(path, "."));
        let folders = ["slots", "jobs"].into_iter().flat_map(below);
        folders.chain(files.filter(|path| is_named(path, UNFINISHED))).chain(runs).collect()
    }

    /// The entries of a folder of the root, without unfinished ones.
    fn finished(&self, folder: &str) -> impl Iterator<Item = PathBuf> {
        let entries = children(&self.root().join(folder)).into_iter();
        entries.filter(|path| !is_named(path, UNFINISHED))
    }
}

/// Its keys go first: a key without an artifact is a cache miss.
fn artifact(path: PathBuf, digest: Digest, keys: Vec<(Digest, PathBuf)>) -> Item {
    let (keys, mut paths): (Vec<Digest>, Vec<PathBuf>) = keys.into_iter().unzip();
    // Those of its files are constant.
    let times = paths.iter().map(|path| modified(path));
    let made = modified(&path.join(crate::store::manifest::NAME));
    let last_used = times.fold(made, SystemTime::max);
    paths.push(path);
    Item { part: Part::Artifact(digest), last_used, keys, files: files(&paths), paths }
}

fn memo_item(name: MemoName, mut paths: Vec<PathBuf>) -> Item {
    let rank = |path: &PathBuf| {
        let part = path.extension().and_then(|part| part.to_str()).unwrap_or_default();
        PARTS.iter().position(|known| *known == part).unwrap_or(PARTS.len())
    };
    paths.sort_by_key(rank);
    // The time of a linked file is constant, so that of its `length` file counts.
    let is_linked = |path: &&PathBuf| rank(path) + 1 < PARTS.len();
    let used = paths.iter().filter(is_linked).map(|path| modified(path)).max();
    let last_used = used.unwrap_or(SystemTime::UNIX_EPOCH);
    Item { last_used, ..Item::new(Part::Memo(name), paths) }
}

fn stem(path: &Path) -> Option<Digest> {
    path.file_stem()?.to_str()?.parse().ok()
}

fn is_named(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
}

fn modified(path: &Path) -> SystemTime {
    let modified = std::fs::symlink_metadata(path).and_then(|found| found.modified());
    modified.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn files(paths: &[PathBuf]) -> Vec<DiskFile> {
    paths.iter().flat_map(|path| disk_files(path)).collect()
}
