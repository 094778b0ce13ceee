//! Finds the functions and classes that a pickle references, by scanning its opcodes without
//! executing any, and rejects all but those that build tensors.
//!
//! A pickle is a program for a stack machine, and `torch.load` runs it, so a weights file can
//! execute arbitrary code. `pytorch_reader` executes no calls either, but ignores unknown ones. A
//! file that references one isn't a plain weights file, so it is rejected here, by name.

use std::collections::BTreeMap;
use std::io::Read;

/// The allowed references, by module and name: they build tensors and dictionaries of them.
const ALLOWED: [(&str, &[&str]); 3] = [
    ("collections", &["OrderedDict"]),
    ("torch._utils", &["_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"]),
    (
        "torch",
        &[
            "DoubleStorage",
            "FloatStorage",
            "HalfStorage",
            "BFloat16Storage",
            "LongStorage",
            "IntStorage",
            "ShortStorage",
            "CharStorage",
            "ByteStorage",
            "BoolStorage",
        ],
    ),
];

/// Maximum length of a string, in bytes. Names of tensors are far shorter.
const MAX_STRING: u64 = 1 << 20;

/// Scans one pickle to its end.
///
/// # Errors
/// A message, when it references anything that isn't allowed, or is incomplete.
pub(super) fn check(input: &mut impl Read) -> Result<(), String> {
    let mut scan = Scan { input, memo: BTreeMap::new(), recent: [None, None] };
    while scan.step()? {}
    Ok(())
}

/// The state of a scan. Protocol 4 takes names from the stack, so the last two values are tracked.
struct Scan<'a, R> {
    input: &'a mut R,
    /// The memo: strings, or `None` for other values.
    memo: BTreeMap<u64, Option<String>>,
    /// The last two values pushed, if they are strings.
    recent: [Option<String>; 2],
}

