//! `benches/card.sh` on the fake driver: every part of it runs on a machine with a card as it does
//! here, with a tiny network.

use super::{Case, Outcome, Scenario};
use pipe::cuda::NoCache;
use pipe::nn::cuda::{CudaNetwork, Gpu, Precision};
use pipe::nn::{BatchNorm, Head, Input, Learner as _, Network, Rule, StepOptions, soft_targets};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

#[allow(dead_code, unreachable_pub, reason = "its `main` isn't called")]
#[path = "../../benches/card/main.rs"]
pub(super) mod bench;

pub(super) const SCENARIOS: &[Scenario] = &[("card", part), ("timed steps", timed_steps)];

/// The words of a part, between spaces.
const WORDS: &str = "CARD_WORDS";

/// A part of the benchmark, as its own executable runs it.
fn part() -> Outcome {
    let words = std::env::var(WORDS).unwrap();
    let words: Vec<&str> = words.split(' ').collect();
    match bench::run(&words) {
        Ok(()) => Ok(String::new()),
        Err(error) => panic!("{}: {error}", words[0]),
    }
}

/// Steps that are timed, without the host bringing images, do what passes and updates do.
fn timed_steps() -> Outcome {
    const SIDE: usize = 33;
    let gpu = Gpu::open(0, Box::new(NoCache)).unwrap();
    let head = Head::Dense { hidden: vec![], dropout: 0.5, classes: 3 };
    let network = Network::new("resnet18", &head, (SIDE, SIDE), 5).unwrap();
    let image = |index: usize| (index * 2_654_435_761 % 1000) as f32 / 500.0 - 1.0;
    let images: Vec<f32> = (0..2 * SIDE * SIDE * 3).map(image).collect();
    let targets = soft_targets(&[1, 2], 3, 0.0);
    let rule = Rule::Sgd { learning_rate: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0 };
    let options = StepOptions { seed: 1, step: 1, batch_norm: BatchNorm::Batch };
    let trained = |steps: usize, timed: usize| {
        let mut own = CudaNetwork::new(&gpu, &network, Precision::Bf16).unwrap();
        let rules = vec![Some(rule); own.parameters().len()];
        for _ in 0..steps {
            own.pass(Input::Images(&images), None, 2, &targets, &options).unwrap();
            own.update(&rules, None).unwrap();
        }
        let times = own.time_steps(2, &rules, timed).unwrap();
        assert!(times.len() == timed && times.iter().all(|time| *time > 0.0));
        (own.tensors(&|_| true).unwrap(), own)
    };
    let ((straight, _), (timed, mut own)) = (trained(4, 0), trained(1, 3));
    assert!(straight == timed);
    let launches = own.profile(2).unwrap();
    let other_batch = own.time_steps(3, &[], 1).unwrap_err();
    let statistics = launches.iter().filter(|launch| launch.what.starts_with("NormStatistics of "));
    Ok(format!("{} norms\n{other_batch}", statistics.count()))
}

#[test]
fn timed_steps_train() {
    Case::new("timed steps").kernels().reports("20 norms\nno input of this size is on the GPU");
}

/// An executable that runs a part in this test's executable.
fn executable(folder: &Path) -> std::path::PathBuf {
    let own = std::env::current_exe().unwrap();
    // With one thread, the name of the test would stand before the first line.
    let arguments = "--exact child --nocapture --test-threads=2";
    let text = format!(
        "#!/bin/sh\n{WORDS}=\"$*\" CUDA_TEST_SCENARIO=card CUDA_TEST_OUTCOME=/dev/null \
         exec '{}' {arguments}\n",
        own.display()
    );
    let file = folder.join("card");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

#[test]
fn the_benchmark_for_a_card_runs() {
    let Some(machine) = Case::new("none").kernels().machine() else { return };
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/card.sh");
    let mut command = Command::new("bash");
    command.arg(script).arg("--dry").arg(&out);
    machine.be_of(&mut command);
    // The shell's commands are needed, too.
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("CARD_EXE", executable(folder.path()));
    command.env("PIPE_EXE", env!("CARGO_BIN_EXE_pipe")).env_remove("PIPE_CACHE");
    let ran = command.output().unwrap();
    let log = fs::read_to_string(out.join("log.txt")).unwrap_or_default();
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{printed}\n{}\n{log}", String::from_utf8_lossy(&ran.stderr));
    for part in
        ["environment", "convolutions", "parity", "speed", "profile", "streaming", "sanitizer,"]
    {
        let has_run =
            |line: &str| line.starts_with(&format!("| {part}")) && line.contains("| ran |");
        assert!(printed.lines().any(has_run), "{part}: {printed}\n{log}");
    }
    for row in ["| card | Fake H100 |", "| f32 | ", "| resnet18 | train | bf16 | 4 | "] {
        assert!(printed.contains(row), "{row}: {printed}\n{log}");
    }
    let described: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("card.json")).unwrap()).unwrap();
    assert_eq!(described["deviceName"], "Fake H100");
    assert!(fs::read_to_string(out.join("device.json")).unwrap().contains("Fake H100"));
}
