//! Garbage collection: plans which items of a store go, and removes them under the exclusive lock,
//! so that none is taken from a running run. Run records are not a cache: nothing here removes them.

mod choice;
mod inventory;
#[cfg(test)]
mod tests;

use super::digest::Digest;
use super::error::StoreError;
use super::lock::Lock;
use super::maintenance::{children, disk_files};
use super::memo::MemoName;
use super::{Holder, Store, fault, folders, shared};
use choice::{Links, Standing, Weighed, choose};
pub use inventory::{Item, Part};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

/// The folder to which others are moved before they are emptied, so that a kill doesn't leave half of
/// an artifact.
const TRASH: &str = "slots/trash";

/// The files and folders of locks, which take no space worth mentioning.
const LOCKS: [&str; 3] = ["lock", "locks", "memo-locks"];

const DAY: u64 = 24 * 60 * 60;

/// The rule by which `gc` keeps items.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    /// Artifacts, such as those of recorded runs.
    pub digests: HashSet<Digest>,
    /// Keys with their logs and artifacts.
    pub keys: HashSet<Digest>,
    /// Entries of the memo.
    pub memo: HashSet<MemoName>,
    /// Buckets of the memo of which everything is kept.
    pub buckets: Vec<&'static str>,
    /// Entries of the memo that are parts of another one: part -> whole. They go or stay together.
    pub parts: HashMap<MemoName, MemoName>,
    /// Everything created or used within this time.
    pub younger_than: Duration,
    /// The size of the store in bytes below which nothing more is removed. With it, young items are
    /// removed as well where that is necessary.
    pub max_bytes: Option<u64>,
    /// The time that making an item again takes, in seconds, where it is known.
    pub seconds: HashMap<Part, f64>,
}

/// An item that was removed or would be.
#[derive(Clone, Debug)]
pub struct Removed {
    pub item: Item,
    /// The bytes that its removal frees, after those before it were removed.
    pub bytes: u64,
}

/// The items that `gc` removed or would remove.
#[derive(Clone, Debug, Default)]
pub struct Collection {
    /// The least valuable first.
    pub removed: Vec<Removed>,
    /// The size of the store before, in bytes.
    pub before: u64,
    /// Another process uses the store: its unfinished work and that of killed processes isn't
    /// counted.
    pub is_in_use: bool,
}

impl Collection {
    /// The bytes that are freed.
    pub fn freed(&self) -> u64 {
        self.removed.iter().map(|removed| removed.bytes).sum()
    }

    /// The size of the store afterwards, in bytes.
    pub fn after(&self) -> u64 {
        self.before.saturating_sub(self.freed())
    }
}

/// A store that no other process uses.
pub struct Exclusive<'a>(&'a Store);

impl Store {
    /// Plans a garbage collection without removing anything. Other processes may use the store.
    ///
    /// # Errors
    /// If an I/O operation fails.
    pub fn plan_collection(&self, keep: &Keep) -> Result<Collection, StoreError> {
        // The lock isn't held while the store is listed: runs would have to wait.
        let is_in_use = match self.exclusively(|_| Ok::<_, StoreError>(())) {
            Ok(()) => false,
            Err(StoreError::Locked { .. }) => true,
            Err(error) => return Err(error),
        };
        Ok(Collection { is_in_use, ..self.plan(keep, !is_in_use, None)? })
    }

