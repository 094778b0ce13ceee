//! Protocol Buffers' wire format, as much of it as ONNX files need: integers, texts, nested messages
//! and blocks of `f32`. Knows no schema.

use std::io::{self, Write};

/// Wire types.
const VARINT: u32 = 0;
const EIGHT_BYTES: u32 = 1;
const LENGTH: u32 = 2;
const FOUR_BYTES: u32 = 5;

/// Values converted to bytes at a time when a block of `f32` is written.
const BUFFER: usize = 16 * 1024;

/// A message under construction. Blocks of `f32` are borrowed until it is written, so that a large
/// model isn't in memory twice.
#[derive(Default)]
pub(super) struct Message<'a> {
    parts: Vec<Part<'a>>,
    length: usize,
}

enum Part<'a> {
    Bytes(Vec<u8>),
    Floats(&'a [f32]),
}

impl<'a> Message<'a> {
    /// Length of the encoded message in bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Adds an integer. A negative one takes ten bytes.
    pub(super) fn integer(self, field: u32, value: i64) -> Self {
        let mut bytes = key(field, VARINT);
        varint(value as u64, &mut bytes);
        self.push(Part::Bytes(bytes))
    }

    /// Adds a text.
    pub(super) fn text(self, field: u32, text: &str) -> Self {
        self.head(field, text.len()).push(Part::Bytes(text.as_bytes().to_vec()))
    }

    /// Adds a message.
    pub(super) fn message(self, field: u32, message: Message<'a>) -> Self {
        let whole = self.head(field, message.length);
        message.parts.into_iter().fold(whole, Message::push)
    }

    /// Adds numbers as a block of little-endian bytes.
    pub(super) fn floats(self, field: u32, values: &'a [f32]) -> Self {
        self.head(field, size_of_val(values)).push(Part::Floats(values))
    }

    /// The beginning of a field of `length` bytes.
    fn head(self, field: u32, length: usize) -> Self {
        let mut bytes = key(field, LENGTH);
        varint(length as u64, &mut bytes);
        self.push(Part::Bytes(bytes))
    }

    fn push(mut self, part: Part<'a>) -> Self {
        self.length += match &part {
            Part::Bytes(bytes) => bytes.len(),
            Part::Floats(values) => size_of_val(*values),
        };
        match (self.parts.last_mut(), part) {
            (Some(Part::Bytes(last)), Part::Bytes(bytes)) => last.extend(bytes),
            (_, part) => self.parts.push(part),
        }
        self
    }

    /// Writes the encoded message.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut buffer = Vec::new();
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => out.write_all(bytes)?,
                Part::Floats(values) => {
                    for values in values.chunks(BUFFER) {
                        buffer.clear();
                        values.iter().for_each(|value| buffer.extend(value.to_le_bytes()));
                        out.write_all(&buffer)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The key that begins a field.
fn key(field: u32, wire: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(u64::from((field << 3) | wire), &mut bytes);
    bytes
}

/// Appends an integer, seven bits a byte, the lowest first.
fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A field's value in an encoded message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// An integer, as its 64 bits.
    Integer(i64),
    /// A text, a message or a block of numbers.
    Bytes(&'a [u8]),
    /// A number of four or eight bytes, which no field here has.
    Fixed,
}

/// The fields of an encoded message, by number, in the order in which they were written. Ends after
/// the first error.
pub(super) struct Fields<'a>(&'a [u8]);

/// The message for bytes that don't follow the wire format.
const DAMAGED: &str = "it is incomplete or damaged";

impl<'a> Fields<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Fields<'a> {
        Fields(bytes)
    }

    fn read(&mut self) -> Option<(u32, Value<'a>)> {
        let key = self.varint()?;
        let field = u32::try_from(key >> 3).ok().filter(|&field| field > 0)?;
        let value = match (key & 7) as u32 {
            VARINT => Value::Integer(self.varint()? as i64),
            LENGTH => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            EIGHT_BYTES => self.take(8).map(|_| Value::Fixed)?,
            FOUR_BYTES => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((field, value))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for a single bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read().ok_or_else(|| DAMAGED.to_owned());
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// The numbers of a block of little-endian `f32`.
///
/// # Errors
/// If the block doesn't have a whole number of them.
pub(super) fn floats(bytes: &[u8]) -> Result<Vec<f32>, String> {
    let (values, []) = bytes.as_chunks::<4>() else { return Err(DAMAGED.to_owned()) };
    Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.write(&mut bytes).unwrap();
        assert_eq!(bytes.len(), message.length());
        bytes
    }

    #[test]
    fn bytes_are_those_of_the_specification() {
        // The examples of protobuf.dev/programming-guides/encoding.
        let message = Message::default().integer(1, 150);
        assert_eq!(encoded(&message), [0x08, 0x96, 0x01]);
        let text = Message::default().text(2, "testing");
        assert_eq!(encoded(&text), *b"\x12\x07testing");
        let nested = Message::default().message(3, message);
        assert_eq!(encoded(&nested), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let negative = encoded(&Message::default().integer(1, -2));
        assert_eq!(negative[1..], [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        let floats = encoded(&Message::default().floats(9, &[1.0, -2.0]));
        assert_eq!(floats, [0x4a, 8, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]);
    }

    #[test]
    fn malformed_bytes_are_refused() {
        for bytes in [
            &[0x08][..],                                                         // no value
            &[0x00, 0x01],                                                       // field 0
            &[0x12, 0x05, b'a'], // shorter than its length
            &[0x0b],             // a group, which no file here has
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], // 65 bits
            &[0x09, 1, 2, 3],    // of eight bytes
        ] {
            let mut fields = Fields::of(bytes);
            assert!(fields.next().unwrap().is_err(), "{bytes:?}");
            assert!(fields.next().is_none());
        }
        assert!(floats(&[0; 7]).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            integer: i64, text: String, numbers: Vec<f32>, field in 1u32..1 << 28,
        ) {
            let inner = Message::default().text(field, &text).floats(2, &numbers);
            let message = Message::default().integer(field, integer).message(7, inner);
            let bytes = encoded(&message.integer(1, 1));
            let read: Vec<_> = Fields::of(&bytes).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read[0], (field, Value::Integer(integer)));
            prop_assert_eq!(read[2], (1, Value::Integer(1)));
            let (7, Value::Bytes(inner)) = read[1] else { panic!("{read:?}") };
            let inner: Vec<_> = Fields::of(inner).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(inner[0], (field, Value::Bytes(text.as_bytes())));
            let (2, Value::Bytes(block)) = inner[1] else { panic!("{inner:?}") };
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&floats(block).unwrap()), bits(&numbers));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            Fields::of(&bytes).for_each(drop);
        }
    }
}
