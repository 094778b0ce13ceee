//! Unpacks the images and label files of an archive into a folder. What both formats have in common
//! is here: which entries are used, where they go, limits, links and errors.

use super::budget::Budget;
use super::entry_name::link_target;
use super::entry_use::{Level, Use};
use super::format::{BLOCK, Format, is_named_like_archive, of_head, without_ending};
use super::{tar_archive, zip_archive};
use crate::common::number::counted;
use crate::common::words::shortened_list;
use crate::data::DataError;
use crate::data::images::Skipped;
use crate::data::rejected::OTHER;
use crate::events::{CancellationToken, EventSink, Task};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Bytes of a read.
const CHUNK: usize = 64 << 10;
/// Maximum number of names in a message.
pub(super) const SHOWN: usize = 3;

/// The contents of an archive.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// Paths of the images, sorted.
    pub images: Vec<String>,
    /// Paths of the label files, sorted.
    pub labels: Vec<String>,
    /// Entries that aren't used, sorted by path.
    pub skipped: Vec<Skipped>,
    /// Warnings for the user, as sentences.
    pub warnings: Vec<String>,
}

/// Unpacks the archive at `path`, called `named` in messages, into the folder `into`.
///
/// # Errors
/// If it isn't an archive or is damaged, if an entry could do harm or is encrypted, or if a file
/// can't be written.
pub(crate) fn unpack(
    path: &Path,
    named: &str,
    into: &Path,
    events: &EventSink,
    cancel: &CancellationToken,
) -> Result<Unpacked, DataError> {
    let failed = |error| DataError::io("read", path, error);
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut unpacker = Unpacker {
        named,
        into,
        events,
        cancel,
        budget: Budget::of(length),
        files: HashSet::new(),
        links: Vec::new(),
        folders: Vec::new(),
        made: None,
        buffer: vec![0; CHUNK],
        found: Unpacked::default(),
    };
    unpacker.archive(file, &Level::default())?;
    unpacker.finish()
}

/// A link, with paths relative to the folder.
pub(super) struct Link {
    pub path: String,
    pub target: String,
}

pub(super) struct Unpacker<'a> {
    pub(super) named: &'a str,
    into: &'a Path,
    events: &'a EventSink,
    cancel: &'a CancellationToken,
    budget: Budget,
    /// Paths of all files that were unpacked.
    pub(super) files: HashSet<String>,
    links: Vec<Link>,
    /// Paths of the folders that have an entry of their own.
    pub(super) folders: Vec<String>,
    /// The folder that was created last.
    made: Option<PathBuf>,
    buffer: Vec<u8>,
    pub(super) found: Unpacked,
}

