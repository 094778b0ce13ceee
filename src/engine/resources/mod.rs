//! The resources that stages ask for and the run has: threads, memory and GPUs. Which of the ready
//! stages start follows from them alone, so that the same plan starts in the same order.

mod memory;
mod packing;

pub use memory::free_memory;
pub(super) use memory::memory_of_group;
pub(super) use packing::choose;

use super::plan::{Options, Plan};
use super::{Device, Graph};
use crate::common::number;
use crate::config::{ByteSize, Diagnostic, Diagnostics, Pipeline};
use std::path::Path;

crate::config::keys! {
    /// The resources that a stage takes while it runs.
    pub struct Resources / GivenResources {
        /// Threads that the stage uses, taken of those of the run (`--threads`). A stage without this
        /// key uses as many as the run has and takes none: stages that run at a time then share the
        /// cores.
        threads: Option<u64> = none in 1..=1024 affects Execution;
        /// Memory that the stage and all that it starts use at most, such as `"4 GB"`, taken of that of
        /// the run (`--memory`). On Linux, a stage that uses more is killed, and fails. Mapped files
        /// don't count.
        memory: Option<ByteSize> = none affects Execution;
        /// GPUs that the stage uses, taken of those of the run: the one of `--device`, or else those
        /// in `CUDA_VISIBLE_DEVICES`, or all. A `command` stage finds its own in that variable.
        gpu: Option<u64> = none in 1..=64 affects Execution;
    }
}

/// An amount of each resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amounts {
    pub threads: u64,
    /// In bytes.
    pub memory: u64,
    pub gpus: u64,
}

impl Amounts {
    /// What a run has for its stages.
    pub(super) fn of_run(options: &Options) -> Amounts {
        let threads = options.threads.max(1) as u64;
        Amounts { threads, memory: options.memory, gpus: options.gpus.len() as u64 }
    }

    fn each(self, other: Amounts, of: impl Fn(u64, u64) -> u64) -> Amounts {
        Amounts {
            threads: of(self.threads, other.threads),
            memory: of(self.memory, other.memory),
            gpus: of(self.gpus, other.gpus),
        }
    }

    /// What is left without `taken`; nothing where more than all is taken.
    pub(super) fn without(self, taken: Amounts) -> Amounts {
        self.each(taken, u64::saturating_sub)
    }

    /// At most what there is at all.
    pub(super) fn within(self, all: Amounts) -> Amounts {
        self.each(all, u64::min)
    }

    fn fits(self, free: Amounts) -> bool {
        self.threads <= free.threads && self.memory <= free.memory && self.gpus <= free.gpus
    }
}

impl Resources {
    /// The amounts that a stage with this limit of memory takes.
    pub(super) fn amounts(&self, memory: Option<u64>) -> Amounts {
        Amounts {
            threads: self.threads.unwrap_or(0),
            memory: memory.unwrap_or(0),
            gpus: self.gpu.unwrap_or(0),
        }
    }

    /// The limit of memory in bytes for a try; that of the first times `growth` for each try before,
    /// up to what the run has.
    pub(super) fn memory_at(&self, tries_before: u32, growth: f64, all: Amounts) -> Option<u64> {
        let first = self.memory?.0;
        // Of a size beyond what floats count exactly, the run's memory decides.
        let grown = first as f64 * growth.powi(tries_before.min(1_000) as i32);
        Some(if grown < all.memory as f64 { grown as u64 } else { all.memory.max(first) })
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Resources { threads: None, memory: None, gpu: None }
    }
}

/// Reports every stage of a plan that isn't up to date and asks for more than the run has at all.
///
/// # Errors
/// All of them, each at its key.
pub fn check_resources(
    pipeline: &Pipeline,
    graph: &Graph,
    plan: &Plan,
    options: &Options,
) -> Result<(), Diagnostics> {
    let all = Amounts::of_run(options);
    let stale = plan.stages.iter().filter(|planned| !planned.state.is_fresh());
    let stages = stale.filter_map(|planned| graph.stage(&planned.name));
    let list: Vec<Diagnostic> = stages
        .flat_map(|stage| {
            let excesses = excesses(&stage.resources, all);
            excesses.into_iter().map(|excess| excess.diagnostic(&stage.name, pipeline))
        })
        .collect();
    match list.is_empty() {
        true => Ok(()),
        false => Err(Diagnostics::new(pipeline.sources.clone(), list)),
    }
}

