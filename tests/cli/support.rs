//! Test support: a temporary folder with images and pipeline files, commands run in it, and
//! snapshots of their output. Uses the program through its command line alone.
//!
//! `desk.pipe(&["status", "tiny.toml"]).snapshot("untrained")` in `caching.rs` compares the exit
//! code, stdout and stderr with `snapshots/caching/untrained.snap`. `INSTA_UPDATE=always cargo test
//! --test cli` rewrites the snapshots; review the difference before committing it. Values that
//! differ between runs or machines are replaced first, see [`crate::steady`].

use crate::steady::{replace, steady};
use pipe::nn::{Head, Network, write_safetensors};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A pipeline that runs in seconds: images in `images/`, three classes in their names.
pub(crate) const TINY: &str = r#"[dataset]
labels = { from = "file_name", pattern = '^(?<index>\d+)_(?<class>\w+)$' }
split = { method = "exact", train = 0.5, validation = 0.25, test = 0.25 }

[stages.fetch]
source = "path:images"

[stages.explore]
needs = { images = "fetch" }

[stages.preprocess]
needs = { images = "fetch" }
size = 32

[stages.train]
needs = { data = "preprocess" }
backbone = "resnet18"
epochs = 1
batch_size = 5
schedule = { warmup_epochs = 0 }

[stages.evaluate]
needs = { data = "preprocess", model = "train" }
"#;

/// The stages of [`TINY`] in the order in which they run.
pub(crate) const STAGES: [&str; 5] = ["fetch", "explore", "preprocess", "train", "evaluate"];

/// A ResNet-18 with a classifier of five classes, in the layout of published weights.
pub(crate) fn resnet18() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("resnet18.safetensors");
        let head = Head::Dense { hidden: vec![], dropout: 0.0, classes: 5 };
        let network = Network::new("resnet18", &head, (32, 32), 7).unwrap();
        write_safetensors(&path, &network.save()).unwrap();
        path
    })
}

/// A pipeline that fetches weights and does nothing else.
pub(crate) fn fetching(source: &str) -> String {
    format!("[stages.weights]\nkind = \"fetch\"\nsource = \"{source}\"\n")
}

/// [`TINY`] with a start from `source`.
pub(crate) fn starting_from(source: &str) -> String {
    let lines = "needs = { data = \"preprocess\", weights = \"weights\" }\nbackbone";
    let tiny = TINY.replace("needs = { data = \"preprocess\" }\nbackbone", lines);
    assert!(tiny.contains(lines));
    format!("{}\n{tiny}", fetching(source))
}

/// [`TINY`] with these keys of `[dataset]` in place of its own, and this source.
pub(crate) fn tiny_of(dataset: &str, source: &str) -> String {
    let (_, stages) = TINY.split_once("[stages.fetch]").unwrap();
    format!("[dataset]\n{dataset}\n[stages.fetch]{}", stages.replace("path:images", source))
}

/// A temporary folder in which commands run.
pub(crate) struct Desk {
    folder: PathBuf,
    /// Removes the folder when dropped.
    _guard: Option<tempfile::TempDir>,
}

/// The outcome of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// The command line without the program's path.
    arguments: Vec<String>,
    folder: PathBuf,
}

