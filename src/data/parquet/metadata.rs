//! The footer of a Parquet file: its columns, where their values are, and the texts that programs
//! leave there.

use super::thrift::{Kind, Reader, Result};
use crate::common::number::thousands;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The first and the last bytes of a file.
const MAGIC: &[u8; 4] = b"PAR1";
/// The last bytes of a file with an encrypted footer.
const ENCRYPTED: &[u8; 4] = b"PARE";
/// The longest footer: those of files with 100,000 row groups are shorter.
const FOOTER: u64 = 256 << 20;
/// The most columns, those in structures included.
const COLUMNS: usize = 10_000;
/// The most row groups, as many as pyarrow reads.
const ROW_GROUPS: usize = 1_000_000;
/// The most structures around a column, and the longest name in bytes: the path of each column has
/// all names around it.
const NESTING: usize = 32;
const NAME: usize = 1 << 10;

/// The type of a column's stored values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Physical {
    Boolean,
    Int32,
    Int64,
    Int96,
    Float,
    Double,
    Bytes,
    Fixed(usize),
}

/// A column without columns in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// The names from the outermost structure to the column.
    pub path: Vec<String>,
    pub physical: Physical,
    /// The definition level of a value that isn't null.
    pub max_definition: u32,
    /// Whether a row has a list of values.
    pub is_list: bool,
    /// Whether its bytes are text.
    pub is_text: bool,
}

/// The values of a column in a row group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    pub codec: i64,
    /// Nulls included.
    pub values: u64,
    /// Where its first page begins, and how long its pages are together.
    pub start: u64,
    pub length: u64,
}

/// A group of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RowGroup {
    pub rows: u64,
    /// One for each of [`Metadata::leaves`].
    pub chunks: Vec<Chunk>,
}

/// The footer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    pub leaves: Vec<Leaf>,
    pub groups: Vec<RowGroup>,
    pub texts: BTreeMap<String, String>,
}

/// Reads the footer of a file.
///
/// # Errors
/// A sentence to follow the file's name.
pub(super) fn read(file: &File) -> Result<Metadata> {
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut tail = [0; 8];
    let cut_short = || "it is cut short or no Parquet file".to_owned();
    let end = length.checked_sub(8).filter(|end| *end >= 4).ok_or_else(cut_short)?;
    read_at(file, &mut tail, end)?;
    let [size, magic] = [&tail[..4], &tail[4..]];
    if magic == ENCRYPTED {
        return Err("it is encrypted".to_owned());
    }
    let size = size.try_into().map_or(0, u32::from_le_bytes).into();
    let start = end.checked_sub(size).filter(|start| *start >= 4 && magic == MAGIC);
    let start = start.ok_or_else(cut_short)?;
    if size > FOOTER {
        return Err(format!("its footer has {size} bytes"));
    }
    let mut footer = vec![0; size as usize];
    read_at(file, &mut footer, start)?;
    let metadata = parse(&footer)?;
    let chunks = metadata.groups.iter().flat_map(|group| &group.chunks);
    let is_inside =
        |chunk: &Chunk| chunk.start.checked_add(chunk.length).is_some_and(|end| end <= start);
    // No two columns share bytes, so that each byte is read once.
    let total = chunks.clone().fold(0u64, |sum, chunk| sum.saturating_add(chunk.length));
    match chunks.clone().all(is_inside) && total <= start {
        true => Ok(metadata),
        false => Err("its metadata names values that aren't in the file".to_owned()),
    }
}

pub(super) fn read_at(file: &File, buffer: &mut [u8], at: u64) -> Result<()> {
    file.read_exact_at(buffer, at).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "it is cut short".to_owned(),
        _ => error.to_string(),
    })
}

