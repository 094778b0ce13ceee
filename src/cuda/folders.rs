//! The folders where CUDA libraries may lie beside those of the system's loader. Knows folders, not
//! libraries.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// Folders given by `PIPE_CUDA_LIBRARIES`: they come before those of the loader.
pub(super) fn given() -> Vec<PathBuf> {
    let list = env::var_os("PIPE_CUDA_LIBRARIES").unwrap_or_default();
    env::split_paths(&list).filter(|folder| folder.is_absolute()).collect()
}

/// Folders of toolkits and environments, in order of preference.
pub(super) fn installed() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(toolkit) = variable("CUDA_PATH") {
        folders.extend(libraries_of_toolkit(&toolkit));
    }
    for toolkit in toolkits(Path::new("/usr/local")) {
        folders.extend(libraries_of_toolkit(&toolkit));
    }
    if let Some(environment) = variable("CONDA_PREFIX") {
        folders.push(environment.join("lib"));
        folders.extend(wheels_of_environment(&environment));
    }
    if let Some(environment) = variable("VIRTUAL_ENV") {
        folders.extend(wheels_of_environment(&environment));
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

/// Folders of the wheels that `python3` on the PATH would import. Starts it once, at the first
/// call.
pub(super) fn of_python() -> &'static [PathBuf] {
    static FOLDERS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FOLDERS.get_or_init(|| python_path().iter().flat_map(|packages| wheels(packages)).collect())
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn libraries_of_toolkit(toolkit: &Path) -> [PathBuf; 2] {
    [toolkit.join("lib64"), toolkit.join("lib")]
}

/// `cuda`, then `cuda-13.1`, `cuda-13.0`, `cuda-12.9` …
fn toolkits(parent: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(Vec<u32>, PathBuf)> = children(parent)
        .into_iter()
        .filter_map(|path| {
            let rest = path.file_name()?.to_str()?.strip_prefix("cuda")?;
            let numbers = match rest.strip_prefix('-') {
                None if rest.is_empty() => vec![u32::MAX],
                None => return None,
                Some(version) => version.split('.').map(|n| n.parse().unwrap_or(0)).collect(),
            };
            Some((numbers, path))
        })
        .collect();
    found.sort_by(|a, b| b.0.cmp(&a.0));
    found.into_iter().map(|(_, path)| path).collect()
}

fn wheels_of_environment(environment: &Path) -> Vec<PathBuf> {
    children(&environment.join("lib"))
        .into_iter()
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3"))
        })
        .flat_map(|python| wheels(&python.join("site-packages")))
        .collect()
}

/// NVIDIA's wheels unpack into `nvidia/NAME/lib`.
fn wheels(packages: &Path) -> Vec<PathBuf> {
    let folders = children(&packages.join("nvidia"));
    folders.into_iter().map(|wheel| wheel.join("lib")).filter(|folder| folder.is_dir()).collect()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn python_path() -> Vec<PathBuf> {
    // From `/`, because Python imports from the working directory first.
    let output = Command::new("python3")
        .args(["-c", "import sys; print('\\n'.join(sys.path))"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Ok(output) = output else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(PathBuf::from).filter(|path| path.is_absolute()).collect()
}
