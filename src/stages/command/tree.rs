//! The files below a folder at some time, to compare with those at another time: which came, went
//! and changed. Bounded, so that it takes no time that a user would notice.

use crate::events::FileChanges;
use crate::store;
use rayon::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files and folders of a tree that are compared. More aren't looked at.
pub(super) const LIMIT: usize = 100_000;

/// From this number of entries on, those of a folder are looked at in parallel.
const MANY: usize = 500;

/// What others than the program write beside a script: version control, Python, and `pipe`.
const OTHERS: [&str; 3] = [".git", "__pycache__", "pipe.lock"];

/// Length, modification time in seconds and nanoseconds, and inode of a file. Zero for folders: their
/// files are compared.
type Stamp = (u64, i64, i64, u64);

/// The files below a folder.
pub(super) struct Tree {
    /// By folder, relative and with a `/` at its end, each sorted by path.
    folders: BTreeMap<String, Vec<(String, Stamp)>>,
    /// Whether there are more than its limit.
    is_cut: bool,
}

impl Tree {
    /// Those below `root`, which may be a file, without stores and what is `apart`. Upper folders come
    /// first; what can't be read is left out.
    pub(super) fn of(root: &Path, apart: &[PathBuf], limit: usize) -> Tree {
        let mut tree = Tree { folders: BTreeMap::new(), is_cut: false };
        if let Ok(metadata) = fs::symlink_metadata(root)
            && !metadata.is_dir()
        {
            let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
            tree.folders.insert(String::new(), vec![(name, stamp(&metadata))]);
            return tree;
        }
        let mut left = limit;
        let mut queue = VecDeque::from([String::new()]);
        while let Some(folder) = queue.pop_front() {
            let list = match list(&root.join(&folder), &folder, apart, left) {
                Ok(Some(list)) => list,
                Ok(None) => {
                    tree.is_cut = true;
                    break;
                }
                Err(_) => continue,
            };
            left -= list.len();
            let folders = list.iter().map(|(path, _)| path).filter(|path| path.ends_with('/'));
            queue.extend(folders.cloned());
            tree.folders.insert(folder, list);
        }
        tree
    }

    /// Whether it has only the files up to its limit.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The files that differ `later`, in folders that both have looked at. Of folders that came or went,
    /// the outermost.
    pub(super) fn changes(&self, later: &Tree) -> Option<FileChanges> {
        // Nearly always, and then nothing is copied.
        if self.folders == later.folders {
            return None;
        }
        let [old, new] = [(self, later), (later, self)].map(|(one, other)| {
            let is_common =
                |folder: &String| folder.is_empty() || other.folders.contains_key(folder);
            let common = one.folders.iter().filter(|(folder, _)| is_common(folder));
            let mut files: Vec<(String, Stamp)> =
                common.flat_map(|(_, list)| list).cloned().collect();
            files.sort_unstable();
            files
        });
        FileChanges::between("", "file", &old, &new)
    }
}

/// The entries of a folder, sorted. None if there are more than `limit`.
fn list(
    folder: &Path,
    relative: &str,
    apart: &[PathBuf],
    limit: usize,
) -> io::Result<Option<Vec<(String, Stamp)>>> {
    let most = limit + OTHERS.len() + apart.len();
    let entries = fs::read_dir(folder)?.take(most + 1).collect::<io::Result<Vec<_>>>()?;
    if entries.len() > most {
        return Ok(None);
    }
    let named = |entry: &DirEntry| {
        looked_at(entry, apart).map(|(name, stamp)| (format!("{relative}{name}"), stamp))
    };
    let mut list: Vec<(String, Stamp)> = match entries.len() {
        // Asking the thread pool takes longer.
        0..MANY => entries.iter().filter_map(named).collect(),
        _ => entries.par_iter().filter_map(named).collect(),
    };
    list.sort_unstable();
    Ok((list.len() <= limit).then_some(list))
}