    /// Does `work` while no other process can use the store.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process uses the store.
    pub fn exclusively<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&Exclusive) -> Result<T, E>,
    ) -> Result<T, E> {
        let path = self.root().join("lock");
        let mut held = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        *held = None;
        let result = match Lock::try_exclusive(&path).map_err(StoreError::io("locking", &path)) {
            Err(error) => Err(error.into()),
            Ok(Some(lock)) if lock.is_held() => {
                lock.write_holder();
                work(&Exclusive(self))
            }
            Ok(_) => {
                let help =
                    "a run uses the store, or its file system has no locks; collect after the run";
                let holder = Holder::of(&path);
                Err(StoreError::Locked { path: path.clone(), holder, help }.into())
            }
        };
        *held = Some(shared(&path)?);
        result
    }

    /// Leftovers are known to be such only if no process uses the store. `among` restricts the
    /// removed items.
    fn plan(
        &self,
        keep: &Keep,
        with_leftovers: bool,
        among: Option<&HashSet<Part>>,
    ) -> Result<Collection, StoreError> {
        let items = self.items(keep, with_leftovers)?;
        let now = SystemTime::now();
        let weighed: Vec<Weighed> = items.iter().map(|item| weigh(item, keep, now)).collect();
        // A lock's file has a line while it is held.
        let is_lock = |path: &Path| {
            LOCKS.iter().any(|name| path.file_name().is_some_and(|found| found == *name))
        };
        let parts = children(self.root()).into_iter().filter(|path| !is_lock(path));
        let mut links = Links::of(parts.flat_map(|path| disk_files(&path)));
        let before = links.bytes();
        let chosen = choose(&weighed, links.clone(), keep.max_bytes);
        let mut items: Vec<Option<Item>> = items.into_iter().map(Some).collect();
        let mut removed = Vec::with_capacity(chosen.len());
        for at in chosen {
            let Some(item) = items[at].take() else { continue };
            if among.is_none_or(|among| among.contains(&item.part)) {
                removed.push(Removed { bytes: links.release(&item.files), item });
            }
        }
        Ok(Collection { removed, before, is_in_use: false })
    }

    /// Removes a file or folder. A folder is gone as a whole before it is emptied.
    fn discard(&self, path: &Path) -> io::Result<()> {
        fault::step()?;
        let trash = self.root().join(TRASH);
        let is_folder = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        if !is_folder || path.parent() == trash.parent() {
            return folders::remove(path);
        }
        if let Some(slots) = trash.parent() {
            std::fs::create_dir_all(slots)?;
        }
        std::fs::rename(path, &trash)?;
        fault::step()?;
        folders::remove(&trash)
    }
}

impl Exclusive<'_> {
    /// Removes everything that `keep` doesn't protect; with `among`, nothing but these items.
    ///
    /// # Errors
    /// If an I/O operation fails. What was removed by then stays removed.
    pub fn collect(
        &self,
        keep: &Keep,
        among: Option<&HashSet<Part>>,
    ) -> Result<Collection, StoreError> {
        let Exclusive(store) = self;
        let collection = store.plan(keep, true, among)?;
        let discard = |path: &Path| store.discard(path).map_err(StoreError::io("removing", path));
        // A killed collection left it, and it would be in the way of the next folder.
        discard(&store.root().join(TRASH))?;
        for removed in &collection.removed {
            removed.item.paths.iter().try_for_each(|path| discard(path))?;
        }
        // Nobody holds them now. They are empty.
        for folder in ["locks", "memo-locks"] {
            children(&store.root().join(folder)).iter().try_for_each(|path| discard(path))?;
        }
        Ok(collection)
    }
}

fn weigh<'a>(item: &'a Item, keep: &Keep, now: SystemTime) -> Weighed<'a> {
    // A time in the future is young.
    let age = now.duration_since(item.last_used).unwrap_or_default();
    let is_young = now < item.last_used || age < keep.younger_than;
    let standing = match &item.part {
        Part::Leftover(_) => Standing::Leftover,
        part if is_kept(part, item, keep) => Standing::Kept,
        _ if is_young => Standing::Young,
        _ => Standing::Old,
    };
    let seconds = keep.seconds.get(&item.part).copied().unwrap_or(0.0);
    Weighed { standing, days: age.as_secs() / DAY, seconds, files: &item.files }
}

fn is_kept(part: &Part, item: &Item, keep: &Keep) -> bool {
    match part {
        Part::Artifact(digest) if keep.digests.contains(digest) => true,
        Part::Artifact(_) | Part::Key(_) => item.keys.iter().any(|key| keep.keys.contains(key)),
        Part::Memo(name) => {
            keep.memo.contains(name) || keep.buckets.iter().any(|bucket| name.is_in(bucket))
        }
        Part::Leftover(_) | Part::Listing(_) | Part::Damaged(_) => false,
    }
}
