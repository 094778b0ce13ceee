//! The Git repository that a pipeline file is in: its commit, and whether tracked files differ from
//! it. Asks the program `git`; without it, or outside of a repository, nothing is recorded.

use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::{Command, Stdio};

/// The state of a repository at the start of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Repository {
    /// The commit that is checked out, in hexadecimal digits.
    pub commit: String,
    /// Whether tracked files were changed since.
    pub is_dirty: bool,
}

impl Repository {
    /// The repository around `folder`.
    pub(super) fn around(folder: &Path) -> Option<Repository> {
        let commit = git(folder, &["rev-parse", "--verify", "HEAD"])?;
        let changes = git(folder, &["status", "--porcelain", "--untracked-files=no"])?;
        Some(Repository { commit, is_dirty: !changes.is_empty() })
    }
}

/// The output of a Git command that changes nothing.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("--no-optional-locks")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        // In a hook, they name the repository that is committed to, wherever the folder is.
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.trim().to_owned())
}
