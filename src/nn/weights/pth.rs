//! Reads the `.pth` files that `torch.save` writes: a zip archive since PyTorch 1.6, a stream of
//! pickles before, as some of torchvision's published files still are. `pickle` first checks that a
//! file references only tensors; then the crate `pytorch_reader` reads it, which executes no calls
//! and checks every length.

use super::floats::{Float, finite, values};
use super::{AGAIN, WeightTensor, Weights, pickle};
use pytorch_reader::{DType, PytorchError, PytorchReader, Tensor};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

/// The keys under which training scripts save weights beside optimizer state and the like.
const WRAPPERS: [&str; 6] =
    ["state_dict", "model_state_dict", "model", "net", "model_ema", "state_dict_ema"];

/// The advice for a file that contains more than tensors, or has an unsupported format.
pub(super) const CONVERT: &str = "load it in Python, where it was made, and save the tensors alone: torch.save(model.state_dict(), \"weights.pth\")";

/// Maximum ratio of tensor bytes to file bytes. Above 1, since tensors may share storage and
/// archives may be compressed.
const MAX_EXPANSION: u64 = 16;

/// The magic number of the legacy format, as pickle protocol 2 encodes it.
const LEGACY: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Number of pickles in the legacy format: magic number, version, system information, weights,
/// storage keys.
const LEGACY_PICKLES: usize = 5;

/// Whether a file with this beginning may be a `.pth` file.
pub(super) fn is_pth(beginning: &[u8]) -> bool {
    is_zip(beginning) || is_tar(beginning) || beginning.first() == Some(&0x80)
}

fn is_zip(beginning: &[u8]) -> bool {
    beginning.starts_with(b"PK\x03\x04")
}

fn is_tar(beginning: &[u8]) -> bool {
    beginning.get(257..262) == Some(b"ustar")
}

/// Reads a file that begins with `beginning`.
///
/// # Errors
/// A message, when the file is truncated or damaged, references anything but tensors and dictionaries of them (nothing is
/// executed), or contains a tensor that isn't floating-point or not finite.
pub(super) fn read(path: &Path, beginning: &[u8]) -> Result<Weights, String> {
    let length = check_names(path, beginning)?;
    let mut tensors = Vec::from_iter(weights_in(path)?.into_tensors());
    tensors.retain(|(_, tensor)| !is_counter(tensor));
    tensors.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    if tensors.is_empty() {
        return Err(format!("it contains no tensors; {CONVERT}"));
    }
    let total = tensors.iter().try_fold(0u64, |sum, (_, tensor)| sum.checked_add(size(tensor)?));
    if total.is_none_or(|total| total > length.saturating_mul(MAX_EXPANSION)) {
        return Err(format!("its tensors are far larger than its {length} bytes: it is damaged"));
    }
    let mut weights = Weights::default();
    for (name, tensor) in tensors {
        let data = numbers(&name, &tensor)?;
        weights.tensors.insert(name, WeightTensor { shape: tensor.shape().to_vec(), data });
    }
    Ok(weights)
}

/// Whether a tensor is an integer scalar, such as `num_batches_tracked`, which is ignored.
fn is_counter(tensor: &Tensor) -> bool {
    let is_whole = !matches!(tensor.dtype(), DType::F16 | DType::BF16 | DType::F32 | DType::F64);
    is_whole && tensor.shape().is_empty()
}

/// Size of a tensor in bytes, or `None` on overflow.
fn size(tensor: &Tensor) -> Option<u64> {
    let number = tensor.dtype().size() as u64;
    tensor.shape().iter().try_fold(number, |product, &side| product.checked_mul(side as u64))
}

/// Rejects files that reference more than tensors. Returns the file's length.
fn check_names(path: &Path, beginning: &[u8]) -> Result<u64, String> {
    let failed = |error: std::io::Error| error.to_string();
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if is_tar(beginning) {
        return Err(format!(
            "it is of the format that torch wrote before 0.1.10, which isn't read; {CONVERT}"
        ));
    }
    if is_zip(beginning) {
        check_archive(file)?
    } else {
        check_stream(file, beginning)?
    }
    Ok(length)
}

fn check_archive(file: File) -> Result<(), String> {
    let broken =
        |error: zip::result::ZipError| format!("it is cut short or damaged ({error}); {AGAIN}");
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    let is_pickle = |name: &str| name == "data.pkl" || name.ends_with("/data.pkl");
    let mut found = false;
    for index in 0..archive.len() {
        let name = archive.name_for_index(index).and_then(Result::ok);
        if name.is_some_and(|name| is_pickle(&name)) {
            let entry = archive.by_index(index).map_err(broken)?;
            check_pickle(&mut BufReader::new(entry.take(pytorch_reader::MAX_PICKLE_SIZE)))?;
            found = true;
        }
    }
    if found {
        Ok(())
    } else {
        Err(format!(
            "it is a zip archive, but not one of torch's: there is no data.pkl in it; {CONVERT}"
        ))
    }
}

fn check_pickle(input: &mut impl BufRead) -> Result<(), String> {
    pickle::check(input).map_err(|reason| format!("{reason}; {CONVERT}"))
}