impl<R: Read> Scan<'_, R> {
    /// Scans one opcode. Returns false after the last.
    fn step(&mut self) -> Result<bool, String> {
        let [code] = self.bytes()?;
        match code {
            b'.' => return Ok(false),
            // MARK, FRAME and PROTO don't push a value.
            b'(' => {}
            0x95 => drop(self.bytes::<8>()?),
            0x80 => drop(self.bytes::<1>()?),
            b'c' | b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                allow(&module, &name)?;
                self.push(None);
            }
            0x93 => match std::mem::take(&mut self.recent) {
                [Some(name), Some(module)] => allow(&module, &name)?,
                _ => return Err("it computes the name of what it calls".into()),
            },
            0x82..=0x84 => {
                return Err(
                    "it calls a function by a number of Python's registry of extensions".into()
                );
            }
            b'p' => {
                let index = self.line()?.parse().map_err(|_| damaged())?;
                self.memo.insert(index, self.recent[0].clone());
            }
            b'q' => self.keep::<1>()?,
            b'r' => self.keep::<4>()?,
            0x94 => {
                let index = self.memo.len() as u64;
                self.memo.insert(index, self.recent[0].clone());
            }
            b'g' => {
                let index = self.line()?.parse().map_err(|_| damaged())?;
                self.recall(index);
            }
            b'h' => {
                let index = self.number::<1>()?;
                self.recall(index);
            }
            b'j' => {
                let index = self.number::<4>()?;
                self.recall(index);
            }
            b'X' | b'T' => self.text::<4>()?,
            0x8c | b'U' => self.text::<1>()?,
            0x8d => self.text::<8>()?,
            b'V' | b'S' => {
                let text = self.line()?;
                self.push(Some(text));
            }
            _ => self.other(code)?,
        }
        Ok(true)
    }

    /// Opcodes that push other values than strings, or pop: skips their arguments.
    fn other(&mut self, code: u8) -> Result<(), String> {
        match code {
            b'F' | b'I' | b'L' | b'P' => drop(self.line()?),
            b'K' => drop(self.bytes::<1>()?),
            b'M' => drop(self.bytes::<2>()?),
            b'J' => drop(self.bytes::<4>()?),
            b'G' => drop(self.bytes::<8>()?),
            b'C' | 0x8a => self.pass_over::<1>()?,
            b'B' | 0x8b => self.pass_over::<4>()?,
            0x8e | 0x96 => self.pass_over::<8>()?,
            b'0'
            | b'1'
            | b'2'
            | b')'
            | b']'
            | b'}'
            | b'a'
            | b'e'
            | b'l'
            | b'd'
            | b't'
            | b's'
            | b'u'
            | b'b'
            | b'R'
            | b'o'
            | b'Q'
            | b'N'
            | 0x81
            | 0x85..=0x89
            | 0x8f..=0x92
            | 0x97
            | 0x98 => {}
            _ => return Err(damaged()),
        }
        self.push(None);
        Ok(())
    }

    fn push(&mut self, text: Option<String>) {
        self.recent.swap(0, 1);
        self.recent[0] = text;
    }

    fn recall(&mut self, index: u64) {
        let kept = self.memo.get(&index).cloned().flatten();
        self.push(kept);
    }

    fn keep<const N: usize>(&mut self) -> Result<(), String> {
        let index = self.number::<N>()?;
        self.memo.insert(index, self.recent[0].clone());
        Ok(())
    }

    fn text<const N: usize>(&mut self) -> Result<(), String> {
        let length = self.number::<N>()?;
        if length > MAX_STRING {
            return Err(format!("it contains a text of {length} bytes"));
        }
        let mut bytes = Vec::new();
        self.input
            .by_ref()
            .take(length)
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        if bytes.len() as u64 != length {
            return Err(damaged());
        }
        self.push(Some(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(())
    }

    fn pass_over<const N: usize>(&mut self) -> Result<(), String> {
        let length = self.number::<N>()?;
        let passed = std::io::copy(&mut self.input.by_ref().take(length), &mut std::io::sink());
        if passed.map_err(|error| error.to_string())? == length { Ok(()) } else { Err(damaged()) }
    }

    /// A little-endian number of N bytes.
    fn number<const N: usize>(&mut self) -> Result<u64, String> {
        Ok(self.bytes::<N>()?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        loop {
            match self.bytes()? {
                [b'\n'] => return Ok(String::from_utf8_lossy(&line).into_owned()),
                [_] if line.len() as u64 > MAX_STRING => return Err(damaged()),
                [byte] => line.push(byte),
            }
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|_| damaged())?;
        Ok(bytes)
    }
}

fn damaged() -> String {
    "its list of tensors is cut short or damaged".into()
}

fn allow(module: &str, name: &str) -> Result<(), String> {
    if ALLOWED.iter().any(|(known, names)| *known == module && names.contains(&name)) {
        return Ok(());
    }
    Err(format!(
        "it references `{module}.{name}`, which is not part of a tensor; nothing was executed"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(pickle: &[u8]) -> String {
        check(&mut &pickle[..]).unwrap_err()
    }

    #[test]
    fn every_way_to_reference_a_function_is_detected() {
        let name = "`os.system`";
        assert!(refused(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.").contains(name));
        assert!(refused(b"(X\x02\x00\x00\x00lsios\nsystem\n.").contains(name));
        assert!(refused(b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93.").contains(name));
        // Module and name come from the memo.
        assert!(
            refused(b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93.").contains(name)
        );
        assert!(refused(b"\x80\x04Vos\nVsystem\n\x93.").contains(name));
        assert!(refused(b"\x80\x04K\x01K\x02\x93.").contains("computes"));
        // A value is pushed and popped in between, so the last two values don't determine the
        // reference.
        assert!(refused(b"\x80\x04\x8c\x02os\x8c\x06systemN0\x93.").contains("computes"));
        assert!(refused(b"\x80\x02\x82\x01.").contains("extensions"));
    }

    #[test]
    fn allowed_references_pass_and_only_one_pickle_is_read() {
        let mut rest: &[u8] = b"\x80\x02ccollections\nOrderedDict\n)R.rest";
        check(&mut rest).unwrap();
        assert_eq!(rest, b"rest");
        check(&mut &b"\x80\x04\x8c\x0bcollections\x8c\x0bOrderedDict\x93)R."[..]).unwrap();
        assert!(refused(b"ctorch\nload\n.").contains("`torch.load`"));
    }

    #[test]
    fn lengths_beyond_the_file_are_refused() {
        assert!(refused(b"X\xff\xff\xff\xffabc.").contains("4294967295 bytes"));
        assert!(refused(b"B\xff\xff\xff\xffabc.").contains("cut short"));
        assert!(refused(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.").contains("bytes"));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = check(&mut &bytes[..]);
        }
    }
}
