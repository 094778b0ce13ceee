//! Reads the values of a column in a row group one after another, with one page in memory.

use super::hybrid::{Hybrid, bits};
use super::metadata::{Chunk, Leaf, Physical};
use super::page::{self, Page, PageKind};
use super::thrift::Result;
use std::fs::File;
use std::ops::Range;

/// Encodings by their numbers.
const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const RUN_LENGTH: i64 = 3;
const DICTIONARY: i64 = 8;

/// The most values of a dictionary: where each one is takes memory.
const VALUES: u64 = 1 << 24;

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Bytes(&'a [u8]),
}

/// A reader of a column in a row group.
pub(super) struct Column<'a> {
    file: &'a File,
    leaf: &'a Leaf,
    chunk: &'a Chunk,
    /// The beginning of the next page in the file.
    at: u64,
    dictionary: Option<Dictionary>,
    page: Option<DataPage>,
}

/// The values that indices stand for.
struct Dictionary {
    content: Vec<u8>,
    values: Vec<Range<usize>>,
}

/// A page whose values are being read.
struct DataPage {
    content: Vec<u8>,
    /// Values to come, nulls included.
    left: u64,
    /// None for a column without nulls.
    definition: Option<Hybrid>,
    values: Values,
}

/// The values of a page that aren't null.
enum Values {
    Plain(Range<usize>),
    /// Booleans: the next bit, and the end.
    Bits {
        at: u64,
        end: u64,
    },
    /// Booleans in runs.
    Runs(Hybrid),
    Indices(Hybrid),
}

impl<'a> Column<'a> {
    pub(super) fn new(file: &'a File, leaf: &'a Leaf, chunk: &'a Chunk) -> Column<'a> {
        Column { file, leaf, chunk, at: chunk.start, dictionary: None, page: None }
    }

    /// The next value.
    ///
    /// # Errors
    /// If there is none or it can't be read: a sentence to follow the file's name.
    pub(super) fn next(&mut self) -> Result<Cell<'_>> {
        while self.page.as_ref().is_none_or(|page| page.left == 0) {
            self.turn()?;
        }
        let page = self.page.as_mut().ok_or_else(ended)?;
        page.left -= 1;
        if let Some(definition) = &mut page.definition
            && definition.next(&page.content)? < self.leaf.max_definition
        {
            return Ok(Cell::Null);
        }
        page.values.next(&page.content, self.leaf.physical, self.dictionary.as_ref())
    }

    /// Goes on to the next page with values.
    fn turn(&mut self) -> Result<()> {
        self.page = None;
        let page = page::next(self.file, self.chunk, &mut self.at)?.ok_or_else(ended)?;
        match page.header.kind {
            PageKind::Dictionary => self.dictionary = Some(Dictionary::of(page, self.leaf)?),
            PageKind::Data => self.page = Some(DataPage::first_version(page, self.leaf)?),
            PageKind::DataV2 { definition, repetition, .. } => {
                let levels = repetition..repetition + definition;
                self.page = Some(DataPage::second_version(page, levels, self.leaf)?);
            }
            PageKind::Other => {}
        }
        Ok(())
    }
}

impl Dictionary {
    fn of(page: Page, leaf: &Leaf) -> Result<Dictionary> {
        let Page { header, content } = page;
        if !matches!(header.encoding, PLAIN | PLAIN_DICTIONARY) {
            return Err(unsupported(leaf, header.encoding));
        }
        if header.values > VALUES {
            return Err(format!("a dictionary has {} values", header.values));
        }
        let mut rest = 0..content.len();
        let mut values = Vec::new();
        for _ in 0..header.values {
            values.push(take(&content, &mut rest, leaf.physical)?);
        }
        Ok(Dictionary { content, values })
    }
}

impl DataPage {
    /// Of a page whose levels have their length before them.
    fn first_version(page: Page, leaf: &Leaf) -> Result<DataPage> {
        let mut start = 0;
        let mut definition = None;
        if leaf.max_definition > 0 {
            let length = page.content.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
            let end = length.map(|length| 4 + length as usize);
            let end = end.filter(|end| *end <= page.content.len()).ok_or_else(damaged)?;
            definition = Some(levels(4..end, leaf)?);
            start = end;
        }
        DataPage::of(page, start, definition, leaf)
    }

    fn second_version(page: Page, part: Range<usize>, leaf: &Leaf) -> Result<DataPage> {
        let start = part.end;
        let definition = match leaf.max_definition {
            0 => None,
            _ => Some(levels(part, leaf)?),
        };
        DataPage::of(page, start, definition, leaf)
    }

