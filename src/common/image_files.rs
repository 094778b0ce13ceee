//! Which files are images, by path alone; their content is checked when they are decoded.

/// File name extensions of the image formats that can be decoded, in lower case.
pub(crate) const EXTENSIONS: [&str; 10] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "gif", "webp", "bmp", "tif", "tiff"];

/// File name extensions of images that can't be decoded. They are listed all the same, so that each
/// is named with the reason instead of being passed over.
pub(crate) const UNSUPPORTED: [&str; 13] =
    ["heic", "heif", "avif", "jxl", "jp2", "j2k", "psd", "dng", "cr2", "cr3", "nef", "arw", "exr"];

/// Whether the file at a relative path (with `/`) may be an image: it isn't hidden and has one of
/// [`EXTENSIONS`] or [`UNSUPPORTED`], whatever its case.
pub(crate) fn is_image(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    !is_hidden(path)
        && extension.is_some_and(|one| {
            let one = one.as_str();
            EXTENSIONS.contains(&one) || UNSUPPORTED.contains(&one)
        })
}

/// Whether any part of the path is hidden (`._x.jpg`, `.ipynb_checkpoints/x.jpg`) or metadata that
/// macOS adds to archives (`__MACOSX`).
pub(crate) fn is_hidden(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_by_extension_in_any_case() {
        for image in ["b.JPG", "a/x.png", "a.b/c.jfif", "x.Jpe", "x.tiff", "x.HEIC"] {
            assert!(is_image(image), "{image}");
        }
        for other in ["notes.txt", "jpg", ".jpg", "a/._x.jpg", ".cache/y.jpg", "__MACOSX/z.jpg"] {
            assert!(!is_image(other), "{other}");
        }
    }
}
