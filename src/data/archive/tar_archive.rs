//! Tar archives, plain or compressed.

use super::entry_name::{Separators, checked};
use super::format::{BLOCK, Format, is_tar};
use super::unpack::{Counted, Level, Unpacker};
use super::zstd_reader::ZstdReader;
use crate::data::DataError;
use crate::events::Task;
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, Read};
use tar::EntryType;

/// Bytes of a read from the file.
const BUFFER: usize = 256 << 10;

pub(super) fn read(
    unpacker: &mut Unpacker,
    format: Format,
    file: File,
    task: &Task,
    level: &Level,
) -> Result<(), DataError> {
    let file = BufReader::with_capacity(BUFFER, Counted { inner: file, task });
    match format {
        Format::Gzip => entries(unpacker, MultiGzDecoder::new(file), level),
        Format::Zstd => entries(unpacker, ZstdReader::new(file), level),
        Format::Tar | Format::Zip => entries(unpacker, file, level),
    }
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

fn entries(unpacker: &mut Unpacker, reader: impl Read, level: &Level) -> Result<(), DataError> {
    let reader = with_head(reader).map_err(|error| unpacker.damaged(level, &error))?;
    let Some(reader) = reader else {
        let reason = "it is a compressed file, but no tar archive";
        return Err(unpacker.damaged(level, &reason));
    };
    let mut archive = tar::Archive::new(Noting { inner: reader, at_end: false });
    let listed = archive.entries().map_err(|error| unpacker.damaged(level, &error))?;
    for entry in listed {
        unpacker.entry(level)?;
        one(unpacker, entry.map_err(|error| unpacker.damaged(level, &error))?, level)?;
    }
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

/// The reader with its first block read and put back. None if it is no tar archive.
fn with_head<R: Read>(mut reader: R) -> io::Result<Option<Chain<Cursor<Vec<u8>>, R>>> {
    let mut head = Vec::with_capacity(BLOCK);
    (&mut reader).take(BLOCK as u64).read_to_end(&mut head)?;
    Ok(is_tar(&head).then(|| Cursor::new(head).chain(reader)))
}

fn one<R: Read>(
    unpacker: &mut Unpacker,
    mut entry: tar::Entry<R>,
    level: &Level,
) -> Result<(), DataError> {
    let kind = entry.header().entry_type();
    let size = entry.size();
    let name = entry.path_bytes().into_owned();
    let Ok(name) = std::str::from_utf8(&name) else {
        unpacker.unnamed(&name);
        return unpacker.expand(size, level);
    };
    let path =
        checked(name, Separators::Slash).map_err(|reason| unpacker.refused(level, name, reason))?;
    match kind {
        EntryType::Directory => Ok(()),
        // Before 1988 folders were files whose name ends in a slash.
        _ if path.is_empty() || name.ends_with('/') => Ok(()),
        EntryType::Symlink | EntryType::Link => {
            let target = entry.link_name_bytes().unwrap_or_default();
            let target = String::from_utf8_lossy(&target).into_owned();
            match kind {
                EntryType::Symlink => unpacker.link(&path, &target, level),
                _ => unpacker.hard_link(&path, &target, level),
            }
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let usage = unpacker.usage(&path, level);
            match usage.is_read() {
                true => unpacker.file(&path, usage, &mut entry, level),
                false => unpacker.expand(size, level),
            }
        }
        EntryType::XGlobalHeader => Ok(()),
        _ => {
            unpacker.other();
            unpacker.expand(size, level)
        }
    }
}
