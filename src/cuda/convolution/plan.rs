//! A plan: a problem with the engine that computes it on a card. It can be saved as JSON, restored
//! on the same card with the same cuDNN, and executed. Doesn't own device memory.

#![allow(unsafe_code)]

use super::choice::{choose, plan_descriptor, workspace};
use super::descriptor::Descriptor;
use super::graph::{Graph, W, X, Y, alignment};
use super::library::SUCCESS;
use super::{ConvolutionError, Handle, Map, NumericalNotes, Problem, Target};
use cudarc::cudnn::sys;
use serde_json::{Value, json};
use sys::cudnnBackendAttributeName_t as Attribute;
use sys::cudnnBackendDescriptorType_t as Kind;

/// A problem with the engine that computes it.
pub struct Plan {
    problem: Problem,
    descriptor: Descriptor,
    workspace: u64,
    engine: Engine,
    card: String,
    cudnn: usize,
    /// Dropped before the handle, which they refer to.
    _parts: Option<(Descriptor, Graph)>,
    /// Where it is executed; none for a described card.
    handle: Option<Handle>,
}

#[derive(Clone, Copy)]
struct Engine {
    index: i64,
    notes: NumericalNotes,
}

/// Device addresses for an execution. Depending on the direction, `x`, `w` or `y` is written, and
/// each may be the gradient of what it is named after.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// First element of the input's map, its offset included.
    pub x: u64,
    /// Weights (out, kernel height, kernel width, in).
    pub w: u64,
    /// First element of the output's map, its offset included.
    pub y: u64,
    /// At least [`Plan::workspace`] bytes; 0 if that is 0.
    pub workspace: u64,
}

impl Plan {
    /// Plans a problem with a workspace of at most `limit` bytes.
    ///
    /// # Errors
    /// When the shape is invalid, the card can't compute in the precision, no engine computes the
    /// problem, or every one needs a larger workspace.
    pub fn new(problem: &Problem, target: Target, limit: u64) -> Result<Plan, ConvolutionError> {
        bind(target)?;
        let choice = choose(problem, target, limit)?;
        Ok(Plan {
            problem: *problem,
            descriptor: choice.plan,
            workspace: choice.workspace,
            engine: Engine { index: choice.engine, notes: choice.notes },
            card: target.name().to_owned(),
            cudnn: target.cudnn().version(),
            handle: handle(target),
            _parts: Some(choice.parts),
        })
    }

    /// The problem that was planned.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Bytes of workspace.
    pub fn workspace(&self) -> u64 {
        self.workspace
    }

    /// cuDNN's number of the engine.
    pub fn engine(&self) -> i64 {
        self.engine.index
    }

    /// What cuDNN notes about the engine's arithmetic.
    pub fn notes(&self) -> NumericalNotes {
        self.engine.notes
    }

    /// The plan as JSON, with what it was made for.
    ///
    /// # Errors
    /// When cuDNN fails to write it.
    pub fn save(&self) -> Result<String, ConvolutionError> {
        let name = Attribute::CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION;
        let saved = json!({
            "problem": self.problem.to_string(),
            "card": self.card,
            "cudnn": self.cudnn,
            "engine": self.engine.index,
            "notes": self.engine.notes.bits(),
            "plan": self.descriptor.read_text(name)?,
        });
        Ok(saved.to_string())
    }

    /// Restores a plan that was saved for the same problem, card and cuDNN.
    ///
    /// # Errors
    /// When it was saved for others, its engine isn't allowed, its workspace is larger than `limit`
    /// bytes, or cuDNN refuses it. The caller then plans anew.
    pub fn restore(
        problem: &Problem,
        target: Target,
        limit: u64,
        saved: &str,
    ) -> Result<Plan, ConvolutionError> {
        problem.shape.check()?;
        bind(target)?;
        let refused = |reason| ConvolutionError::SavedPlan { problem: problem.to_string(), reason };
        let saved: Value = serde_json::from_str(saved)
            .map_err(|error| refused(format!("it is not JSON: {error}")))?;
        let (engine, text) = saved_for(problem, target, &saved).map_err(refused)?;
        let name = Attribute::CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION;
        let descriptor = plan_descriptor(target)?
            .text(name, text)
            .and_then(Descriptor::finalize)
            .map_err(|error| refused(error.to_string()))?;
        let workspace = workspace(&descriptor)?;
        if workspace > limit {
            let reason = format!("it needs a workspace of {workspace} bytes, limit {limit}");
            return Err(refused(reason));
        }
        Ok(Plan {
            problem: *problem,
            descriptor,
            workspace,
            engine,
            card: target.name().to_owned(),
            cudnn: target.cudnn().version(),
            handle: handle(target),
            _parts: None,
        })
    }