/// A resource of which a stage asks for more than there is.
struct Excess {
    key: &'static str,
    asked: String,
    there_is: String,
    help: &'static str,
}

fn excesses(asked: &Resources, all: Amounts) -> Vec<Excess> {
    let threads = asked.threads.filter(|threads| *threads > all.threads).map(|threads| Excess {
        key: "threads",
        asked: threads.to_string(),
        there_is: number::counted(all.threads, "thread"),
        help: "lower it, or let the run have more: `--threads`",
    });
    let memory = asked.memory.filter(|memory| memory.0 > all.memory).map(|memory| Excess {
        key: "memory",
        asked: number::bytes(memory.0),
        there_is: format!("{} of memory", number::bytes(all.memory)),
        help: "lower it, or state what the run may use: `--memory`; by default that is the memory that is free",
    });
    let gpu = asked.gpu.filter(|gpus| *gpus > all.gpus).map(|gpus| Excess {
        key: "gpu",
        asked: gpus.to_string(),
        there_is: if all.gpus == 0 { "no GPU".to_owned() } else { number::counted(all.gpus, "GPU") },
        help: "the GPUs of a run are the one of `--device`, or else those in CUDA_VISIBLE_DEVICES, or all of the machine",
    });
    [threads, memory, gpu].into_iter().flatten().collect()
}

impl Excess {
    fn diagnostic(self, stage: &str, pipeline: &Pipeline) -> Diagnostic {
        let Excess { key, asked, there_is, help } = self;
        let table = pipeline.stages.iter().find(|table| table.name == stage);
        let origin = table.and_then(|table| table.keys.place(&format!("resources.{key}")));
        let message =
            format!("`stages.{stage}.resources.{key}` is {asked}, but the run has {there_is}");
        Diagnostic::new(message).at(origin).label("more than there is").help(help.to_owned())
    }
}

/// The names of the GPUs that stages of a run on this device can use, as CUDA names them: the
/// device; on the CPU those in `CUDA_VISIBLE_DEVICES`, else all of the machine.
pub fn gpus(device: Device) -> Vec<String> {
    match (device, std::env::var("CUDA_VISIBLE_DEVICES")) {
        (Device::Cuda(index), _) => vec![index.to_string()],
        (Device::Cpu, Ok(list)) => visible(&list),
        (Device::Cpu, Err(_)) => {
            let found = std::fs::read_dir(Path::new("/proc/driver/nvidia/gpus"));
            (0..found.map_or(0, Iterator::count)).map(|index| index.to_string()).collect()
        }
    }
}

/// The devices of a list as CUDA reads it: up to the first that is none.
fn visible(list: &str) -> Vec<String> {
    let names = list.split(',').map(str::trim);
    names.take_while(|name| !name.is_empty() && *name != "-1").map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_each_try_up_to_what_there_is() {
        let resources = Resources { threads: None, memory: Some(ByteSize(1_000)), gpu: None };
        let all = Amounts { threads: 1, memory: 3_000, gpus: 0 };
        let limits: Vec<_> = (0..5).map(|tries| resources.memory_at(tries, 1.5, all)).collect();
        assert_eq!(limits, [1_000, 1_500, 2_250, 3_000, 3_000].map(Some));
        assert_eq!(resources.memory_at(u32::MAX, 2.0, all), Some(3_000));
        let unlimited = Amounts { memory: u64::MAX, ..all };
        assert_eq!(resources.memory_at(u32::MAX, 2.0, unlimited), Some(u64::MAX));
        assert_eq!(Resources { memory: None, ..resources }.memory_at(1, 1.5, all), None);
    }

    #[test]
    fn devices_are_read_as_cuda_reads_them() {
        assert_eq!(visible("0, 2"), ["0", "2"]);
        assert_eq!(visible("1,-1,2"), ["1"]);
        assert_eq!(visible(""), [""; 0]);
        assert_eq!(visible("GPU-8932f937,MIG-1"), ["GPU-8932f937", "MIG-1"]);
    }
}
