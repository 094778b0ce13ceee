//! Which files are images, by path alone; their content is checked when they are decoded.

/// File name extensions of the image formats that can be decoded, in lower case.
pub(crate) const EXTENSIONS: [&str; 10] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "gif", "webp", "bmp", "tif", "tiff"];

/// File name extensions of images that can't be decoded.
const UNSUPPORTED: [&str; 14] = [
    "heic", "heif", "avif", "jxl", "jp2", "j2k", "psd", "dng", "cr2", "cr3", "nef", "arw", "exr",
    "svg",
];

/// Whether the file at a relative path (with `/`) may be an image: it isn't hidden and has one of
/// [`EXTENSIONS`], whatever its case.
pub(crate) fn is_image(path: &str) -> bool {
    !is_hidden(path) && has_extension(path, &EXTENSIONS)
}

/// Whether the file at a relative path is an image by its name, of a format that can't be decoded:
/// it is named with the reason instead of being passed over.
pub(crate) fn is_unsupported(path: &str) -> bool {
    !is_hidden(path) && has_extension(path, &UNSUPPORTED)
}

/// File name extensions of tables with labels, in lower case.
const TABLES: [&str; 3] = ["csv", "tsv", "jsonl"];

/// A folder of metadata that macOS adds to archives.
const MACOS: &str = "__MACOSX";

/// The end of names of tables without a header, such as `val_annotations.txt`.
const ANNOTATIONS: &str = "annotations.txt";

/// Whether the file at a relative path may be a table with labels.
pub(crate) fn is_label_file(path: &str) -> bool {
    let is_table = has_extension(path, &TABLES) || path.to_lowercase().ends_with(ANNOTATIONS);
    !is_hidden(path) && is_table
}

fn has_extension(path: &str, extensions: &[&str]) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    extension.is_some_and(|one| extensions.iter().any(|known| one.eq_ignore_ascii_case(known)))
}

/// Whether any part of the path is hidden (`._x.jpg`, `.ipynb_checkpoints/x.jpg`) or metadata that
/// macOS adds to archives (`__MACOSX`).
pub(crate) fn is_hidden(path: &str) -> bool {
    hidden_part(path).is_some()
}

/// A hidden path up to its first hidden part, with the `/` of a folder: `a/.cache/` of
/// `a/.cache/b/x.jpg`.
pub(crate) fn hidden_part(path: &str) -> Option<&str> {
    // A loop over bytes: a listing may have a million paths.
    let mut begins = true;
    for (at, byte) in path.bytes().enumerate() {
        if begins && (byte == b'.' || byte == b'_' && is_macos(&path[at..])) {
            let end = path[at..].find('/').map_or(path.len(), |slash| at + slash + 1);
            return Some(&path[..end]);
        }
        begins = byte == b'/';
    }
    None
}

fn is_macos(path: &str) -> bool {
    path.strip_prefix(MACOS).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_path_ends_at_its_first_hidden_part() {
        for (path, hidden) in [
            ("a/.cache/b/.x.jpg", Some("a/.cache/")),
            (".x.jpg", Some(".x.jpg")),
            ("a/__MACOSX/", Some("a/__MACOSX/")),
            ("ä/._x", Some("ä/._x")),
            ("a/x.jpg", None),
            ("a/__MACOSX.jpg", None),
        ] {
            assert_eq!(hidden_part(path), hidden, "{path}");
        }
    }

    #[test]
    fn images_are_known_by_extension_in_any_case() {
        for image in ["b.JPG", "a/x.png", "a.b/c.jfif", "x.Jpe", "x.tiff"] {
            assert!(is_image(image), "{image}");
        }
        for other in ["notes.txt", "jpg", ".jpg", "a/._x.jpg", ".cache/y.jpg", "__MACOSX/z.jpg"] {
            assert!(!is_image(other), "{other}");
        }
        assert!(is_unsupported("a/x.HEIC") && !is_image("x.heic") && !is_unsupported(".x.heic"));
        assert!(is_label_file("a/Labels.CSV") && is_label_file("x.jsonl"));
        assert!(is_label_file("val/val_annotations.txt") && !is_label_file("words.txt"));
        assert!(!is_label_file("a/.x.csv") && !is_label_file("csv") && !is_label_file("a.json"));
    }
}