    /// Enqueues an execution on the stream of the handle that it was planned with.
    ///
    /// # Errors
    /// When it was planned for a described card, an address is null or less aligned than planned,
    /// or the driver or cuDNN fails.
    ///
    /// # Safety
    /// The addresses must be of memory of the handle's card, as large as the problem's shape and
    /// the plan's workspace say, and stay valid until the execution has ended; no other work may
    /// write to what it reads, or use what it writes and the workspace, at the same time.
    pub unsafe fn execute(&self, operands: &Operands) -> Result<(), ConvolutionError> {
        let Some(handle) = &self.handle else {
            return Err(ConvolutionError::Described { problem: self.problem.to_string() });
        };
        self.check(operands)?;
        // Another card of this thread may have been used since.
        handle.bind()?;
        let cudnn = handle.cudnn();
        let kind = Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR;
        let pack = Descriptor::new(cudnn, kind, "the variant pack")?
            .ints(Attribute::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &[X, W, Y])?
            .addresses(
                Attribute::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                &[operands.x, operands.w, operands.y],
            )?
            .addresses(Attribute::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[operands.workspace])?
            .finalize()?;
        // SAFETY: handle, plan and pack are live; the memory is this function's contract.
        let status = unsafe { (cudnn.execute)(handle.raw(), self.descriptor.raw(), pack.raw()) };
        if status != SUCCESS {
            return Err(cudnn.failed(format!("execute the {}", self.problem), status));
        }
        Ok(())
    }

    fn check(&self, operands: &Operands) -> Result<(), ConvolutionError> {
        let (shape, element) = (&self.problem.shape, self.problem.precision.element());
        let of = |map: &Map| alignment(map, element) as u64;
        let weights = Map::new(1, 1, 1);
        let checked = [
            ("input", operands.x, of(&shape.input)),
            ("weights", operands.w, of(&weights)),
            ("output", operands.y, of(&shape.output)),
        ];
        let flaw = checked
            .into_iter()
            .find(|&(_, address, alignment)| address == 0 || !address.is_multiple_of(alignment));
        let invalid = |operand, reason| ConvolutionError::Operand {
            problem: self.problem.to_string(),
            operand,
            reason,
        };
        if let Some((operand, address, alignment)) = flaw {
            let reason = format!("{address:#x} is null or not a multiple of {alignment}");
            return Err(invalid(operand, reason));
        }
        if self.workspace > 0 && operands.workspace == 0 {
            return Err(invalid("workspace", format!("{} bytes are needed", self.workspace)));
        }
        Ok(())
    }
}

/// The engine and cuDNN's text of a saved plan, or why it is of no use here.
fn saved_for<'a>(
    problem: &Problem,
    target: Target,
    saved: &'a Value,
) -> Result<(Engine, &'a str), String> {
    if saved["problem"] != problem.to_string() {
        return Err("it was made for another convolution".to_owned());
    }
    if saved["card"] != target.name() {
        return Err(format!("it was made for another card, not for {}", target.name()));
    }
    if saved["cudnn"] != target.cudnn().version() {
        let version = target.cudnn().version_text();
        return Err(format!("it was made by another version of cuDNN, not by {version}"));
    }
    let notes = saved["notes"].as_u64().map(NumericalNotes::from_bits);
    match (saved["engine"].as_i64(), notes, saved["plan"].as_str()) {
        (Some(index), Some(notes), Some(text)) if notes.allowed(problem.precision) => {
            Ok((Engine { index, notes }, text))
        }
        _ => Err("its engine, notes or plan are missing or invalid".to_owned()),
    }
}

fn handle(target: Target) -> Option<Handle> {
    match target {
        Target::Handle(handle) => Some(handle.clone()),
        Target::Described(_) => None,
    }
}

/// Planning on a card loads kernels into its context, which must be current.
fn bind(target: Target) -> Result<(), ConvolutionError> {
    match target {
        Target::Handle(handle) => handle.bind(),
        Target::Described(_) => Ok(()),
    }
}
