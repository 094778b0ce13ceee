//! Recognizes a file by its first bytes: one of the formats that are decoded, or the name of what it
//! is instead and what to do about it.

/// A format that is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    Gif,
    WebP,
    Bmp,
    Tiff,
}

impl Format {
    pub(super) const ALL: [Format; 6] =
        [Format::Jpeg, Format::Png, Format::Gif, Format::WebP, Format::Bmp, Format::Tiff];

    /// The usual extension of its files.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Format::Jpeg => "jpg",
            Format::Tiff => "tif",
            other => other.name(),
        }
    }

    /// The format in tables and reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "jpeg",
            Format::Png => "png",
            Format::Gif => "gif",
            Format::WebP => "webp",
            Format::Bmp => "bmp",
            Format::Tiff => "tiff",
        }
    }
}

/// Longest pointer file of Git LFS, and longest start of a text that is looked at.
const TEXT: usize = 1024;
/// Start, name and what to do.
type Known = (&'static [u8], &'static str, &'static str);
const CONVERT: &str = "convert it to JPEG or PNG";
const EXTRACT: &str = "extract the images, or name the archive as the source";
/// Files that occur among images, by their first bytes.
const OTHERS: [Known; 25] = [
    (b"\xff\x0a", "a JPEG XL image", CONVERT),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image", CONVERT),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image", CONVERT),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image", CONVERT),
    (b"8BPS", "a Photoshop document", CONVERT),
    (b"qoif", "a QOI image", CONVERT),
    (b"DDS ", "a DDS texture", CONVERT),
    (b"\x76\x2f\x31\x01", "an OpenEXR image", CONVERT),
    (b"#?RADIANCE", "a Radiance HDR image", CONVERT),
    (b"\0\0\x01\0", "a Windows icon", CONVERT),
    (b"SIMPLE  =", "a FITS file", CONVERT),
    (b"FUJIFILMCCD-RAW", "a camera's raw file", CONVERT),
    (b"IIRO", "a camera's raw file", CONVERT),
    (b"IIU\0", "a camera's raw file", CONVERT),
    (b"%PDF", "a PDF document", CONVERT),
    (b"%!PS", "a PostScript document", CONVERT),
    (b"PK\x03\x04", "a zip archive", EXTRACT),
    (b"\x1f\x8b", "a gzip file", EXTRACT),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", EXTRACT),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", EXTRACT),
    (b"Rar!", "a RAR archive", EXTRACT),
    (b"\x93NUMPY", "a NumPy array", "save its images as PNG"),
    (b"\x89HDF", "an HDF5 file", "save its images as PNG"),
    (b"\0\x05\x16\x07", "metadata of macOS (AppleDouble)", "remove it"),
    (b"\x1aE\xdf\xa3", "a video", "extract its frames as images"),
];

/// The format of a file that is decoded.
///
/// # Errors
/// The kind of file that it is instead, and the remedy where that is known.
pub(super) fn format(bytes: &[u8]) -> Result<Format, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    if bytes.iter().all(|&byte| byte == 0) {
        return Err("the file contains only zeros".into());
    }
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Format::Png),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Format::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
        [b'B', b'M', ..] if is_bitmap(bytes) => Ok(Format::Bmp),
        [b'I', b'I', 42 | 43, 0, _, _, _, _, b'C', b'R', ..] => {
            Err(named("a camera's raw file (CR2)", CONVERT))
        }
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Ok(Format::Tiff),
        _ => Err(otherwise(bytes)),
    }
}

/// Whether `BM` is followed by a header of a known length: many texts begin with these letters.
fn is_bitmap(bytes: &[u8]) -> bool {
    let header = bytes.get(14..18).and_then(|length| length.try_into().ok());
    header.is_none_or(|length| {
        matches!(u32::from_le_bytes(length), 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124)
    })
}

fn named(what: &str, help: &str) -> String {
    format!("it is {what}, not an image of a supported format: {help}")
}