    fn of(page: Page, start: usize, definition: Option<Hybrid>, leaf: &Leaf) -> Result<DataPage> {
        let Page { header, content } = page;
        let part = start..content.len();
        let values = match (header.encoding, leaf.physical) {
            (PLAIN, Physical::Boolean) => {
                Values::Bits { at: start as u64 * 8, end: content.len() as u64 * 8 }
            }
            (PLAIN, _) => Values::Plain(part),
            (RUN_LENGTH, Physical::Boolean) => {
                // Behind its length, which is that of the rest.
                Values::Runs(Hybrid::new(start.saturating_add(4).min(part.end)..part.end, 1)?)
            }
            (PLAIN_DICTIONARY | DICTIONARY, _) => match content.get(start) {
                Some(&width) => Values::Indices(Hybrid::new(start + 1..part.end, width.into())?),
                // A page of nulls alone.
                None => Values::Indices(Hybrid::new(part, 0)?),
            },
            (other, _) => return Err(unsupported(leaf, other)),
        };
        Ok(DataPage { content, left: header.values, definition, values })
    }
}

impl Values {
    fn next<'a>(
        &mut self,
        content: &'a [u8],
        physical: Physical,
        dictionary: Option<&'a Dictionary>,
    ) -> Result<Cell<'a>> {
        match self {
            Values::Plain(rest) => {
                let at = take(content, rest, physical)?;
                cell(content.get(at).ok_or_else(damaged)?, physical)
            }
            Values::Bits { at, end } => {
                let bit = bits(content, *at, 1).filter(|_| *at < *end).ok_or_else(damaged)?;
                *at += 1;
                Ok(Cell::Bool(bit == 1))
            }
            Values::Runs(runs) => Ok(Cell::Bool(runs.next(content)? == 1)),
            Values::Indices(indices) => {
                let index = indices.next(content)? as usize;
                let Dictionary { content, values } =
                    dictionary.ok_or("a page needs a dictionary, but there is none")?;
                let at = values.get(index).cloned().ok_or_else(damaged)?;
                cell(content.get(at).ok_or_else(damaged)?, physical)
            }
        }
    }
}

/// The levels of a column in a part of a page.
fn levels(part: Range<usize>, leaf: &Leaf) -> Result<Hybrid> {
    Hybrid::new(part, u32::BITS - leaf.max_definition.leading_zeros())
}

/// Where the next plain value of `content` is, without the length before it.
fn take(content: &[u8], rest: &mut Range<usize>, physical: Physical) -> Result<Range<usize>> {
    let width = match physical {
        Physical::Int32 | Physical::Float => 4,
        Physical::Int64 | Physical::Double => 8,
        Physical::Int96 => 12,
        Physical::Fixed(width) => width,
        Physical::Boolean => return Err("its booleans are in a dictionary".to_owned()),
        Physical::Bytes => {
            let length = content.get(rest.clone()).and_then(<[u8]>::first_chunk);
            rest.start += 4;
            u32::from_le_bytes(*length.ok_or_else(damaged)?) as usize
        }
    };
    let end = rest.start.checked_add(width).filter(|end| *end <= rest.end).ok_or_else(damaged)?;
    let value = rest.start..end;
    rest.start = end;
    Ok(value)
}

fn cell(bytes: &[u8], physical: Physical) -> Result<Cell<'_>> {
    fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
        bytes.try_into().map_err(|_| damaged())
    }
    Ok(match physical {
        Physical::Int32 => Cell::Int(i32::from_le_bytes(fixed(bytes)?).into()),
        Physical::Int64 => Cell::Int(i64::from_le_bytes(fixed(bytes)?)),
        Physical::Float => Cell::Float(f32::from_le_bytes(fixed(bytes)?).into()),
        Physical::Double => Cell::Float(f64::from_le_bytes(fixed(bytes)?)),
        Physical::Boolean | Physical::Int96 | Physical::Bytes | Physical::Fixed(_) => {
            Cell::Bytes(bytes)
        }
    })
}

fn unsupported(leaf: &Leaf, encoding: i64) -> String {
    let name = match encoding {
        4 => "bit-packed levels",
        5..=7 => "differences (DELTA)",
        9 => "split bytes (BYTE_STREAM_SPLIT)",
        _ => "an unknown encoding",
    };
    format!("the column `{}` is stored as {name}, which isn't supported", leaf.path.join("."))
}

fn ended() -> String {
    "a column has fewer values than rows".to_owned()
}

fn damaged() -> String {
    "a page is damaged".to_owned()
}
