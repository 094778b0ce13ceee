//! Entries of an archive that aren't used: each is noted with its reason.

use super::entry_use::Level;
use super::unpack::{Link, SHOWN, Unpacker};
use crate::common::empty_folders::outermost_empty;
use crate::common::image_files::is_hidden;
use crate::common::number::counted;
use crate::common::words::shortened_list;
use crate::data::images::Skipped;
use crate::data::rejected::{DANGLING, EMPTY, HIDDEN, NOT_A_FILE, NOT_UTF8};
use std::collections::HashSet;

/// A link that isn't followed.
const TO_A_FOLDER: &str = "link to a folder";

/// What is named in a warning: kinds of reasons, and what is said of them.
const WARNED: [(&[&str], &str, &str); 2] = [
    (&[TO_A_FOLDER, DANGLING], "link", "to folders or to nothing"),
    (&[NOT_UTF8], "file", "with names that aren't UTF-8"),
];

impl Unpacker<'_> {
    /// Notes an entry that isn't used.
    pub(super) fn skip(&mut self, one: Skipped) {
        // Of a hidden folder, each entry gives the same.
        if self.found.skipped.last() != Some(&one) {
            self.found.skipped.push(one);
        }
    }

    /// Notes a folder, which may turn out to be empty.
    pub(super) fn folder(&mut self, path: &str, level: &Level) {
        let path = level.path(path);
        match is_hidden(&path) {
            true => self.skip(Skipped::by_name(&format!("{path}/"))),
            false => self.folders.push(path),
        }
    }

    /// Notes an entry whose name isn't UTF-8.
    pub(super) fn unnamed(&mut self, name: &[u8], level: &Level) {
        let shown = String::from_utf8_lossy(name);
        self.skip(Skipped::new(&level.path(&shown), NOT_UTF8));
    }

    /// Notes an entry that is neither a file, a folder nor a link.
    pub(super) fn other(&mut self, path: &str, level: &Level) {
        self.skip(Skipped::new(&level.path(path), NOT_A_FILE));
    }

    /// Notes links of which the target isn't a file that was unpacked.
    pub(super) fn skip_links(&mut self, links: Vec<Link>) {
        if links.is_empty() {
            return;
        }
        let folders = self.files.iter().flat_map(|path| folders_around(path));
        let folders: HashSet<&str> =
            folders.chain(self.folders.iter().map(String::as_str)).collect();
        let one = |Link { path, target }: Link| match folders.contains(target.as_str()) {
            true => Skipped::new(&path, TO_A_FOLDER),
            false => Skipped::dangling(&path, &target),
        };
        let skipped: Vec<Skipped> = links.into_iter().map(one).collect();
        self.found.skipped.extend(skipped);
    }

    /// Notes the folders without a file in them.
    pub(super) fn skip_empty_folders(&mut self) {
        self.folders.sort_unstable();
        self.folders.dedup();
        let skipped = self.found.skipped.iter().filter(|one| one.reason != HIDDEN);
        let paths = skipped.map(|one| one.path.as_str());
        let paths = paths.chain(self.files.iter().map(String::as_str));
        let empty = outermost_empty(&self.folders, paths);
        self.found.skipped.extend(empty.iter().map(|path| Skipped::new(path, EMPTY)));
    }

    /// Warns of entries that may have been meant as images.
    pub(super) fn warn_of_skipped(&mut self) {
        for (kinds, thing, reason) in WARNED {
            let is_of = |one: &&Skipped| kinds.iter().any(|kind| one.reason.starts_with(kind));
            let all: Vec<&str> =
                self.found.skipped.iter().filter(is_of).map(|one| one.path.as_str()).collect();
            if !all.is_empty() {
                let (count, shown) = (all.len() as u64, shortened_list(all, SHOWN));
                self.warn(format!("skipped {} {reason}: {shown}", counted(count, thing)));
            }
        }
    }
}

/// The folders that a path is in.
fn folders_around(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(path.rsplit_once('/'), |(folder, _)| folder.rsplit_once('/'))
        .map(|(folder, _)| folder)
}