impl Desk {
    /// An empty folder.
    pub(crate) fn empty() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        Desk { folder: folder.path().to_owned(), _guard: Some(folder) }
    }

    /// [`TINY`] as `tiny.toml`, with 8 images of each of three classes in `images/`.
    pub(crate) fn tiny() -> Desk {
        let desk = Desk::empty();
        desk.write("tiny.toml", TINY);
        desk.images("images", &["disc", "bar", "frame"], 8);
        desk
    }

    /// [`Desk::tiny`] after `pipe run tiny.toml`. It is run once, and every test gets a copy.
    pub(crate) fn trained() -> Desk {
        static TRAINED: OnceLock<PathBuf> = OnceLock::new();
        let original = TRAINED.get_or_init(|| {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("trained");
            if folder.exists() {
                fs::remove_dir_all(&folder).unwrap();
            }
            let desk = Desk { folder: folder.clone(), _guard: None };
            desk.write("tiny.toml", TINY);
            desk.images("images", &["disc", "bar", "frame"], 8);
            // One stage at a time: `watch` shows the events in the order in which they came.
            desk.ok(&["run", "tiny.toml", "--jobs", "1"]);
            folder
        });
        let desk = Desk::empty();
        // With its times: a store notices files that were written since.
        let copied = Command::new("cp")
            .arg("-a")
            .arg(original.join("."))
            .arg(&desk.folder)
            .status()
            .unwrap();
        assert!(copied.success());
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Replaces `from`, which must be there, in a file.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from:?}");
        self.write(name, text.replace(from, to));
    }

    /// Writes `each` images of every class as `FOLDER/index_class.png`.
    pub(crate) fn images(&self, folder: &str, classes: &[&str], each: u32) {
        fs::create_dir_all(self.path(folder)).unwrap();
        for index in 0..each {
            for (class, name) in classes.iter().enumerate() {
                let number = index * classes.len() as u32 + class as u32;
                draw(class, number)
                    .save(self.path(folder).join(format!("{number}_{name}.png")))
                    .unwrap();
            }
        }
    }

    /// A `pipe` command here, with nothing of the surrounding environment that could change what it
    /// does.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipe"));
        command.args(arguments);
        self.isolate(&mut command);
        command
    }

    /// Makes a command run here, without the variables that could change what `pipe` does.
    pub(crate) fn isolate(&self, command: &mut Command) {
        command.current_dir(&self.folder).stdin(Stdio::null());
        // Networks are computed on the processor, also where there is a GPU.
        command.env("CUDA_VISIBLE_DEVICES", "");
        for variable in [
            "PIPE_CACHE",
            "PIPE_EXE",
            "NO_COLOR",
            "CLICOLOR_FORCE",
            "CLICOLOR",
            "COLUMNS",
            "PIPE_TORCHVISION",
            "KAGGLE_API_TOKEN",
            "KAGGLE_USERNAME",
            "KAGGLE_KEY",
            "KAGGLE_CONFIG_DIR",
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "HF_TOKEN_PATH",
            "HF_HUB_OFFLINE",
            "TRANSFORMERS_OFFLINE",
            "PIPE_CACHE_FROM",
            "PIPE_CACHE_LIMIT",
            "PIPE_LOG",
            "PIPE_CACHE_TOKEN",
            "PIPE_CACHE_USER",
            "PIPE_CACHE_PASSWORD",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_PROFILE",
            "AWS_REGION",
            "AWS_DEFAULT_REGION",
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_S3",
            "GIT_DIR",
            "GIT_WORK_TREE",
            "GIT_INDEX_FILE",
        ] {
            command.env_remove(variable);
        }
        // The folder of some tests is in this repository.
        command.env("GIT_CEILING_DIRECTORIES", env!("CARGO_TARGET_TMPDIR"));
        // No test reaches the real servers: nothing listens here.
        command.env("PIPE_KAGGLE", "http://127.0.0.1:9").env("HF_ENDPOINT", "http://127.0.0.1:9");
        command.env("HF_HOME", self.path("hf-home"));
        command.env("AWS_CONFIG_FILE", "/dev/null");
        command.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    }

    /// Runs `pipe` here.
    pub(crate) fn pipe(&self, arguments: &[&str]) -> Ran {
        self.output(self.command(arguments))
    }

    /// Runs a command made by [`Desk::command`].
    pub(crate) fn output(&self, mut command: Command) -> Ran {
        let output = command.output().unwrap();
        self.ran(command.get_args(), output)
    }

    /// Waits for a command started by [`Desk::start`].
    pub(crate) fn wait(&self, arguments: &[&str], child: Child) -> Ran {
        self.ran(arguments, child.wait_with_output().unwrap())
    }

    fn ran(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>, output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            arguments: arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_string_lossy().into_owned())
                .collect(),
            folder: self.folder.clone(),
        }
    }

    /// Runs `pipe` here and expects success.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Ran {
        let ran = self.pipe(arguments);
        assert_eq!(ran.code, 0, "pipe {}: {ran}", arguments.join(" "));
        ran
    }

    /// `pipe run … --json`, expected to succeed: its events.
    pub(crate) fn events(&self, arguments: &[&str]) -> Events {
        self.ok(&[&["run"], arguments, &["--json"]].concat()).events()
    }

    /// A file among the results of the latest run, such as `preprocess/leaks.csv`.
    pub(crate) fn result(&self, file: &str) -> String {
        let show = self.ok(&["show", "@0", "--json"]).json();
        self.read(&format!("{}/results/{file}", show["folder"].as_str().unwrap()))
    }

    /// A text file of the artifact of the stage `fetch`.
    pub(crate) fn fetched_file(&self, events: &Events, name: &str) -> String {
        fs::read_to_string(self.fetched(events).join(name)).unwrap()
    }

    /// The artifact of the stage `fetch`.
    fn fetched(&self, events: &Events) -> PathBuf {
        let digest = &events.digests()["fetch"];
        self.path("cache/v1/artifacts").join(&digest[..2]).join(digest)
    }

    /// The files of the artifact of the stage `fetch`, sorted, without its manifest.
    pub(crate) fn fetched_files(&self, events: &Events) -> Vec<String> {
        let folder = self.fetched(events);
        let files = walkdir::WalkDir::new(&folder).into_iter().map(|entry| entry.unwrap());
        let mut names: Vec<String> = files
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.path().strip_prefix(&folder).unwrap().display().to_string())
            .filter(|name| name != "manifest.json")
            .collect();
        names.sort();
        names
    }

    /// Starts `pipe` here and leaves it running.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Compares a text with `snapshots/FILE/NAME.snap`, where FILE is the caller's.
    #[track_caller]
    pub(crate) fn snapshot(&self, name: &str, text: &str) {
        assert_snapshot(name, &steady(text, &self.folder));
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exit code {}\n--- stdout\n{}--- stderr\n{}---",
            self.code, self.stdout, self.stderr
        )
    }
}

