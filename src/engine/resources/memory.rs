//! Memory on Linux: what is free for a run, limits of control groups included, and what a process
//! group uses. Elsewhere neither is known.

use std::path::{Path, PathBuf};

/// Bytes of memory that are free: of the machine, and of the control groups that this process is in.
/// None where the system doesn't say.
pub fn free_memory() -> Option<u64> {
    let machine = read("/proc/meminfo").and_then(|text| kilobytes(&text, "MemAvailable:"));
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let groups = free_in_groups(&groups, Path::new("/sys/fs/cgroup"));
    machine.into_iter().chain(groups).min()
}

/// The least that is free in the control groups of `groups`, the text of `/proc/self/cgroup`.
fn free_in_groups(groups: &str, root: &Path) -> Option<u64> {
    groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
            let (root, files) = match controllers {
                "" => (root.to_owned(), &UNIFIED),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    (root.join("memory"), &LEGACY)
                }
                _ => return None,
            };
            // In a container, the path of its group may lead nowhere: then its own is the root.
            let folders = ancestors(&root, path);
            folders.iter().filter_map(|folder| files.free(folder)).min()
        })
        .min()
}

fn ancestors(root: &Path, path: &str) -> Vec<PathBuf> {
    let below = Path::new(path).ancestors().map(|path| root.join(path));
    below.collect()
}

/// The names of a control group's files.
struct GroupFiles {
    limit: &'static str,
    usage: &'static str,
    /// The line of `memory.stat` with cached files, which make room when it is needed.
    cached: &'static str,
}

const UNIFIED: GroupFiles =
    GroupFiles { limit: "memory.max", usage: "memory.current", cached: "inactive_file " };
const LEGACY: GroupFiles = GroupFiles {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cached: "total_inactive_file ",
};

impl GroupFiles {
    /// None without a limit.
    fn free(&self, folder: &Path) -> Option<u64> {
        let number = |name: &str| read(folder.join(name))?.trim().parse::<u64>().ok();
        let (limit, usage) = (number(self.limit)?, number(self.usage)?);
        let stat = read(folder.join("memory.stat")).unwrap_or_default();
        let cached = stat.lines().find_map(|line| line.strip_prefix(self.cached)?.parse().ok());
        Some(limit.saturating_sub(usage.saturating_sub(cached.unwrap_or(0))))
    }
}

/// Bytes of memory that the processes of a group use, of their own or shared among them; mapped files
/// don't count. More than `limit` only if that is exact: what several processes share is first
/// counted for each of them, and only then divided, which takes longer.
pub(in crate::engine) fn memory_of_group(group: u32, limit: u64) -> Option<u64> {
    let folders = processes_of(group);
    let sum = |used: fn(&Path) -> Option<u64>| {
        folders.iter().filter_map(|folder| used(folder)).fold(0, u64::saturating_add)
    };
    if folders.is_empty() {
        return None;
    }
    let quick = sum(resident);
    Some(if quick <= limit {
        quick
    } else {
        sum(|folder| divided(folder).or_else(|| resident(folder)))
    })
}

/// The folders in `/proc` of the processes of a group.
fn processes_of(group: u32) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let is_process = |entry: &std::fs::DirEntry| {
        entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)
    };
    let folders = entries.flatten().filter(is_process).map(|entry| entry.path());
    folders.filter(|folder| group_of(folder) == Some(group)).collect()
}

/// The process group of a process, the third field after its name in parentheses.
fn group_of(folder: &Path) -> Option<u32> {
    let stat = std::fs::read(folder.join("stat")).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_whitespace().nth(2)?.parse().ok()
}

fn resident(folder: &Path) -> Option<u64> {
    let status = read(folder.join("status"))?;
    let lines = ["RssAnon:", "RssShmem:", "VmSwap:"].map(|name| kilobytes(&status, name));
    Some(lines.into_iter().flatten().sum())
}

/// The same with what processes share divided among them.
fn divided(folder: &Path) -> Option<u64> {
    let rollup = read(folder.join("smaps_rollup"))?;
    // Kernels before 5.4 don't tell these apart from files.
    kilobytes(&rollup, "Pss_Anon:")?;
    let lines = ["Pss_Anon:", "Pss_Shmem:", "SwapPss:"].map(|name| kilobytes(&rollup, name));
    Some(lines.into_iter().flatten().sum())
}

/// The value in bytes of a line `NAME   123 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_every_control_group_above_count() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let free = |groups: &str| free_in_groups(groups, root.path());
        assert_eq!(free("0::/a/b\n"), None);
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "1000\n");
        write("a/memory.current", "700\n");
        assert_eq!(free("0::/a/b\n"), Some(300));
        write("a/memory.stat", "anon 1\ninactive_file 200\n");
        assert_eq!(free("0::/a/b\n"), Some(500));
        write("memory.max", "400\n");
        write("memory.current", "500\n");
        assert_eq!(free("0::/nowhere\n"), Some(0), "the group is the root in a container");
        write("memory/x/memory.limit_in_bytes", "90\n");
        write("memory/x/memory.usage_in_bytes", "80\n");
        write("memory/x/memory.stat", "total_inactive_file 50\n");
        assert_eq!(free("12:cpu,cpuacct:/x\n7:memory:/x\n"), Some(60));
        assert_eq!(free(""), None);
        assert_eq!(free("nonsense"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_memory_of_a_group_is_found() {
        use std::os::unix::process::CommandExt;
        let mut command = std::process::Command::new("sh");
        let mut child =
            command.args(["-c", "sleep 20 & tail -f /dev/null"]).process_group(0).spawn().unwrap();
        let group = child.id();
        let since = std::time::Instant::now();
        while processes_of(group).len() < 3 {
            assert!(since.elapsed().as_secs() < 20, "the shell starts two processes");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let quick = memory_of_group(group, u64::MAX).unwrap();
        let exact = memory_of_group(group, 0).unwrap();
        assert!(exact > 0 && exact <= quick + (4 << 20), "{exact} and {quick}");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(free_memory().unwrap() > 0);
    }
}