/// The name and the stamp of an entry. None if it is left out, or gone by now.
fn looked_at(entry: &DirEntry, apart: &[PathBuf]) -> Option<(String, Stamp)> {
    let name = entry.file_name();
    let metadata = entry.metadata().ok()?;
    let is_named = |other: &&PathBuf| other.file_name() == Some(&name);
    let is_apart = OTHERS.iter().any(|other| name == *other)
        || apart.iter().filter(is_named).any(|other| *other == entry.path())
        || (metadata.is_dir() && store::is_root(&entry.path()));
    if is_apart {
        return None;
    }
    let name = name.to_string_lossy();
    Some(match metadata.is_dir() {
        true => (format!("{name}/"), Stamp::default()),
        false => (name.into_owned(), stamp(&metadata)),
    })
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn tree(root: &Path, limit: usize) -> Tree {
        Tree::of(root, &[root.join("mine")], limit)
    }

    #[test]
    fn files_that_came_went_and_changed_are_named_and_folders_stand_for_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in
            ["a", "b", "sub/c", "sub/d", "old/e", "old/f", ".git/g", "mine/h", "x/v1/format"]
        {
            write(root, name, "1");
        }
        let before = tree(root, LIMIT);
        assert!(!before.is_cut() && before.changes(&tree(root, LIMIT)).is_none());
        write(root, "b", "22");
        write(root, "sub/new", "1");
        write(root, "deep/er/i", "1");
        fs::remove_file(root.join("sub/c")).unwrap();
        // Another file of the same name, length and time.
        let time = fs::metadata(root.join("a")).unwrap().modified().unwrap();
        write(root, "copy", "2");
        fs::File::options()
            .write(true)
            .open(root.join("copy"))
            .unwrap()
            .set_modified(time)
            .unwrap();
        fs::rename(root.join("copy"), root.join("a")).unwrap();
        fs::remove_dir_all(root.join("old")).unwrap();
        // None of these is the program's.
        for name in [".git/g2", "mine/h2", "x/v1/keys", "__pycache__/j", "pipe.lock"] {
            write(root, name, "1");
        }
        let changes = before.changes(&tree(root, LIMIT)).unwrap();
        let text = "2 files added: deep/, sub/new; 2 removed: old/, sub/c; 2 changed: a, b";
        assert_eq!(changes.to_string(), text);
    }

    #[test]
    fn a_file_of_the_same_length_that_is_written_again_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a", "1");
        let file = folder.path().join("a");
        let of_file = Tree::of(&file, &[], LIMIT);
        let before = tree(folder.path(), LIMIT);
        let later =
            fs::metadata(&file).unwrap().modified().unwrap() + std::time::Duration::from_nanos(1);
        fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        let changed = "1 file changed: a";
        assert_eq!(before.changes(&tree(folder.path(), LIMIT)).unwrap().to_string(), changed);
        let again = Tree::of(&file, &[], LIMIT);
        assert_eq!(of_file.changes(&again).unwrap().to_string(), changed);
        fs::remove_file(&file).unwrap();
        let gone = Tree::of(&file, &[], LIMIT);
        assert_eq!(of_file.changes(&gone).unwrap().to_string(), "1 file removed: a");
    }

    #[test]
    fn beyond_the_limit_nothing_is_compared() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for number in 0..5 {
            write(root, &format!("{number}"), "1");
            write(root, &format!("z/{number}"), "1");
        }
        let before = tree(root, 10);
        assert!(before.is_cut());
        write(root, "z/4", "22");
        assert!(before.changes(&tree(root, 10)).is_none());
        write(root, "4", "22");
        let changes = before.changes(&tree(root, 10)).unwrap();
        assert_eq!(changes.to_string(), "1 file changed: 4");
        // Another folder moves one out of sight, which isn't a change of its files.
        let before = tree(root, 11);
        assert!(!before.is_cut());
        write(root, "y/1", "1");
        let changes = before.changes(&tree(root, 11)).unwrap();
        assert_eq!(changes.to_string(), "1 file added: y/");
    }
}