impl Ran {
    /// Compares the exit code and the whole output with `snapshots/FILE/NAME.snap`, where FILE is
    /// the caller's.
    #[track_caller]
    pub(crate) fn snapshot(&self, name: &str) {
        let mut text = format!("$ pipe {}\nexit code {}\n", self.arguments.join(" "), self.code);
        for (stream, output) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !output.is_empty() {
                writeln!(text, "--- {stream}\n{output}").unwrap();
            }
        }
        assert_snapshot(name, &steady(&text, &self.folder));
    }

    /// Leaves out the lines of stderr that begin with `prefix`, since their number depends on the
    /// machine.
    pub(crate) fn without(mut self, prefix: &str) -> Ran {
        let lines = self.stderr.split_inclusive('\n');
        self.stderr = lines.filter(|line| !line.starts_with(prefix)).collect();
        self
    }

    /// Replaces each pattern in stdout, for what depends on the processor.
    pub(crate) fn masking(mut self, patterns: &[(&str, &str)]) -> Ran {
        replace(&mut self.stdout, patterns);
        self
    }

    /// Standard output as one JSON document.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Standard output as JSON lines.
    pub(crate) fn events(self) -> Events {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}: {self}"));
        Events { all: self.stdout.lines().map(parse).collect(), ran: self }
    }
}

/// The JSON lines of a run.
pub(crate) struct Events {
    pub all: Vec<serde_json::Value>,
    ran: Ran,
}

