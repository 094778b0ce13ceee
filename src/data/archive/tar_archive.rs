//! Tar archives, plain or compressed.

use super::entry_name::{Separators, checked};
use super::entry_use::Level;
use super::format::Format;
use super::tar_entries::{BUFFER, TarEntry, each_entry, open};
use super::unpack::{Counted, Unpacker};
use crate::data::DataError;
use crate::events::Task;
use std::fs::File;
use std::io::{self, Read};
use tar::EntryType;

pub(super) fn read(
    unpacker: &mut Unpacker,
    format: Format,
    file: File,
    task: &Task,
    level: &Level,
) -> Result<(), DataError> {
    let opened = open(format, Counted { inner: file, task });
    let Some(reader) = opened.map_err(|error| unpacker.damaged(level, &error))? else {
        let reason = "it is a compressed file, but no tar archive";
        return Err(unpacker.damaged(level, &reason));
    };
    entries(unpacker, reader, level)
}

/// Notes whether the end was reached.
struct Noting<R> {
    inner: R,
    at_end: bool,
}

impl<R: Read> Read for Noting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.at_end |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}

/// Why no more entries are read.
enum Stop {
    Damaged(io::Error),
    Refused(DataError),
}

fn entries(unpacker: &mut Unpacker, reader: impl Read, level: &Level) -> Result<(), DataError> {
    let mut archive = tar::Archive::new(Noting { inner: reader, at_end: false });
    let read = each_entry(&mut archive, Stop::Damaged, |entry| {
        let done = unpacker.entry(level).and_then(|()| one(unpacker, entry, level));
        done.map_err(Stop::Refused)
    });
    read.map_err(|stop| match stop {
        Stop::Damaged(error) => unpacker.damaged(level, &error),
        Stop::Refused(error) => error,
    })?;
    let mut reader = archive.into_inner();
    if reader.at_end {
        let name = level.name();
        unpacker.warn(format!("{name} ends without the mark of an end: it may be cut short"));
    }
    // Up to the checksum of a compressed file.
    let mut rest = vec![0; BUFFER];
    loop {
        match reader.read(&mut rest) {
            Ok(0) => return Ok(()),
            Ok(count) => unpacker.expand(count as u64, level)?,
            Err(error) => return Err(unpacker.damaged(level, &error)),
        }
    }
}

fn one<R: Read>(
    unpacker: &mut Unpacker,
    entry: TarEntry<R>,
    level: &Level,
) -> Result<(), DataError> {
    let TarEntry { name, link, kind, size, mut content } = entry;
    let Ok(name) = std::str::from_utf8(&name) else {
        unpacker.unnamed(&name, level);
        return unpacker.expand(size, level);
    };
    let path =
        checked(name, Separators::Slash).map_err(|reason| unpacker.refused(level, name, reason))?;
    match kind {
        _ if path.is_empty() => Ok(()),
        // Before 1988 folders were files whose name ends in a slash.
        _ if kind == EntryType::Directory || name.ends_with('/') => {
            unpacker.folder(&path, level);
            Ok(())
        }
        EntryType::Symlink | EntryType::Link => {
            let target = String::from_utf8_lossy(&link);
            match kind {
                EntryType::Symlink => unpacker.link(&path, &target, level),
                _ => unpacker.hard_link(&path, &target, level),
            }
        }
        EntryType::Regular | EntryType::Continuous => {
            let usage = unpacker.usage(&path, level);
            match usage.is_read() {
                true => unpacker.file(&path, usage, &mut content, level),
                false => unpacker.expand(size, level),
            }
        }
        _ => {
            unpacker.other(&path, level);
            unpacker.expand(size, level)
        }
    }
}
