//! A page of a column: its header and its decompressed content.

use super::metadata::{Chunk, read_at};
use super::thrift::{Kind, Reader, Result};
use crate::data::archive::ZstdReader;
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::Read;

/// The longest header; statistics in it may have long values.
const HEADER: usize = 8 << 20;
/// Bytes in which a header is looked for first.
const USUAL_HEADER: usize = 1 << 10;
/// The longest page. Writers begin another one after about 1 MB or 1,024 values.
const PAGE: u64 = 1 << 30;
/// No data compressed by Snappy expands to more than this many times its length.
const SNAPPY_RATIO: u64 = 32;

/// The kinds of page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageKind {
    Data,
    Dictionary,
    /// With the lengths of the levels, which come first, uncompressed.
    DataV2 {
        definition: usize,
        repetition: usize,
        is_compressed: bool,
    },
    /// Of no use here, such as an index.
    Other,
}

/// The header of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub kind: PageKind,
    /// Nulls included.
    pub values: u64,
    pub encoding: i64,
    /// Bytes in the file, and after decompression.
    compressed: u64,
    expanded: u64,
}

/// A page with its content.
#[derive(Debug)]
pub(super) struct Page {
    pub header: Header,
    pub content: Vec<u8>,
}

/// Reads the page of a column at `at`, which is moved behind it. None at the end.
pub(super) fn next(file: &File, chunk: &Chunk, at: &mut u64) -> Result<Option<Page>> {
    let end = chunk.start + chunk.length;
    if *at >= end {
        return Ok(None);
    }
    let (header, length) = header(file, *at, end)?;
    let start = *at + length as u64;
    let after = start.checked_add(header.compressed).filter(|after| *after <= end);
    *at = after.ok_or("a page is longer than its column")?;
    if header.expanded > PAGE {
        return Err(format!("a page has {} bytes, more than {PAGE}", header.expanded));
    }
    if header.kind == PageKind::Other {
        return Ok(Some(Page { header, content: Vec::new() }));
    }
    let mut compressed = vec![0; header.compressed as usize];
    read_at(file, &mut compressed, start)?;
    let content = match header.kind {
        PageKind::DataV2 { definition, repetition, is_compressed } => {
            let levels = definition.checked_add(repetition);
            let (levels, values) = levels
                .and_then(|levels| compressed.split_at_checked(levels))
                .ok_or("a page is shorter than its levels")?;
            let expanded = header.expanded.checked_sub(levels.len() as u64);
            let expanded = expanded.ok_or("a page is shorter than its levels")?;
            let codec = if is_compressed { chunk.codec } else { 0 };
            [levels, &decompressed(codec, values.to_vec(), expanded)?].concat()
        }
        _ => decompressed(chunk.codec, compressed, header.expanded)?,
    };
    Ok(Some(Page { header, content }))
}

/// The header at `at`, and its length.
fn header(file: &File, at: u64, end: u64) -> Result<(Header, usize)> {
    let mut limit = USUAL_HEADER;
    loop {
        let length = (end - at).min(limit as u64) as usize;
        let mut bytes = vec![0; length];
        read_at(file, &mut bytes, at)?;
        let mut reader = Reader::new(&bytes);
        match parse(&mut reader) {
            Ok(header) => return Ok((header, length - reader.left())),
            Err(reason) if length < limit || limit == HEADER => return Err(reason),
            // It may be longer.
            Err(_) => limit = (limit * 8).min(HEADER),
        }
    }
}

fn parse(reader: &mut Reader) -> Result<Header> {
    let (mut kind, mut expanded, mut compressed) = (None, 0, 0);
    let (mut values, mut encoding) = (0, 0);
    let (mut definition, mut repetition, mut is_compressed) = (0, 0, true);
    reader.fields(|reader, id, field| {
        match (id, field) {
            (1, Kind::Int) => kind = Some(reader.int()?),
            (2, Kind::Int) => expanded = length(reader.int()?)?,
            (3, Kind::Int) => compressed = length(reader.int()?)?,
            // Those of data pages and dictionaries begin alike.
            (5 | 7, Kind::Struct) => reader.fields(|reader, id, field| {
                match (id, field) {
                    (1, Kind::Int) => values = length(reader.int()?)?,
                    (2, Kind::Int) => encoding = reader.int()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?,
            (8, Kind::Struct) => reader.fields(|reader, id, field| {
                match (id, field) {
                    (1, Kind::Int) => values = length(reader.int()?)?,
                    (4, Kind::Int) => encoding = reader.int()?,
                    (5, Kind::Int) => definition = length(reader.int()?)?,
                    (6, Kind::Int) => repetition = length(reader.int()?)?,
                    (7, Kind::Bool(value)) => is_compressed = value,
                    _ => return Ok(false),
                }
                Ok(true)
            })?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let kind = match kind {
        Some(0) => PageKind::Data,
        Some(2) => PageKind::Dictionary,
        Some(3) => PageKind::DataV2 {
            definition: definition as usize,
            repetition: repetition as usize,
            is_compressed,
        },
        Some(_) => PageKind::Other,
        None => return Err("a page has no header".to_owned()),
    };
    Ok(Header { kind, values, encoding, compressed, expanded })
}

fn length(number: i64) -> Result<u64> {
    let length = u32::try_from(number).map_err(|_| "a page has an impossible length".to_owned())?;
    Ok(length.into())
}

/// The content of a page, of which the header states the length.
fn decompressed(codec: i64, bytes: Vec<u8>, length: u64) -> Result<Vec<u8>> {
    let content = match codec {
        0 => bytes,
        1 => snappy(&bytes, length)?,
        2 => read(MultiGzDecoder::new(&bytes[..]), length)?,
        6 => read(ZstdReader::new(&bytes[..]), length)?,
        other => {
            let names = ["", "", "", "LZO", "Brotli", "LZ4", "", "LZ4"];
            let name = usize::try_from(other).ok().and_then(|at| names.get(at));
            return Err(format!(
                "it is compressed with {}, which isn't supported: only Snappy, gzip and zstd are",
                name.copied().unwrap_or("an unknown method")
            ));
        }
    };
    match content.len() as u64 == length {
        true => Ok(content),
        false => Err("a page doesn't have the length that it states".to_owned()),
    }
}

fn snappy(bytes: &[u8], length: u64) -> Result<Vec<u8>> {
    let stated = snap::raw::decompress_len(bytes).map_err(damaged)? as u64;
    if stated != length || length > (bytes.len() as u64).saturating_mul(SNAPPY_RATIO) {
        return Err("a page doesn't have the length that it states".to_owned());
    }
    snap::raw::Decoder::new().decompress_vec(bytes).map_err(damaged)
}

/// Reads no more than a byte beyond `length`. Memory grows with what is there.
fn read(reader: impl Read, length: u64) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    reader.take(length + 1).read_to_end(&mut content).map_err(damaged)?;
    Ok(content)
}

fn damaged(error: impl std::fmt::Display) -> String {
    format!("a page is damaged: {error}")
}
