//! A GPU that is ready to train: kernels compiled, cuDNN's handle, convolutions planned once.

use super::kernels::Kernels;
use crate::cuda::convolution::{Cudnn, Handle, Plan, Precision, Problem, Target};
use crate::cuda::{Buffer, Card, CompileCache, CudaError, Library, Stream, required};
use crate::nn::NnError;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The most bytes that a convolution may use beside its operands.
pub const WORKSPACE: u64 = 512 << 20;

/// Checks that GPU `index` can be used, without starting to. Returns what its numbers depend on,
/// for people: its name, the driver and cuDNN.
///
/// # Errors
/// When the driver or a library is missing or too old, or there is no such GPU.
pub fn check(index: usize) -> Result<String, NnError> {
    let name = Card::check(index)?.name;
    required(Library::Nvrtc)?;
    let (driver, cudnn) = (required(Library::Driver)?.version, libraries()?.version_text());
    Ok(format!("{name}, driver for CUDA {driver}, cuDNN {cudnn}"))
}

/// Checks that GPU `index` multiplies in this precision, without opening it.
///
/// # Errors
/// For bf16 on a GPU without it.
pub fn check_precision(index: usize, precision: Precision) -> Result<(), NnError> {
    let properties = Card::check(index)?;
    match precision {
        Precision::Bf16 => Ok(properties.require_bf16()?),
        Precision::F32 | Precision::Tf32 => Ok(()),
    }
}

/// Whether an error says that there is no GPU at all, rather than one that can't be used.
pub fn is_absence(error: &NnError) -> bool {
    matches!(error, NnError::Cuda(CudaError::NoDriver { .. } | CudaError::NoDevice))
}

/// cuDNN. It ends the process where it doesn't find cuBLASLt.
fn libraries() -> Result<Cudnn, NnError> {
    required(Library::CublasLt)?;
    required(Library::Cudnn)?;
    Ok(Cudnn::load()?)
}

/// A GPU with what training needs. Stays on the thread that opened it; clones are the same GPU.
#[derive(Clone)]
pub struct Gpu {
    inner: Rc<Inner>,
}

struct Inner {
    /// Dropped before the card.
    workspace: RefCell<Buffer<u8>>,
    plans: RefCell<HashMap<Problem, Rc<Plan>>>,
    kernels: Kernels,
    handle: Handle,
    cudnn: Cudnn,
    cache: Box<dyn CompileCache>,
    card: Card,
}

impl Gpu {
    /// Opens GPU `index`. `cache` keeps what is compiled and planned for the next process.
    ///
    /// # Errors
    /// When the driver or a library is missing or too old, there is no such GPU, or kernels can't
    /// be compiled.
    pub fn open(index: usize, cache: Box<dyn CompileCache>) -> Result<Gpu, NnError> {
        let card = Card::open(index)?;
        let cudnn = libraries()?;
        let handle = Handle::new(cudnn, card.compute())?;
        let kernels = Kernels::load(&card, &*cache)?;
        let workspace = RefCell::new(card.allocate(0)?);
        let plans = RefCell::default();
        let inner = Inner { workspace, plans, kernels, handle, cudnn, cache, card };
        Ok(Gpu { inner: Rc::new(inner) })
    }

    /// The GPU as the driver knows it.
    pub fn card(&self) -> &Card {
        &self.inner.card
    }

    /// cuDNN's version, such as `9.21.0`.
    pub fn cudnn(&self) -> String {
        self.inner.cudnn.version_text()
    }

    /// The GPU, its driver's and cuDNN's versions and the precision, for people.
    pub fn describe(&self, precision: Precision) -> String {
        let name = &self.card().properties().name;
        format!("{name}, cuDNN {}, {precision}", self.cudnn())
    }

    pub(super) fn stream(&self) -> &Stream {
        self.card().compute()
    }

    pub(super) fn kernels(&self) -> &Kernels {
        &self.inner.kernels
    }

    /// The plan of a convolution, made at the first call or by an earlier process.
    pub(super) fn plan(&self, problem: &Problem) -> Result<Rc<Plan>, NnError> {
        if let Some(plan) = self.inner.plans.borrow().get(problem) {
            return Ok(plan.clone());
        }
        let plan = Rc::new(self.make_plan(problem)?);
        self.inner.plans.borrow_mut().insert(*problem, plan.clone());
        Ok(plan)
    }

    fn make_plan(&self, problem: &Problem) -> Result<Plan, NnError> {
        let (cache, target) = (&self.inner.cache, Target::Handle(&self.inner.handle));
        let properties = self.card().properties();
        let key = format!("{problem} on {} with cuDNN {}", properties.name, self.cudnn());
        let saved = cache.read(&key).and_then(|bytes| String::from_utf8(bytes).ok());
        // A plan that can't be used here is replaced.
        let restored = saved.and_then(|text| Plan::restore(problem, target, WORKSPACE, &text).ok());
        if let Some(plan) = restored {
            return Ok(plan);
        }
        let plan = Plan::new(problem, target, WORKSPACE)?;
        // A plan that cuDNN can't write is made again.
        if let Ok(text) = plan.save() {
            cache.write(&key, text.as_bytes());
        }
        Ok(plan)
    }

    /// Makes the workspace at least this large. Work that is captured in graphs uses the old one
    /// after this, so that they must be captured again where it returns true.
    pub(super) fn grow_workspace(&self, bytes: u64) -> Result<bool, NnError> {
        let mut workspace = self.inner.workspace.borrow_mut();
        let grows = workspace.bytes() < bytes as usize;
        if grows {
            // Freed first, so that both needn't fit.
            *workspace = self.card().allocate(0)?;
            *workspace = self.card().allocate(bytes as usize)?;
        }
        Ok(grows)
    }

    pub(super) fn workspace_bytes(&self) -> usize {
        self.inner.workspace.borrow().bytes()
    }

    /// The workspace's address, or 0 if there is none.
    pub(super) fn workspace(&self) -> u64 {
        self.inner.workspace.borrow().address()
    }
}
