//! The entries of a tar archive, plain or compressed. Long names, which are in entries of their own,
//! are read up to a limit, so that the archive doesn't decide how much memory is used.

use super::format::{BLOCK, Format, is_tar};
use super::zstd_reader::ZstdReader;
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufReader, Cursor, Read};
use tar::{Archive, Entry, EntryType, PaxExtensions};

/// Bytes of a read from the file.
pub(super) const BUFFER: usize = 256 << 10;
/// The longest entry with a name or other facts about the next one or all. Paths have at most 4,096
/// bytes; extended attributes may be longer.
const EXTENDED: u64 = 1 << 20;

/// An entry with its content.
pub(in crate::data) struct TarEntry<'a, R: Read> {
    pub name: Vec<u8>,
    /// Where a link leads.
    pub link: Vec<u8>,
    pub kind: EntryType,
    /// In bytes.
    pub size: u64,
    pub content: Entry<'a, R>,
}

/// Facts about an entry from entries before it.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

/// The bytes of a tar archive from the file of one that may be compressed. None if it isn't one.
pub(in crate::data) fn open<'a>(
    format: Format,
    file: impl Read + 'a,
) -> io::Result<Option<Box<dyn Read + 'a>>> {
    let file = BufReader::with_capacity(BUFFER, file);
    let mut reader: Box<dyn Read + 'a> = match format {
        Format::Gzip => Box::new(MultiGzDecoder::new(file)),
        Format::Zstd => Box::new(ZstdReader::new(file)),
        Format::Tar | Format::Zip => Box::new(file),
    };
    let mut head = Vec::with_capacity(BLOCK);
    (&mut reader).take(BLOCK as u64).read_to_end(&mut head)?;
    Ok(is_tar(&head).then(|| Box::new(Cursor::new(head).chain(reader)) as Box<dyn Read + 'a>))
}

/// Passes each entry on, until one is refused. `failed` makes an error of one of the archive.
pub(in crate::data) fn each_entry<R: Read, E>(
    archive: &mut Archive<R>,
    failed: impl Fn(io::Error) -> E,
    mut each: impl FnMut(TarEntry<R>) -> Result<(), E>,
) -> Result<(), E> {
    let mut extended = Extended::default();
    for entry in archive.entries().map_err(&failed)?.raw(true) {
        let mut entry = entry.map_err(&failed)?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => extended.name = Some(text(&mut entry).map_err(&failed)?),
            EntryType::GNULongLink => extended.link = Some(text(&mut entry).map_err(&failed)?),
            EntryType::XHeader => extended.add(&mut entry).map_err(&failed)?,
            EntryType::XGlobalHeader => drop(bounded(&mut entry).map_err(&failed)?),
            _ => each(std::mem::take(&mut extended).applied(entry, kind).map_err(&failed)?)?,
        }
    }
    Ok(())
}

impl Extended {
    /// Adds the facts of an extended header as POSIX has it.
    fn add(&mut self, entry: &mut Entry<impl Read>) -> io::Result<()> {
        let bytes = bounded(entry)?;
        for fact in PaxExtensions::new(&bytes) {
            let fact = fact?;
            let value = fact.value_bytes().to_vec();
            match fact.key_bytes() {
                b"path" => self.name = Some(value),
                b"linkpath" => self.link = Some(value),
                b"size" => self.size = fact.value().ok().and_then(|size| size.parse().ok()),
                _ => {}
            }
        }
        Ok(())
    }

    fn applied<R: Read>(self, entry: Entry<R>, kind: EntryType) -> io::Result<TarEntry<R>> {
        let size = entry.header().entry_size()?;
        let name = self.name.unwrap_or_else(|| entry.path_bytes().into_owned());
        let link = self.link.or_else(|| entry.link_name_bytes().map(|link| link.into_owned()));
        if self.size.is_some_and(|stated| stated != size) || kind == EntryType::GNUSparse {
            let reason = match kind {
                EntryType::GNUSparse => "is stored with holes (sparse)",
                _ => "has another size in its extended header",
            };
            let name = String::from_utf8_lossy(&name);
            return Err(invalid(format!("the entry `{name}` {reason}, which isn't supported")));
        }
        Ok(TarEntry { name, link: link.unwrap_or_default(), kind, size, content: entry })
    }
}

/// The content of an entry with a name, which ends in NUL.
fn text(entry: &mut Entry<impl Read>) -> io::Result<Vec<u8>> {
    let mut text = bounded(entry)?;
    if text.last() == Some(&0) {
        text.pop();
    }
    Ok(text)
}

fn bounded(entry: &mut Entry<impl Read>) -> io::Result<Vec<u8>> {
    let size = entry.header().entry_size()?;
    if size > EXTENDED {
        return Err(invalid(format!("a name or an extended header has {size} bytes")));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    match bytes.len() as u64 == size {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
