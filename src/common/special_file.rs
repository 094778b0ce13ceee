//! Files that have no end or no content of their own: reading one could block for ever.

use std::fs::FileType;
use std::os::unix::fs::FileTypeExt;

/// The kind of a file that is neither a regular file nor a folder; `None` for those.
pub(crate) fn special(kind: FileType) -> Option<&'static str> {
    let kinds = [
        (kind.is_fifo(), "a FIFO"),
        (kind.is_socket(), "a socket"),
        (kind.is_char_device() || kind.is_block_device(), "a device"),
    ];
    kinds.into_iter().find(|(is, _)| *is).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_sockets_are_special_and_files_and_folders_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let kind = |path: &std::path::Path| special(path.metadata().unwrap().file_type());
        let file = folder.path().join("a");
        std::fs::write(&file, "x").unwrap();
        assert_eq!([kind(&file), kind(folder.path())], [None, None]);
        let socket = folder.path().join("b");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(kind(&socket), Some("a socket"));
        assert_eq!(kind("/dev/null".as_ref()), Some("a device"));
    }
}
