//! Finds the file of a program, as a shell would.

use crate::engine::StageError;
use rustix::fs::{Access, access};
use std::path::{Path, PathBuf};

/// The file of a program: below `folder` if there is a `/` in its name, else on `PATH`.
///
/// # Errors
/// If there is none, or only one that can't be executed.
pub(super) fn find(program: &str, folder: &Path) -> Result<PathBuf, StageError> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = match program.contains('/') {
        true => vec![folder.join(program).components().collect()],
        false => {
            std::env::split_paths(&search).map(|place| folder.join(place).join(program)).collect()
        }
    };
    let files: Vec<&PathBuf> = places.iter().filter(|path| path.is_file()).collect();
    if let Some(path) = files.iter().find(|path| access(path.as_path(), Access::EXEC_OK).is_ok()) {
        return Ok(path.to_path_buf());
    }
    Err(match (files.first(), places.first()) {
        (Some(path), _) => {
            StageError::failed(format!("the program `{program}` isn't executable")).with_help(
                format!("`chmod +x {}`, or write its interpreter before it", path.display()),
            )
        }
        (None, Some(path)) if program.contains('/') => {
            StageError::failed(format!("the program `{program}` isn't there"))
                .with_help(format!("looked for {}", path.display()))
        }
        _ => StageError::failed(format!("there is no program `{program}` on `PATH`"))
            .with_help("install it, or write its path in `command`"),
    })
}