fn parse(footer: &[u8]) -> Result<Metadata> {
    let (mut elements, mut groups, mut texts) = (Vec::new(), Vec::new(), BTreeMap::new());
    Reader::new(footer).fields(|reader, id, kind| {
        match (id, kind) {
            (2, Kind::List) => reader.list(|reader| {
                elements.push(Element::read(reader)?);
                check_count(elements.len(), COLUMNS, "columns")
            })?,
            (4, Kind::List) => reader.list(|reader| {
                groups.push(group(reader)?);
                check_count(groups.len(), ROW_GROUPS, "row groups")
            })?,
            (5, Kind::List) => reader.list(|reader| {
                let (key, value) = key_value(reader)?;
                texts.insert(key, value);
                Ok(())
            })?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let leaves = leaves(&elements)?;
    if groups.iter().any(|group: &RowGroup| group.chunks.len() != leaves.len()) {
        return Err("its row groups don't have the columns of its schema".to_owned());
    }
    Ok(Metadata { leaves, groups, texts })
}

/// An entry of the schema, which is a tree in depth-first order.
#[derive(Default)]
struct Element {
    name: String,
    physical: Option<i64>,
    length: i64,
    repetition: i64,
    children: i64,
    is_text: bool,
}

impl Element {
    fn read(reader: &mut Reader) -> Result<Element> {
        let mut element = Element::default();
        reader.fields(|reader, id, kind| {
            match (id, kind) {
                (1, Kind::Int) => element.physical = Some(reader.int()?),
                (2, Kind::Int) => element.length = reader.int()?,
                (3, Kind::Int) => element.repetition = reader.int()?,
                (4, Kind::Binary) => element.name = reader.text()?,
                (5, Kind::Int) => element.children = reader.int()?,
                // `ConvertedType`: 0 is UTF8.
                (6, Kind::Int) => element.is_text |= reader.int()? == 0,
                // `LogicalType`: field 1 is STRING.
                (10, Kind::Struct) => reader.fields(|_, id, _| {
                    element.is_text |= id == 1;
                    Ok(false)
                })?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let length = element.name.len();
        match length > NAME {
            true => Err(format!("the name of a column has {} bytes", thousands(length as u64))),
            false => Ok(element),
        }
    }

    fn physical(&self) -> Result<Physical> {
        Ok(match self.physical {
            Some(0) => Physical::Boolean,
            Some(1) => Physical::Int32,
            Some(2) => Physical::Int64,
            Some(3) => Physical::Int96,
            Some(4) => Physical::Float,
            Some(5) => Physical::Double,
            Some(6) => Physical::Bytes,
            Some(7) => {
                let length = usize::try_from(self.length).ok().filter(|length| *length > 0);
                Physical::Fixed(length.ok_or("a column has values without a length")?)
            }
            _ => return Err(format!("the column `{}` has no known type", self.name)),
        })
    }
}

/// The columns of a schema, whose first element is the row itself.
fn leaves(elements: &[Element]) -> Result<Vec<Leaf>> {
    let mut leaves = Vec::new();
    // Of each open structure: its name, its children to come, and its levels.
    let mut open: Vec<(&str, i64, u32, bool)> = Vec::new();
    let damaged = || "its schema is damaged".to_owned();
    let (root, rest) = elements.split_first().ok_or_else(damaged)?;
    open.push(("", root.children, 0, false));
    for element in rest {
        while open.last().is_some_and(|(_, left, ..)| *left == 0) {
            open.pop();
        }
        let parent = open.last_mut().filter(|(_, left, ..)| *left > 0);
        let (_, left, definition, is_list) = parent.ok_or_else(damaged)?;
        *left -= 1;
        let definition = *definition + u32::from(element.repetition != 0);
        let is_list = *is_list || element.repetition == 2;
        if element.children > 0 {
            if open.len() > NESTING {
                return Err(format!("its columns are in more than {NESTING} structures"));
            }
            open.push((&element.name, element.children, definition, is_list));
            continue;
        }
        let path = open.iter().skip(1).map(|(name, ..)| (*name).to_owned());
        leaves.push(Leaf {
            path: path.chain([element.name.clone()]).collect(),
            physical: element.physical()?,
            max_definition: definition,
            is_list,
            is_text: element.is_text,
        });
    }
    let is_complete = open.iter().all(|(_, left, ..)| *left == 0);
    if is_complete { Ok(leaves) } else { Err(damaged()) }
}

fn group(reader: &mut Reader) -> Result<RowGroup> {
    let mut group = RowGroup::default();
    reader.fields(|reader, id, kind| {
        match (id, kind) {
            (1, Kind::List) => reader.list(|reader| {
                group.chunks.push(chunk(reader)?);
                check_count(group.chunks.len(), COLUMNS, "columns")
            })?,
            (3, Kind::Int) => group.rows = unsigned(reader.int()?)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(group)
}

fn chunk(reader: &mut Reader) -> Result<Chunk> {
    let mut found = None;
    reader.fields(|reader, id, kind| {
        match (id, kind) {
            (1, Kind::Binary) if !reader.binary()?.is_empty() => {
                return Err("its values are in another file".to_owned());
            }
            (1, Kind::Binary) => {}
            (3, Kind::Struct) => found = Some(column(reader)?),
            (8, _) => return Err("it is encrypted".to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    found.ok_or_else(|| "a column has no description".to_owned())
}

fn column(reader: &mut Reader) -> Result<Chunk> {
    let (mut chunk, mut dictionary) = (Chunk::default(), None);
    reader.fields(|reader, id, kind| {
        match (id, kind) {
            (4, Kind::Int) => chunk.codec = reader.int()?,
            (5, Kind::Int) => chunk.values = unsigned(reader.int()?)?,
            (7, Kind::Int) => chunk.length = unsigned(reader.int()?)?,
            (9, Kind::Int) => chunk.start = unsigned(reader.int()?)?,
            (11, Kind::Int) => dictionary = Some(unsigned(reader.int()?)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    // Some writers state 0 where there is no dictionary.
    if let Some(start) = dictionary.filter(|start| (1..chunk.start).contains(start)) {
        chunk.start = start;
    }
    Ok(chunk)
}

fn key_value(reader: &mut Reader) -> Result<(String, String)> {
    let (mut key, mut value) = (String::new(), String::new());
    reader.fields(|reader, id, kind| {
        match (id, kind) {
            (1, Kind::Binary) => key = reader.text()?,
            (2, Kind::Binary) => value = reader.text()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((key, value))
}

fn check_count(count: usize, most: usize, named: &str) -> Result<()> {
    match count > most {
        true => Err(format!("it has more than {} {named}", thousands(most as u64))),
        false => Ok(()),
    }
}

pub(super) fn unsigned(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| "its metadata has a negative number".to_owned())
}
