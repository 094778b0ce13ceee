//! Reads structures in Thrift's compact protocol, as Parquet has them, without building a tree:
//! the caller takes the fields that it knows, and others are skipped.

/// Structures, lists and maps in each other: more are not in any Parquet file.
const DEPTH: usize = 32;

/// The type of a field or an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A field with this value; as an element, a byte.
    Bool(bool),
    Byte,
    /// 16, 32 or 64 bits.
    Int,
    Double,
    Binary,
    List,
    Map,
    Struct,
}

/// A reader at a position of a buffer.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    depth: usize,
}

pub(super) type Result<T> = std::result::Result<T, String>;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes, depth: 0 }
    }

    /// The number of bytes that weren't read.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Reads a structure. `field` gets the number and the type of each field, and returns whether
    /// it read the value.
    pub(super) fn fields(
        &mut self,
        mut field: impl FnMut(&mut Self, i16, Kind) -> Result<bool>,
    ) -> Result<()> {
        self.enter(|reader| {
            let mut id = 0i16;
            loop {
                let head = reader.byte()?;
                if head == 0 {
                    return Ok(());
                }
                let kind = kind(head & 15)?;
                id = match head >> 4 {
                    0 => i16::try_from(reader.int()?).map_err(|_| damaged())?,
                    step => id.checked_add(i16::from(step)).ok_or_else(damaged)?,
                };
                if !field(reader, id, kind)? {
                    reader.skip(kind, false)?;
                }
            }
        })
    }

    /// Reads a list of structures or values: `element` reads each one.
    pub(super) fn list(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.enter(|reader| {
            let (_, length) = reader.list_head()?;
            (0..length).try_for_each(|_| element(reader))
        })
    }

    /// An integer of any width.
    pub(super) fn int(&mut self) -> Result<i64> {
        let raw = self.varint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    pub(super) fn binary(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.varint()?).map_err(|_| damaged())?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(damaged)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<String> {
        String::from_utf8(self.binary()?.to_vec()).map_err(|_| "a name isn't UTF-8".to_owned())
    }

    fn enter(&mut self, read: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if self.depth == DEPTH {
            return Err(damaged());
        }
        self.depth += 1;
        let done = read(self);
        self.depth -= 1;
        done
    }

    fn byte(&mut self) -> Result<u8> {
        let (&byte, rest) = self.rest.split_first().ok_or_else(damaged)?;
        self.rest = rest;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    /// The type and the number of a list's elements, each of which takes at least a byte.
    fn list_head(&mut self) -> Result<(Kind, usize)> {
        let head = self.byte()?;
        let length = match head >> 4 {
            15 => self.varint()?,
            short => u64::from(short),
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= self.rest.len());
        Ok((kind(head & 15)?, length.ok_or_else(damaged)?))
    }

    fn skip(&mut self, of: Kind, is_element: bool) -> Result<()> {
        match of {
            Kind::Bool(_) if is_element => self.byte().map(drop),
            Kind::Bool(_) => Ok(()),
            Kind::Byte => self.byte().map(drop),
            Kind::Int => self.varint().map(drop),
            Kind::Double => {
                self.rest = self.rest.get(8..).ok_or_else(damaged)?;
                Ok(())
            }
            Kind::Binary => self.binary().map(drop),
            Kind::Struct => self.fields(|_, _, _| Ok(false)),
            Kind::List => self.enter(|reader| {
                let (kind, length) = reader.list_head()?;
                (0..length).try_for_each(|_| reader.skip(kind, true))
            }),
            Kind::Map => self.enter(Reader::skip_map),
        }
    }

    fn skip_map(&mut self) -> Result<()> {
        let length = usize::try_from(self.varint()?).map_err(|_| damaged())?;
        if length == 0 {
            return Ok(());
        }
        let kinds = self.byte()?;
        if length > self.rest.len() {
            return Err(damaged());
        }
        let (key, value) = (kind(kinds >> 4)?, kind(kinds & 15)?);
        (0..length).try_for_each(|_| {
            self.skip(key, true)?;
            self.skip(value, true)
        })
    }
}

fn kind(number: u8) -> Result<Kind> {
    Ok(match number {
        1 => Kind::Bool(true),
        2 => Kind::Bool(false),
        3 => Kind::Byte,
        4..=6 => Kind::Int,
        7 => Kind::Double,
        8 => Kind::Binary,
        9 | 10 => Kind::List,
        11 => Kind::Map,
        12 => Kind::Struct,
        _ => return Err(damaged()),
    })
}

fn damaged() -> String {
    "its metadata is damaged".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_fields_are_read_and_others_are_skipped() {
        // 1: i32 -3, 2: binary "ab", 4: list of [1, 2], 5: true, 6: struct { 1: double }, 40: map
        let mut bytes = vec![0x15, 5, 0x18, 2, b'a', b'b', 0x29, 0x25, 2, 4, 0x11, 0x1c, 0x17];
        bytes.extend([0; 8]);
        bytes.extend([0, 0x0b, 80, 1, 0x85, 1, b'k', 2, 0]);
        let (mut number, mut list, mut truth) = (0, Vec::new(), None);
        let mut reader = Reader::new(&bytes);
        reader
            .fields(|reader, id, kind| {
                match (id, kind) {
                    (1, Kind::Int) => number = reader.int()?,
                    (4, Kind::List) => reader.list(|reader| {
                        list.push(reader.int()?);
                        Ok(())
                    })?,
                    (5, Kind::Bool(value)) => truth = Some(value),
                    _ => return Ok(false),
                }
                Ok(true)
            })
            .unwrap();
        assert_eq!((number, list, truth), (-3, vec![1, 2], Some(true)));
        assert_eq!(reader.left(), 0);
        for length in 0..bytes.len() {
            let skipped = Reader::new(&bytes[..length]).fields(|_, _, _| Ok(false));
            assert!(skipped.is_err(), "{length}");
        }
    }

    #[test]
    fn depth_and_lengths_are_bounded() {
        let deep = [0x1c; 1000];
        assert!(Reader::new(&deep).fields(|_, _, _| Ok(false)).is_err());
        let long = [0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(Reader::new(&long).fields(|_, _, _| Ok(false)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reader::new(&bytes).fields(|_, _, _| Ok(false));
        }
    }
}
