//! `pipe device`: what this machine computes networks with, and what of CUDA it has.

use super::failure::Failure;
use crate::common::{machine, number};
use crate::cuda::{self, Found, FoundDevice, FoundLibrary};
use crate::ui::{self, Side, Style, Table};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;

/// Show the processor, the GPUs and the CUDA libraries that are found
///
/// Networks are computed on the first GPU if there is one with its driver, NVRTC, cuBLASLt and cuDNN,
/// else on the processor; `--device` of `pipe run` chooses another. Libraries are looked for in the
/// folders that $PIPE_CUDA_LIBRARIES lists, where the system looks, in CUDA's and conda's folders, and
/// among the packages of the Python environment.
#[derive(Args)]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let found = cuda::found();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if arguments.json {
        ui::json(&json!({
            "processor": { "target": machine::target(), "simd": machine::simd(), "cores": cores },
            "cuda": found,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new([("", Side::Left), ("", Side::Left), ("", Side::Left)]);
    let cores = number::counted(cores as u64, "core");
    let simd = machine::simd().pop().unwrap_or_default();
    table.row(["processor".to_owned(), cores, format!("{} {simd}", machine::target())]);
    found.devices.iter().for_each(|device| table.row(of_device(device)));
    for (name, library) in libraries(&found) {
        table.row(of_library(name, library));
    }
    // Without the line of column names, which has none.
    ui::out(table.render(Style::stdout()).trim_start_matches('\n'))?;
    for line in advice(&found) {
        ui::note(&format!("{line}\n"));
    }
    Ok(ExitCode::SUCCESS)
}

fn libraries(found: &Found) -> [(&'static str, &FoundLibrary); 4] {
    [
        ("NVIDIA driver", &found.driver),
        ("NVRTC", &found.nvrtc),
        ("cuBLASLt", &found.cublas_lt),
        ("cuDNN", &found.cudnn),
    ]
}

fn of_device(device: &FoundDevice) -> [String; 3] {
    let memory = match (&device.problem, device.memory_free) {
        (Some(problem), _) => problem.clone(),
        (None, Some(free)) => {
            format!("{} free of {}", number::bytes(free), number::bytes(device.memory_total))
        }
        (None, None) => number::bytes(device.memory_total),
    };
    let name = format!("{} (compute capability {})", device.name, device.capability);
    [format!("cuda:{}", device.index), name, memory]
}

fn of_library(name: &str, library: &FoundLibrary) -> [String; 3] {
    let version = library.version.map(|version| version.to_string()).unwrap_or_default();
    let path = library.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    match &library.problem {
        Some(_) if version.is_empty() => [name.to_owned(), "not found".to_owned(), String::new()],
        Some(_) => [name.to_owned(), format!("{version}, can't be used"), path],
        None => [name.to_owned(), version, path],
    }
}

/// What is wrong, and what helps. Without a driver nothing else matters.
fn advice(found: &Found) -> Vec<String> {
    let mut lines = Vec::new();
    for (_, library) in libraries(found) {
        let Some(problem) = &library.problem else { continue };
        lines.push(problem.clone());
        lines.extend(library.help.iter().map(|help| format!("help: {help}")));
        if library.version.is_none() && std::ptr::eq(library, &found.driver) {
            return lines;
        }
    }
    lines.extend(found.problem.clone().filter(|problem| !lines.contains(problem)));
    lines
}
