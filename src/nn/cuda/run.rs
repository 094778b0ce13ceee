//! Executes a schedule: its convolutions planned, its memory in an arena, its launches captured in
//! a graph at the second run.

use super::gpu::Gpu;
use super::launches::Launcher;
use super::tensors::{Layout, Tensors};
use crate::cuda::convolution::{Plan, Precision};
use crate::cuda::{Buffer, Graph};
use crate::nn::NnError;
use crate::nn::schedule::{Element, Launch, Schedule, View};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A schedule that can be executed.
pub(super) struct Run {
    pub schedule: Schedule,
    /// The plan of each launch that is a convolution.
    plans: Vec<Option<Rc<Plan>>>,
    executions: Cell<u32>,
    captured: RefCell<Option<Graph>>,
}

/// What the launches of a run use beside its schedule.
pub(super) struct Memory<'a> {
    pub gpu: &'a Gpu,
    pub arena: &'a Buffer<u8>,
    pub layout: &'a Layout,
    pub tensors: &'a Tensors,
    /// The keys of dropout masks, by node.
    pub keys: &'a Buffer<u64>,
}

impl Run {
    /// Plans the convolutions of a schedule.
    pub(super) fn new(gpu: &Gpu, schedule: Schedule, precision: Precision) -> Result<Run, NnError> {
        let plan = |launch: &Launch| {
            let problem = super::launches::problem(launch, precision);
            problem.map(|problem| gpu.plan(&problem)).transpose()
        };
        let plans = schedule.launches.iter().map(plan).collect::<Result<_, _>>()?;
        Ok(Run { schedule, plans, executions: Cell::new(0), captured: RefCell::new(None) })
    }

    /// Bytes of workspace that the largest convolution needs.
    pub(super) fn workspace(&self) -> u64 {
        self.plans.iter().flatten().map(|plan| plan.workspace()).max().unwrap_or(0)
    }

    /// Drops what depends on addresses.
    pub(super) fn forget_addresses(&self) {
        self.captured.replace(None);
        self.executions.set(0);
    }

    /// Enqueues all launches: one by one at first, which loads what libraries load lazily, and from
    /// the second time on as a graph.
    pub(super) fn execute(&self, memory: &Memory) -> Result<(), NnError> {
        let executions = self.executions.get();
        self.executions.set(executions.saturating_add(1));
        if executions == 0 {
            return self.enqueue(memory);
        }
        if self.captured.borrow().is_none() {
            let stream = memory.gpu.stream();
            let graph = stream.capture::<NnError>(|_| self.enqueue(memory))?;
            self.captured.replace(Some(graph));
        }
        match &*self.captured.borrow() {
            Some(graph) => Ok(graph.launch()?),
            None => self.enqueue(memory),
        }
    }

    fn enqueue(&self, memory: &Memory) -> Result<(), NnError> {
        let launcher = Launcher { memory, schedule: &self.schedule };
        for (launch, plan) in self.schedule.launches.iter().zip(&self.plans) {
            launcher.launch(launch, plan.as_deref())?;
        }
        launcher.widen_gradients()
    }

    /// Executes all launches one by one and returns the milliseconds of each, by events between
    /// them. A launch that is shorter than the host takes to enqueue it seems to take that long.
    pub(super) fn profile(&self, memory: &Memory) -> Result<Vec<f64>, NnError> {
        let (card, stream) = (memory.gpu.card(), memory.gpu.stream());
        let launcher = Launcher { memory, schedule: &self.schedule };
        let ends = self.schedule.launches.iter().map(|_| card.timed_event());
        let (start, ends) = (card.timed_event()?, ends.collect::<Result<Vec<_>, _>>()?);
        stream.record(&start)?;
        for ((launch, plan), end) in self.schedule.launches.iter().zip(&self.plans).zip(&ends) {
            launcher.launch(launch, plan.as_deref())?;
            stream.record(end)?;
        }
        launcher.widen_gradients()?;
        let starts = std::iter::once(&start).chain(&ends);
        starts.zip(&ends).map(|(start, end)| Ok(start.milliseconds_to(end)?)).collect()
    }

    /// The address of a view's first element.
    pub(super) fn address(&self, arena: &Buffer<u8>, view: View) -> u64 {
        address(&self.schedule, arena, view)
    }

    pub(super) fn element(&self, view: View) -> Element {
        self.schedule.buffers[view.buffer].element
    }
}

/// The address of a view's first element.
pub(super) fn address(schedule: &Schedule, arena: &Buffer<u8>, view: View) -> u64 {
    let buffer = &schedule.buffers[view.buffer];
    arena.address() + (buffer.offset + view.offset * buffer.element.bytes()) as u64
}
