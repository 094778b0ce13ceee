//! Reads and writes safetensors files. Written bytes are deterministic; malformed files are
//! rejected.

use super::floats::{Float, finite, values};
use super::{AGAIN, WeightTensor, Weights};
use crate::nn::NnError;
use crate::nn::number::Number;
use ::safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView, View};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

/// Reads a file.
///
/// # Errors
/// When it can't be read, or [`from_bytes`] rejects it.
pub fn read_safetensors<N: Number>(path: &Path) -> Result<Weights<N>, NnError> {
    let bytes =
        std::fs::read(path).map_err(|source| NnError::Io { path: path.to_owned(), source })?;
    from_bytes(&bytes).map_err(|reason| NnError::file(path, reason))
}

/// Parses a file's bytes. Floating-point tensors of 16, 32 and 64 bits become `N`; integer scalars
/// such as `num_batches_tracked` are ignored.
///
/// # Errors
/// A message, when the bytes are truncated, tensors overlap, leave gaps or exceed the file, or a value isn't finite.
pub fn from_bytes<N: Number>(bytes: &[u8]) -> Result<Weights<N>, String> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| format!("not a complete safetensors file ({error}); {AGAIN}"))?;
    let (_, header) =
        SafeTensors::read_metadata(bytes).map_err(|error| format!("unreadable header: {error}"))?;
    let mut weights = Weights::default();
    if let Some(metadata) = header.metadata() {
        weights.metadata.extend(metadata.iter().map(|(name, text)| (name.clone(), text.clone())));
    }
    for (name, view) in file.tensors() {
        let data = match numbers(&view) {
            Some(data) => data,
            None if view.shape().is_empty() => continue,
            None => {
                return Err(format!(
                    "{name} contains {:?}, not floating-point numbers",
                    view.dtype()
                ));
            }
        };
        finite(&name, &data)?;
        weights.tensors.insert(name, WeightTensor { shape: view.shape().to_vec(), data });
    }
    Ok(weights)
}

fn numbers<N: Number>(view: &TensorView) -> Option<Vec<N>> {
    let of = match view.dtype() {
        Dtype::F32 => Float::F32,
        Dtype::F64 => Float::F64,
        Dtype::BF16 => Float::BF16,
        Dtype::F16 => Float::F16,
        _ => return None,
    };
    Some(values(view.data(), of))
}

/// A tensor that is converted to bytes when it is written, so that the whole file is never in
/// memory.
struct Written<'a, N>(&'a WeightTensor<N>);

impl<N: Number> View for Written<'_, N> {
    fn dtype(&self) -> Dtype {
        if size_of::<N>() == 4 { Dtype::F32 } else { Dtype::F64 }
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        self.0.data.iter().for_each(|value| value.write(&mut bytes));
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        size_of::<N>() * self.0.data.len()
    }
}

/// Tensors by name, and the metadata if there is any.
type Parts<'a, N> = (Vec<(&'a String, Written<'a, N>)>, Option<HashMap<String, String>>);

/// The contents of the file for these weights.
fn written<N: Number>(weights: &Weights<N>) -> Result<Parts<'_, N>, String> {
    if weights.metadata.len() > 1 {
        return Err("metadata of several entries has no fixed order: put them into one".into());
    }
    for (name, WeightTensor { shape, data }) in &weights.tensors {
        if shape.iter().product::<usize>() != data.len() {
            return Err(format!("{name} has {} values, and its shape is {shape:?}", data.len()));
        }
    }
    let metadata: HashMap<String, String> = weights.metadata.clone().into_iter().collect();
    let tensors = weights.tensors.iter().map(|(name, tensor)| (name, Written(tensor)));
    Ok((tensors.collect(), (!metadata.is_empty()).then_some(metadata)))
}

/// The bytes of a file with these weights; equal weights give equal bytes.
///
/// # Errors
/// A message, when a shape doesn't match its number of values, or there is more than one metadata entry: the order of several
/// isn't deterministic.
pub fn to_bytes<N: Number>(weights: &Weights<N>) -> Result<Vec<u8>, String> {
    let (tensors, metadata) = written(weights)?;
    ::safetensors::serialize(tensors, metadata).map_err(|error| error.to_string())
}