impl Unpacker<'_> {
    fn archive(&mut self, mut file: File, level: &Level) -> Result<(), DataError> {
        let mut head = Vec::with_capacity(BLOCK);
        let failed = |error: io::Error| self.damaged(level, &error);
        (&mut file).take(BLOCK as u64).read_to_end(&mut head).map_err(failed)?;
        file.rewind().map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let name = match level.depth {
            0 => "unpack".to_owned(),
            _ => format!("unpack {}", level.archive),
        };
        let Some(format) = of_head(&head) else { return Err(self.no_archive(level, &head)) };
        let task = self.events.task(name, Some(length), "bytes");
        match format {
            Format::Zip => zip_archive::read(self, file, &task, level),
            Format::Tar | Format::Gzip | Format::Zstd => {
                tar_archive::read(self, format, file, &task, level)
            }
        }
    }

    /// Counts an entry.
    pub(super) fn entry(&mut self, level: &Level) -> Result<(), DataError> {
        if self.cancel.is_cancelled() {
            return Err(DataError::Cancelled);
        }
        self.budget.entry().map_err(|reason| self.bomb(level, &reason))
    }

    /// The treatment of the file at `path`, which [`checked`](super::entry_name::checked) returned.
    pub(super) fn usage(&mut self, path: &str, level: &Level) -> Use {
        let usage = Use::of(path, level);
        match usage {
            Use::None if is_named_like_archive(path) => {
                let reason = "an archive in an archive in an archive";
                self.warn(format!("{} isn't unpacked: it is {reason}", level.shown(path)));
                self.skip(Skipped::new(&level.path(path), format!("{OTHER}: {reason}")));
            }
            Use::Hidden | Use::None => self.skip(Skipped::by_name(&level.path(path))),
            Use::Image | Use::Labels | Use::Archive => {}
        }
        usage
    }

    /// The same without counting.
    pub(super) fn is_read(&self, path: &str, level: &Level) -> bool {
        Use::of(path, level).is_read()
    }

    pub(super) fn warn(&mut self, text: String) {
        self.found.warnings.push(format!("{}: {text}", self.named));
    }

    /// Counts bytes that are expanded without being used.
    pub(super) fn expand(&mut self, bytes: u64, level: &Level) -> Result<(), DataError> {
        self.budget.expand(bytes).map_err(|reason| self.bomb(level, &reason))
    }

    /// Refuses an archive whose files expand to more than may be, before any is written.
    pub(super) fn check_total(&self, bytes: u64, level: &Level) -> Result<(), DataError> {
        match bytes > self.budget.left() {
            true => Err(self.bomb(level, &self.budget.exceeded())),
            false => Ok(()),
        }
    }

    /// Unpacks the file at `path`, which is used.
    pub(super) fn file(
        &mut self,
        path: &str,
        usage: Use,
        content: &mut dyn Read,
        level: &Level,
    ) -> Result<(), DataError> {
        let whole = level.path(path);
        if !self.files.insert(whole.clone()) {
            return Err(self.refused(level, path, "occurs twice"));
        }
        match usage {
            Use::Archive => return self.nested(path, content, level),
            Use::Image => self.found.images.push(whole.clone()),
            Use::Labels => self.found.labels.push(whole.clone()),
            Use::Hidden | Use::None => {}
        }
        let target = self.place(&whole)?;
        let failed = |error| DataError::io("write", &target, error);
        let mut file = File::create_new(&target).map_err(failed)?;
        self.copy(path, content, &mut file, level)?.map_err(failed)
    }

    /// Unpacks an archive in the archive, into the folder of its name. Its end is read first, so it
    /// is copied to a file that nobody sees.
    fn nested(
        &mut self,
        path: &str,
        content: &mut dyn Read,
        level: &Level,
    ) -> Result<(), DataError> {
        let failed = |error| DataError::io("write", self.into, error);
        std::fs::create_dir_all(self.into).map_err(failed)?;
        let mut file = tempfile::tempfile_in(self.into).map_err(failed)?;
        let copied = self.copy(path, content, &mut file, level)?;
        copied
            .and_then(|()| file.rewind())
            .map_err(|error| DataError::io("write", self.into, error))?;
        let folder = level.path(without_ending(path).unwrap_or(path));
        let inner = Level { archive: level.path(path), folder, depth: level.depth + 1 };
        self.archive(file, &inner)
    }

    /// Copies an entry's content. The outer error is one of the archive, the inner one of the copy.
    fn copy(
        &mut self,
        path: &str,
        content: &mut dyn Read,
        file: &mut File,
        level: &Level,
    ) -> Result<io::Result<()>, DataError> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(DataError::Cancelled);
            }
            let count = match content.read(&mut self.buffer) {
                Ok(0) => return Ok(Ok(())),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.unreadable(level, path, &error.to_string())),
            };
            self.budget
                .expand(count as u64)
                .map_err(|reason| self.bomb(level, &format!("{reason}; it got to `{path}`")))?;
            if let Err(error) = file.write_all(self.buffer.get(..count).unwrap_or_default()) {
                return Ok(Err(error));
            }
        }
    }

    /// Remembers a link until all files are there.
    ///
    /// # Errors
    /// If it points outside.
    pub(super) fn link(
        &mut self,
        path: &str,
        target: &str,
        level: &Level,
    ) -> Result<(), DataError> {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.link_to(path, link_target(folder, target), target, level)
    }

    /// The same for a hard link of a tar archive, whose target is relative to the root.
    pub(super) fn hard_link(
        &mut self,
        path: &str,
        target: &str,
        level: &Level,
    ) -> Result<(), DataError> {
        self.link_to(path, link_target("", target), target, level)
    }

    fn link_to(
        &mut self,
        path: &str,
        target: Option<String>,
        given: &str,
        level: &Level,
    ) -> Result<(), DataError> {
        let Some(target) = target else {
            let reason = format!("is a link to `{given}`, outside of the archive");
            return Err(self.refused(level, path, &reason));
        };
        self.links.push(Link { path: level.path(path), target: level.path(&target) });
        Ok(())
    }

    /// The path in the target folder, whose parents exist then.
    fn place(&mut self, path: &str) -> Result<PathBuf, DataError> {
        let target = self.into.join(path);
        let folder = target.parent().unwrap_or(self.into);
        if self.made.as_deref() != Some(folder) {
            std::fs::create_dir_all(folder)
                .map_err(|error| DataError::io("create", folder, error))?;
            self.made = Some(folder.to_owned());
        }
        Ok(target)
    }

    /// Copies the targets of links, links to links included.
    fn copy_linked(&mut self) -> Result<(), DataError> {
        let mut links = std::mem::take(&mut self.links);
        loop {
            let (ready, rest): (Vec<Link>, Vec<Link>) =
                links.into_iter().partition(|link| self.files.contains(&link.target));
            links = rest;
            if ready.is_empty() {
                break;
            }
            for Link { path, target } in ready {
                let outer = Level::default();
                let usage = self.usage(&path, &outer);
                if usage == Use::Archive {
                    self.skip(Skipped::new(&path, format!("{OTHER}: a link to an archive")));
                }
                if !matches!(usage, Use::Image | Use::Labels) {
                    continue;
                }
                let from = self.into.join(&target);
                let mut file =
                    File::open(&from).map_err(|error| DataError::io("read", &from, error))?;
                self.file(&path, usage, &mut file, &outer)?;
            }
        }
        self.skip_links(links);
        Ok(())
    }

    fn finish(mut self) -> Result<Unpacked, DataError> {
        self.copy_linked()?;
        self.skip_empty_folders();
        self.warn_of_skipped();
        let Unpacked { images, labels, skipped, .. } = &mut self.found;
        images.sort_unstable();
        labels.sort_unstable();
        skipped.sort_unstable();
        skipped.dedup();
        let alike = alike(&self.found.images);
        if !alike.is_empty() {
            let count = counted(alike.len() as u64, "image");
            self.warn(format!(
                "{count} with a path that differs from another one only in the case of letters: {}",
                shortened_list(alike.iter().map(String::as_str), SHOWN)
            ));
        }
        Ok(self.found)
    }
}

/// Images whose path differs from an earlier one only in case.
fn alike(images: &[String]) -> Vec<String> {
    let mut seen = HashSet::with_capacity(images.len());
    images.iter().filter(|path| !seen.insert(path.to_lowercase())).cloned().collect()
}

/// Reads and counts for a progress task.
pub(super) struct Counted<'a, R> {
    pub inner: R,
    pub task: &'a Task,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.task.advance(count as u64);
        Ok(count)
    }
}