/// The kind of a file that isn't decoded.
fn otherwise(bytes: &[u8]) -> String {
    if let Some(brands) = bytes.get(4..).and_then(|rest| rest.strip_prefix(b"ftyp")) {
        return isobmff(brands);
    }
    if let Some((_, what, help)) = OTHERS.iter().find(|(start, ..)| bytes.starts_with(start)) {
        return named(what, help);
    }
    if bytes.get(128..132) == Some(b"DICM") {
        return named("a DICOM file", CONVERT);
    }
    if bytes.len() <= 3 {
        return "it is too short to be an image".into();
    }
    text(bytes).unwrap_or_else(|| "it is not an image of a supported format".into())
}

/// HEIC, AVIF, a camera's raw file or a video: a box `ftyp` with the main brand and others.
fn isobmff(brands: &[u8]) -> String {
    let has = |wanted: &[&[u8; 4]]| {
        let all = brands.get(..64.min(brands.len())).unwrap_or_default().chunks_exact(4);
        all.enumerate().any(|(index, brand)| index != 1 && wanted.iter().any(|one| *one == brand))
    };
    if has(&[b"avif", b"avis"]) {
        return named("an AVIF image", CONVERT);
    }
    if has(&[b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"]) {
        return named("a HEIC image", "convert it to JPEG, for example with `heif-convert`");
    }
    if has(&[b"crx "]) {
        return named("a camera's raw file (CR3)", CONVERT);
    }
    named("a video", "extract its frames as images")
}

/// The kind of a text file.
fn text(bytes: &[u8]) -> Option<String> {
    let start = &bytes[..bytes.len().min(TEXT)];
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    // A character may be cut at the end of `start`.
    let start = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return None,
    };
    if start.chars().any(|one| one.is_control() && !one.is_whitespace()) {
        return None;
    }
    if start.starts_with("version https://git-lfs") {
        let help = "run `git lfs pull` in its repository";
        return Some(format!("it is a Git LFS pointer, not the image itself: {help}"));
    }
    if start.contains("annex/objects/") {
        let help = "run `git annex get` in its repository";
        return Some(format!("it is a git-annex pointer, not the image itself: {help}"));
    }
    let lower = start.trim_start().to_ascii_lowercase();
    let download = "download the image again";
    Some(match lower.as_str() {
        text if text.contains("<svg") => named("an SVG drawing", CONVERT),
        text if text.starts_with("<!doctype html") || text.contains("<html") => {
            named("an HTML page", download)
        }
        text if text.starts_with("<?xml") => named("an XML document", download),
        text if text.starts_with(['{', '[']) => named("a JSON document", download),
        _ => "it is a text, not an image".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_decoded_is_named_with_what_to_do() {
        let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        let cases: [(&[u8], &str); 12] = [
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "an AVIF image"),
            (b"\0\0\0\x18ftypisom\0\0\0\0mp42", "a video"),
            (b"\xff\x0a\x00\x01\x02", "a JPEG XL image"),
            (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
            (lfs, "a Git LFS pointer"),
            (b"../../.git/annex/objects/x/y", "a git-annex pointer"),
            (b"<!DOCTYPE html><p>404", "an HTML page"),
            (b"\xef\xbb\xbf<?xml version='1.0'?><svg/>", "an SVG drawing"),
            (b"BMW is the maker of this car", "a text"),
            (b"II\x2a\0\x10\0\0\0CR\x02\0", "CR2"),
            (b"PK\x03\x04\x14\0", "a zip archive"),
        ];
        for (bytes, name) in cases {
            let reason = format(bytes).unwrap_err();
            assert!(reason.contains(name), "{reason}");
            assert!(name == "a text" || reason.contains(": "), "{reason} doesn't say what to do");
        }
        assert_eq!(format(b"ab").unwrap_err(), "it is too short to be an image");
    }
}