/// Writes a file with the bytes of [`to_bytes`], replacing an existing one.
///
/// # Errors
/// When it can't be written, or [`to_bytes`] rejects the weights.
pub fn write_safetensors<N: Number>(path: &Path, weights: &Weights<N>) -> Result<(), NnError> {
    let (tensors, metadata) = written(weights).map_err(|reason| NnError::file(path, reason))?;
    let unwritten = |source| NnError::Io { path: path.to_owned(), source };
    // `serialize_to_file` creates a private temporary file: restore the usual permissions.
    let usual = std::fs::File::create(path)
        .and_then(|file| file.metadata())
        .map_err(unwritten)?
        .permissions();
    ::safetensors::serialize_to_file(tensors, metadata, path).map_err(|error| match error {
        SafeTensorError::IoError(source) => unwritten(source),
        other => NnError::file(path, other.to_string()),
    })?;
    let finish = || {
        std::fs::set_permissions(path, usual)?;
        std::fs::File::open(path)?.sync_all()
    };
    finish().map_err(unwritten)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> Weights {
        let mut weights = Weights::default();
        weights.metadata.insert("pipe".into(), "{\"classes\":[\"a\"]}".into());
        let tensor = |shape: &[usize]| WeightTensor {
            shape: shape.to_vec(),
            data: (0..shape.iter().product::<usize>()).map(|v| v as f32 - 1.5).collect(),
        };
        weights.tensors.insert("fc.weight".into(), tensor(&[2, 3]));
        weights.tensors.insert("fc.bias".into(), tensor(&[2]));
        weights.tensors.insert("conv1.weight".into(), tensor(&[2, 1, 2, 2]));
        weights
    }

    #[test]
    fn weights_round_trip_with_deterministic_bytes() {
        let bytes = to_bytes(&example()).unwrap();
        assert_eq!(from_bytes::<f32>(&bytes).unwrap(), example());
        assert_eq!(bytes, to_bytes(&example()).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        for _ in 0..2 {
            write_safetensors(&path, &example()).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        std::fs::write(folder.path().join("usual"), b"").unwrap();
        let permissions =
            |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions();
        assert_eq!(permissions("weights.safetensors"), permissions("usual"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn f64_values_round_trip() {
        let third = WeightTensor { shape: vec![2], data: vec![1.0f64 / 3.0, -1e-300] };
        let weights =
            Weights { tensors: [("third".to_owned(), third)].into(), ..Weights::default() };
        let bytes = to_bytes(&weights).unwrap();
        assert_eq!(from_bytes::<f64>(&bytes).unwrap(), weights);
        assert_eq!(from_bytes::<f32>(&bytes).unwrap().tensors["third"].data, [1.0 / 3.0, -0.0]);
    }

    #[test]
    fn a_file_truncated_anywhere_is_refused() {
        let bytes = to_bytes(&example()).unwrap();
        for length in 0..bytes.len() {
            assert!(
                from_bytes::<f32>(&bytes[..length]).is_err(),
                "{length} of {} bytes were accepted",
                bytes.len()
            );
        }
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert!(from_bytes::<f32>(&longer).is_err());
    }

    fn with_header(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend(std::iter::repeat_n(0, data));
        bytes
    }

    #[test]
    fn offsets_that_overlap_overrun_or_leave_gaps_are_refused() {
        let two = |a: &str, b: &str| {
            let entry =
                |at: &str| format!(r#"{{"dtype":"F32","shape":[2],"data_offsets":[{at}]}}"#);
            with_header(&format!(r#"{{"a":{},"b":{}}}"#, entry(a), entry(b)), 16)
        };
        assert!(from_bytes::<f32>(&two("0,8", "8,16")).is_ok());
        for (a, b) in [
            ("0,8", "4,12"),
            ("0,8", "0,8"),
            ("0,8", "16,24"),
            ("4,12", "8,16"),
            ("8,0", "8,16"),
            ("0,4", "8,16"),
        ] {
            assert!(from_bytes::<f32>(&two(a, b)).is_err(), "{a} {b}");
        }
    }

    #[test]
    fn values_that_are_not_finite_and_integer_tensors_are_refused() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut weights = example();
            weights.tensors.get_mut("fc.bias").unwrap().data[1] = bad;
            let message = from_bytes::<f32>(&to_bytes(&weights).unwrap()).unwrap_err();
            assert!(
                message.contains("fc.bias contains") && message.contains("index 1"),
                "{message}"
            );
        }
        let integers = with_header(r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#, 8);
        assert!(from_bytes::<f32>(&integers).unwrap_err().contains("I64"));
        let counter = with_header(
            r#"{"bn1.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}"#,
            8,
        );
        assert!(from_bytes::<f32>(&counter).unwrap().tensors.is_empty());
    }

    #[test]
    fn invalid_weights_are_not_written() {
        let mut weights = example();
        weights.tensors.get_mut("fc.bias").unwrap().shape = vec![3];
        assert!(to_bytes(&weights).unwrap_err().contains("fc.bias has 2 values"));
        let mut weights = example();
        weights.metadata.insert("second".into(), "entry".into());
        assert!(to_bytes(&weights).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_bytes::<f32>(&bytes);
        }

        #[test]
        fn a_flipped_byte_never_panics(at in 0usize..300, bit in 0u8..8) {
            let mut bytes = to_bytes(&example()).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let _ = from_bytes::<f32>(&bytes);
        }
    }
}
