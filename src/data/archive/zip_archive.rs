//! Zip archives.

use super::entry_name::{Separators, checked};
use super::entry_use::Level;
use super::unpack::Unpacker;
use crate::data::DataError;
use crate::events::Task;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use zip::ZipArchive;
use zip::result::ZipError;

/// The beginning of an entry of the central directory, and the length of its fixed part.
const CENTRAL: &[u8; 4] = b"PK\x01\x02";
const CENTRAL_LENGTH: usize = 46;
/// The longest path of a link.
const LINK: u64 = 4096;

/// The facts about an entry that decide what becomes of it.
struct Entry {
    path: String,
    size: u64,
    packed: u64,
    is_folder: bool,
    is_link: bool,
    is_encrypted: bool,
    compression: String,
}

pub(super) fn read(
    unpacker: &mut Unpacker,
    file: File,
    task: &Task,
    level: &Level,
) -> Result<(), DataError> {
    let directory = file.try_clone().map_err(|error| unpacker.damaged(level, &error))?;
    let mut archive = ZipArchive::new(BufReader::new(file))
        .map_err(|error| unpacker.damaged(level, &reason(&error)))?;
    let mut total = 0u64;
    for index in 0..archive.len() {
        let entry = entry(&archive, index, unpacker, level)?;
        if !entry.is_folder && unpacker.is_read(&entry.path, level) {
            total = total.saturating_add(entry.size);
        }
    }
    unpacker.check_total(total, level)?;
    if archive.has_duplicate_names() {
        let names = names_from(directory, archive.central_directory_start())
            .map_err(|error| unpacker.damaged(level, &error))?;
        check_duplicates(&names, unpacker, level)?;
    }
    for index in 0..archive.len() {
        unpacker.entry(level)?;
        let entry = entry(&archive, index, unpacker, level)?;
        unpack(&mut archive, index, &entry, unpacker, level)?;
        task.advance(entry.packed);
    }
    Ok(())
}

/// The entry at an index.
///
/// # Errors
/// If its path leads outside.
fn entry(
    archive: &ZipArchive<BufReader<File>>,
    index: usize,
    unpacker: &Unpacker,
    level: &Level,
) -> Result<Entry, DataError> {
    let entry =
        archive.by_index_data(index).map_err(|error| unpacker.damaged(level, &reason(&error)))?;
    // Many programs write UTF-8 without the flag that says so.
    let name = match std::str::from_utf8(entry.name_raw()) {
        Ok(name) => Cow::Borrowed(name),
        Err(_) => entry.name().map_err(|error| unpacker.damaged(level, &reason(&error)))?,
    };
    let path = checked(&name, Separators::SlashAndBackslash)
        .map_err(|reason| unpacker.refused(level, &name, reason))?;
    Ok(Entry {
        is_folder: entry.is_dir() || name.ends_with(['/', '\\']) || path.is_empty(),
        path,
        size: entry.size(),
        packed: entry.compressed_size(),
        is_link: entry.is_symlink(),
        is_encrypted: entry.encrypted(),
        compression: format!("{:?}", entry.compression()),
    })
}

fn unpack(
    archive: &mut ZipArchive<BufReader<File>>,
    index: usize,
    entry: &Entry,
    unpacker: &mut Unpacker,
    level: &Level,
) -> Result<(), DataError> {
    if entry.is_folder {
        if !entry.path.is_empty() {
            unpacker.folder(&entry.path, level);
        }
        return Ok(());
    }
    let usage = if entry.is_link { None } else { Some(unpacker.usage(&entry.path, level)) };
    if usage.is_some_and(|usage| !usage.is_read()) {
        return Ok(());
    }
    if entry.is_encrypted {
        return Err(unpacker.refused(level, &entry.path, "is encrypted"));
    }
    let opened = archive.by_index(index).map_err(|error| match error {
        ZipError::UnsupportedArchive(_) => {
            let reason =
                format!("is compressed in a way that isn't supported ({})", entry.compression);
            unpacker.refused(level, &entry.path, &reason)
        }
        error => unpacker.unreadable(level, &entry.path, &reason(&error)),
    })?;
    let Some(usage) = usage else {
        let mut target = String::new();
        opened
            .take(LINK)
            .read_to_string(&mut target)
            .map_err(|error| unpacker.unreadable(level, &entry.path, &error.to_string()))?;
        return unpacker.link(&entry.path, &target, level);
    };
    let mut content = Stated { inner: opened, left: entry.size };
    unpacker.file(&entry.path, usage, &mut content, level)
}

/// Reads content of a stated length; another length is an error.
struct Stated<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Stated<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let wrong = |text| Err(io::Error::new(io::ErrorKind::InvalidData, text));
        match self.left.checked_sub(count as u64) {
            None => wrong("it is longer than the archive states"),
            Some(left) if count == 0 && left > 0 => wrong("it is shorter than the archive states"),
            Some(left) => {
                self.left = left;
                Ok(count)
            }
        }
    }
}

/// Refuses an archive in which a file that is used occurs twice. The reader has only the last one.
fn check_duplicates(
    names: &[Vec<u8>],
    unpacker: &Unpacker,
    level: &Level,
) -> Result<(), DataError> {
    let mut seen = HashSet::new();
    for name in names {
        let name = String::from_utf8_lossy(name);
        let path = checked(&name, Separators::SlashAndBackslash)
            .map_err(|reason| unpacker.refused(level, &name, reason))?;
        if !name.ends_with('/') && unpacker.is_read(&path, level) && !seen.insert(path) {
            return Err(unpacker.refused(level, &name, "occurs twice"));
        }
    }
    Ok(())
}

/// All names in the central directory at `start`.
fn names_from(file: File, start: u64) -> io::Result<Vec<Vec<u8>>> {
    let mut file = BufReader::new(file);
    file.seek(SeekFrom::Start(start))?;
    let mut names = Vec::new();
    loop {
        let mut head = Vec::with_capacity(CENTRAL_LENGTH);
        (&mut file).take(CENTRAL_LENGTH as u64).read_to_end(&mut head)?;
        let Some(head) =
            head.first_chunk::<CENTRAL_LENGTH>().filter(|head| head.starts_with(CENTRAL))
        else {
            return Ok(names);
        };
        let length = |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let mut name = Vec::new();
        (&mut file).take(length(28)).read_to_end(&mut name)?;
        names.push(name);
        file.seek_relative((length(30) + length(32)) as i64)?;
    }
}

/// An error of the reader in words.
fn reason(error: &ZipError) -> String {
    match error {
        ZipError::InvalidArchive(_) => format!("it is no whole zip archive ({error})"),
        error => error.to_string(),
    }
}