impl Events {
    /// Stage -> a field of its `stage-finished`.
    fn finished(&self, field: &str) -> BTreeMap<String, String> {
        let ends = self.all.iter().filter(|event| event["event"] == "stage-finished");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("none").to_owned();
        ends.map(|event| (text(&event["stage"]), text(&event[field]))).collect()
    }

    /// The stages that ended in `outcome`, in alphabetical order.
    pub(crate) fn with_outcome(&self, outcome: &str) -> Vec<String> {
        self.finished("outcome")
            .into_iter()
            .filter(|(_, found)| found == outcome)
            .map(|(stage, _)| stage)
            .collect()
    }

    /// Stage -> digest of its artifact.
    pub(crate) fn digests(&self) -> BTreeMap<String, String> {
        self.finished("digest")
    }

    /// The value of the event `count` with this name.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let is = |event: &&serde_json::Value| event["event"] == "count" && event["name"] == name;
        let found = self.all.iter().find(is).unwrap_or_else(|| panic!("nothing {name}"));
        found["value"].as_u64().unwrap()
    }

    /// Compares all events except `progress`, whose number depends on the time taken, with a
    /// snapshot.
    #[track_caller]
    pub(crate) fn snapshot(&self, name: &str) {
        let lines = self.ran.stdout.lines();
        let lines: Vec<&str> =
            lines.filter(|line| !line.contains("\"event\":\"progress\"")).collect();
        assert_snapshot(name, &steady(&lines.join("\n"), &self.ran.folder));
    }

    /// Compares the reasons of every stage that ran, by stage name, with a snapshot.
    #[track_caller]
    pub(crate) fn snapshot_reasons(&self, name: &str) {
        let starts = self.all.iter().filter(|event| event["event"] == "stage-started");
        let reasons: BTreeMap<&str, &serde_json::Value> =
            starts.map(|event| (event["stage"].as_str().unwrap(), &event["reasons"])).collect();
        let text = serde_json::to_string_pretty(&reasons).unwrap();
        assert_snapshot(name, &steady(&text, &self.ran.folder));
    }

    /// The last event.
    pub(crate) fn end(&self) -> &serde_json::Value {
        self.all.last().unwrap()
    }
}

/// An image of 40 x 36: a disc, a bar or a frame, bright on dark, somewhere near the middle. The
/// number moves it and changes its colors, so that no two images are equal.
fn draw(class: usize, number: u32) -> image::RgbImage {
    let noise = |salt: u32| {
        (number.wrapping_mul(2_654_435_761).wrapping_add(salt.wrapping_mul(40_503)) >> 16) % 7
    };
    let (x0, y0) = (17.0 + f64::from(noise(1)), 15.0 + f64::from(noise(2)));
    let back = 10 + 8 * noise(3) as u8;
    let front = 160 + 12 * noise(4) as u8;
    image::RgbImage::from_fn(40, 36, |x, y| {
        let (dx, dy) = ((f64::from(x) - x0).abs(), (f64::from(y) - y0).abs());
        let inside = match class % 3 {
            0 => dx * dx + dy * dy < 64.0,
            1 => dx < 14.0 && dy < 4.0,
            _ => dx.max(dy) < 11.0 && dx.max(dy) > 7.0,
        };
        let level = if inside { front } else { back };
        image::Rgb([level, level / 2 + 10 * class as u8, back + (number % 40) as u8])
    })
}

#[track_caller]
fn assert_snapshot(name: &str, text: &str) {
    let file = Path::new(std::panic::Location::caller().file()).file_stem().unwrap();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new("snapshots").join(file));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// All files below a folder that contain a text.
pub(crate) fn containing(folder: &Path, text: &str) -> Vec<String> {
    let files = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.unwrap());
    let holds = |path: &Path| {
        fs::read(path)
            .is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
    };
    files
        .filter(|entry| entry.file_type().is_file() && holds(entry.path()))
        .map(|entry| entry.path().display().to_string())
        .collect()
}

/// Waits until `done`, or fails after `limit`.
pub(crate) fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