fn check_stream(file: File, beginning: &[u8]) -> Result<(), String> {
    let is_legacy = beginning.windows(LEGACY.len()).take(64).any(|bytes| bytes == LEGACY);
    let mut input = BufReader::new(file);
    input.rewind().map_err(|error| error.to_string())?;
    (0..if is_legacy { LEGACY_PICKLES } else { 1 }).try_for_each(|_| check_pickle(&mut input))
}

/// The tensors under one of [`WRAPPERS`], or all.
fn weights_in(path: &Path) -> Result<PytorchReader, String> {
    let broken = |error: PytorchError| format!("not a whole .pth file: {error}");
    for key in WRAPPERS {
        match PytorchReader::with_top_level_key(path, key) {
            Ok(reader) if !reader.is_empty() => return Ok(reader),
            Ok(_) | Err(PytorchError::KeyNotFound(_)) => {}
            Err(error) => return Err(broken(error)),
        }
    }
    PytorchReader::new(path).map_err(broken)
}

fn numbers(name: &str, tensor: &Tensor) -> Result<Vec<f32>, String> {
    let of = match tensor.dtype() {
        DType::F16 => Float::F16,
        DType::BF16 => Float::BF16,
        DType::F32 => Float::F32,
        DType::F64 => Float::F64,
        other => return Err(format!("{name} contains {other:?}, not floating-point numbers")),
    };
    let bytes = tensor.read().map_err(|error| format!("it is cut short or damaged: {error}"))?;
    // The reader returns native byte order.
    let bytes =
        if cfg!(target_endian = "big") { swapped(bytes, tensor.dtype().size()) } else { bytes };
    let data = values(&bytes, of);
    finite(name, &data)?;
    Ok(data)
}

fn swapped(mut bytes: Vec<u8>, size: usize) -> Vec<u8> {
    bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    /// Files written by PyTorch with `golden/make.py`.
    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nn/weights/golden").join(name)
    }

    fn refused(name: &str) -> String {
        read(&golden(name)).unwrap_err().to_string()
    }

    #[test]
    fn files_of_every_format_that_torch_writes_are_read() {
        type Expected = BTreeMap<String, BTreeMap<String, WeightTensor>>;
        let expected: Expected =
            serde_json::from_slice(&std::fs::read(golden("expected.json")).unwrap()).unwrap();
        assert_eq!(expected.len(), 9);
        for (name, tensors) in expected {
            let found = read(&golden(&name)).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(found.tensors, tensors, "{name}");
        }
    }

    #[test]
    fn references_to_anything_but_tensors_are_refused_by_name() {
        for name in ["malicious.pth", "malicious4.pth", "malicious_legacy.pth"] {
            let message = refused(name);
            assert!(
                message.contains(&format!(
                    "{name}: it references `posix.system`, which is not part of a tensor"
                )),
                "{message}"
            );
            assert!(message.ends_with(CONVERT), "{message}");
        }
        assert!(refused("eval.pth").contains("`__builtin__.eval`"), "{}", refused("eval.pth"));
        assert!(refused("module.pth").contains("`__main__.Module`"));
        assert!(!Path::new("executed").exists() && !golden("executed").exists());
    }

    #[test]
    fn files_without_weights_are_refused() {
        assert!(refused("nan.pth").contains("fc.bias contains NaN at index 1"));
        assert!(
            refused("integers.pth").contains("fc.bias contains I64, not floating-point numbers")
        );
        assert!(refused("nothing.pth").contains("it contains no tensors"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pth");
        let error = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read(&path).unwrap_err().to_string()
        };
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert!(error(&tar).contains("before 0.1.10"));
        assert!(error(b"<html>Not found</html>").contains("neither"), "{}", error(b"<html>"));
        assert!(error(b"").contains("it is empty"));
        assert!(error(b"PK\x03\x04").contains("cut short"));
    }

    #[test]
    fn a_file_truncated_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.pth");
        for name in ["zip.pth", "legacy.pth"] {
            let bytes = std::fs::read(golden(name)).unwrap();
            std::fs::write(&path, &bytes).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            for length in (0..bytes.len()).rev() {
                file.set_len(length as u64).unwrap();
                let message = read(&path).expect_err(name).to_string();
                assert!(message.contains("cut.pth: "), "{message}");
            }
        }
    }

    #[test]
    fn tensors_far_larger_than_their_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.pth");
        // The shape (3, 2) of `expanded`, which repeats two numbers, becomes (3 * 2^20, 2).
        let bytes = std::fs::read(golden("legacy_strided.pth")).unwrap();
        let small = b"K\x03K\x02\x86";
        let index = bytes.windows(small.len()).rposition(|bytes| bytes == small).unwrap();
        let large = b"J\x00\x00\x30\x00K\x02\x86";
        let bomb = [&bytes[..index], large, &bytes[index + small.len()..]].concat();
        std::fs::write(&path, bomb).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("far larger than its"), "{message}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn a_flipped_byte_never_panics(which in 0usize..4, at in 0usize..4000, bit in 0u8..8) {
            let name = ["zip.pth", "legacy.pth", "legacy_strided.pth", "protocol4.pth"][which];
            let mut bytes = std::fs::read(golden(name)).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let _ = read(file.path());
        }
    }
}
