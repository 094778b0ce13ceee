//! Builds the fake libraries once and runs scenarios in child processes that see some of them.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;

use pipe::cuda::CudaError;

/// What a scenario reports: a line of text, or an error, which is shown with its help.
pub(super) type Outcome = Result<String, CudaError>;

/// What a child process does, with its name.
pub(super) type Scenario = (&'static str, fn() -> Outcome);

const SCENARIO: &str = "CUDA_TEST_SCENARIO";
const OUTCOME: &str = "CUDA_TEST_OUTCOME";
const ALL: [&str; 5] = [
    "libcuda.so.1",
    "libnvrtc.so.13",
    "libnvrtc-builtins.so.13.0",
    "libcublasLt.so.13",
    "libcudnn.so.9",
];
/// A cuDNN that has little more than a version.
pub(super) const STUB_OF_CUDNN: &str = "cudnn_stub.so";
/// For the loops of convolutions. Sums aren't fused with products, so that every processor computes
/// the same bytes.
const FAST: [&str; 3] = ["-O3", "-march=native", "-ffp-contract=off"];
/// As `kernels_host.cpp` says.
const FLAGS_OF_KERNELS: [&str; 6] =
    ["-std=c++17", "-O2", "-fPIC", "-shared", "-fno-strict-aliasing", "-ffp-contract=off"];

/// One child process: a scenario, the libraries that it finds, and its environment.
pub(super) struct Case {
    scenario: &'static str,
    libraries: Vec<(String, String)>,
    variables: Vec<(&'static str, String)>,
    real_kernels: bool,
}

impl Case {
    /// With every library, in the folder that PIPE_CUDA_LIBRARIES names.
    pub(super) fn new(scenario: &'static str) -> Case {
        let libraries = ALL.map(|file| (file.to_owned(), file.to_owned())).to_vec();
        Case { scenario, libraries, variables: Vec::new(), real_kernels: false }
    }

    pub(super) fn without(mut self, file: &str) -> Case {
        self.libraries.retain(|(name, _)| name != file);
        self
    }

    /// The file of this name is another library.
    pub(super) fn instead(mut self, file: &str, other: &str) -> Case {
        self = self.without(file);
        self.libraries.push((file.to_owned(), other.to_owned()));
        self
    }

    pub(super) fn set(mut self, variable: &'static str, value: impl ToString) -> Case {
        self.variables.push((variable, value.to_string()));
        self
    }

    /// The kernels of training, on the CPU, instead of the few of `few_kernels.cpp`.
    pub(super) fn kernels(self) -> Case {
        Case { real_kernels: true, ..self }
    }

    /// A folder of the libraries, and the variables by which a program finds them. `None`, with a
    /// message, where nothing can be compiled here.
    pub(super) fn machine(&self) -> Option<Machine> {
        let built = built()?;
        let kernels = match self.real_kernels {
            true => kernels().to_owned(),
            false => built.join("few_kernels.so"),
        };
        let folder = TempDir::new().unwrap();
        for (name, library) in &self.libraries {
            let library = built.join(library);
            symlink(&library, folder.path().join(name)).unwrap();
            // The names that cudarc tries first, so that no library of this machine comes before
            // ours.
            let unversioned = name.split(".so").next().unwrap();
            let _ = symlink(&library, folder.path().join(format!("{unversioned}.so")));
        }
        let variables = self.variables.clone();
        Some(Machine { folder, kernels, variables })
    }

    /// What the scenario reported. `None`, with a message, where nothing can be compiled here.
    pub(super) fn run(self) -> Option<String> {
        let machine = self.machine()?;
        let outcome = machine.folder.path().join("outcome");
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
        machine.be_of(&mut command);
        command.env(SCENARIO, self.scenario).env(OUTCOME, &outcome);
        let folder = &machine.folder;
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        let report = match fs::read_to_string(&outcome) {
            Ok(text) if output.status.success() => text,
            _ => format!("{}: {errors}{}", output.status, String::from_utf8_lossy(&output.stdout)),
        };
        Some(report.replace(&folder.path().display().to_string(), "FOLDER"))
    }

    /// Compares the report, without what follows its first line where `expected` has one line only.
    #[track_caller]
    pub(super) fn reports(self, expected: &str) {
        let Some(report) = self.run() else { return };
        let seen = match expected.contains('\n') {
            true => report.trim_end(),
            false => report.lines().next().unwrap_or_default(),
        };
        assert_eq!(seen, expected, "\n{report}");
    }
}

/// A machine with a fake GPU.
pub(super) struct Machine {
    folder: TempDir,
    kernels: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Machine {
    /// Makes a command run on this machine.
    pub(super) fn be_of(&self, command: &mut Command) {
        for variable in ["CUDA_PATH", "CONDA_PREFIX", "VIRTUAL_ENV"] {
            command.env_remove(variable);
        }
        command
            .env("PATH", self.folder.path())
            .env("PIPE_CUDA_LIBRARIES", self.folder.path())
            .env("LD_LIBRARY_PATH", self.folder.path())
            .env("FAKE_CUDA_KERNELS", &self.kernels)
            .envs(self.variables.iter().cloned());
    }
}

/// In a child process: runs its scenario and writes the outcome to the file that the parent reads.
pub(super) fn run_scenario(scenario: fn(&str) -> Option<&'static Scenario>) {
    let (Ok(name), Some(outcome)) = (env::var(SCENARIO), env::var_os(OUTCOME)) else { return };
    let (_, run) = scenario(&name).unwrap_or_else(|| panic!("unknown scenario {name}"));
    let text = match run() {
        Ok(text) => text,
        Err(error) => match error.help() {
            Some(help) => format!("error: {error}\nhelp: {help}"),
            None => format!("error: {error}"),
        },
    };
    fs::write(outcome, text).unwrap();
}

/// The folder of the fake libraries, compiled at the first call.
fn built() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<TempDir>> = OnceLock::new();
    BUILT.get_or_init(build).as_ref().map(TempDir::path)
}

fn build() -> Option<TempDir> {
    if Command::new("g++").arg("--version").output().is_err() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: the fake CUDA driver needs g++, which was not found"
        );
        return None;
    }
    let folder = TempDir::new().unwrap();
    let usual = ["-O1"].as_slice();
    for (source, library, define, flags) in [
        ("driver.cpp", ALL[0], "DRIVER", usual),
        ("libraries.cpp", ALL[1], "NVRTC", usual),
        ("libraries.cpp", ALL[2], "BUILTINS", usual),
        ("libraries.cpp", ALL[3], "CUBLASLT", usual),
        ("cudnn.cpp", ALL[4], "CUDNN", &FAST),
        ("libraries.cpp", STUB_OF_CUDNN, "CUDNN", usual),
        ("few_kernels.cpp", "few_kernels.so", "KERNELS", usual),
    ] {
        let mut command = Command::new("g++");
        command.args(["-std=c++17", "-g", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]);
        command.args(flags).arg(format!("-Wl,-soname,{library}")).arg(format!("-DFAKE_{define}"));
        compile(command.arg(source), &folder.path().join(library));
    }
    Some(folder)
}

/// The library of the kernels of training. It takes long to compile, so it is kept for later runs,
/// under a name made of the digest of its sources.
fn kernels() -> &'static Path {
    static KEPT: OnceLock<PathBuf> = OnceLock::new();
    KEPT.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        FLAGS_OF_KERNELS.hash(&mut hasher);
        for source in ["kernels_host.cpp", "host.h", "../../src/cuda/kernels.cu"] {
            fs::read(sources().join(source)).unwrap().hash(&mut hasher);
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let kept = folder.join(format!("kernels-{:016x}.so", hasher.finish()));
        if !kept.exists() {
            // Renamed when it is whole: other processes may want it at the same time.
            let own = tempfile::Builder::new().prefix("kernels").tempdir_in(folder).unwrap();
            let library = own.path().join("kernels.so");
            compile(Command::new("g++").args(FLAGS_OF_KERNELS).arg("kernels_host.cpp"), &library);
            fs::rename(library, &kept).unwrap();
        }
        kept
    })
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda")
}

fn compile(command: &mut Command, library: &Path) {
    let output = command.current_dir(sources()).arg("-o").arg(library).arg("-ldl").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
