//! The choice of an engine: the first that cuDNN's heuristics propose and that is deterministic,
//! respects the precision and fits the workspace. Nothing is timed.

use super::descriptor::Descriptor;
use super::graph::{Graph, graph};
use super::notes::NumericalNotes;
use super::{ConvolutionError, Precision, Problem, Target};
use cudarc::cudnn::sys;
use sys::cudnnBackendAttributeName_t as Attribute;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendDescriptorType_t as Kind;
use sys::cudnnBackendHeurMode_t as Mode;

/// Room for the notes of an engine; cuDNN has ten.
const NOTES: usize = 32;

/// A chosen engine with its finalized plan.
pub(super) struct Choice {
    pub(super) plan: Descriptor,
    pub(super) workspace: u64,
    pub(super) engine: i64,
    pub(super) notes: NumericalNotes,
    /// Kept until the plan is dropped: cuDNN doesn't document whether it copies them.
    pub(super) parts: (Descriptor, Graph),
}

/// What was found on the way, for the error message.
#[derive(Default)]
struct Rejected {
    proposed: usize,
    allowed: usize,
    smallest: Option<u64>,
    failure: Option<ConvolutionError>,
}

/// Chooses an engine whose workspace is at most `limit` bytes.
///
/// # Errors
/// When the card can't compute in the precision, no engine computes the problem, or every one needs
/// a larger workspace.
pub(super) fn choose(
    problem: &Problem,
    target: Target,
    limit: u64,
) -> Result<Choice, ConvolutionError> {
    problem.shape.check()?;
    if problem.precision == Precision::Bf16 && target.capability() < (8, 0) {
        let (card, capability) = (target.name().to_owned(), target.capability());
        return Err(ConvolutionError::Bf16 { card, capability });
    }
    let graph = graph(problem, target)?;
    let mut rejected = Rejected::default();
    for mode in [Mode::CUDNN_HEUR_MODE_A, Mode::CUDNN_HEUR_MODE_FALLBACK] {
        // A mode without proposals may also be an error: the other one may still have some.
        let configs = match proposals(&graph, target, mode) {
            Ok(configs) => configs,
            Err(error) => {
                rejected.failure = Some(error);
                continue;
            }
        };
        for config in configs {
            rejected.proposed += 1;
            let (engine, notes) = facts(&config)?;
            if !notes.allowed(problem.precision) {
                continue;
            }
            rejected.allowed += 1;
            match finalized(target, &config) {
                Ok((plan, workspace)) if workspace <= limit => {
                    let parts = (config, graph);
                    return Ok(Choice { plan, workspace, engine, notes, parts });
                }
                Ok((_, workspace)) => rejected.larger(workspace),
                Err(error) => rejected.failure = Some(error),
            }
        }
    }
    Err(rejected.error(problem, target.name(), limit))
}

/// The engine configurations that a mode of the heuristics proposes, best first.
fn proposals(
    graph: &Graph,
    target: Target,
    mode: Mode,
) -> Result<Vec<Descriptor>, ConvolutionError> {
    let kind = Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR;
    let heuristics = Descriptor::new(target.cudnn(), kind, "the heuristics")?
        .descriptor(Attribute::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &graph.graph)?
        .heuristic_mode(Attribute::CUDNN_ATTR_ENGINEHEUR_MODE, mode)?;
    target
        .set_description(heuristics, Attribute::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP)?
        .finalize()?
        .descriptors(
            Attribute::CUDNN_ATTR_ENGINEHEUR_RESULTS,
            Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
            "an engine's configuration",
        )
}

/// The number and the notes of a configuration's engine.
fn facts(config: &Descriptor) -> Result<(i64, NumericalNotes), ConvolutionError> {
    let engine = config.only(
        Attribute::CUDNN_ATTR_ENGINECFG_ENGINE,
        Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR,
        "an engine",
    )?;
    let index = engine.int(Attribute::CUDNN_ATTR_ENGINE_GLOBAL_INDEX)?;
    let name = Attribute::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE;
    let notes = engine.enums::<NOTES>(name, Type::CUDNN_TYPE_NUMERICAL_NOTE)?;
    Ok((index, NumericalNotes::new(&notes)))
}

/// The plan of a configuration with the size of its workspace.
fn finalized(target: Target, config: &Descriptor) -> Result<(Descriptor, u64), ConvolutionError> {
    let plan = plan_descriptor(target)?
        .descriptor(Attribute::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config)?
        .finalize()?;
    let workspace = workspace(&plan)?;
    Ok((plan, workspace))
}

/// An execution plan without an engine.
pub(super) fn plan_descriptor(target: Target) -> Result<Descriptor, ConvolutionError> {
    let kind = Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR;
    let plan = Descriptor::new(target.cudnn(), kind, "the execution plan")?;
    let plan = target.set_handle(plan, Attribute::CUDNN_ATTR_EXECUTION_PLAN_HANDLE)?;
    target.set_description(plan, Attribute::CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP)
}

/// The size of a finalized plan's workspace in bytes.
pub(super) fn workspace(plan: &Descriptor) -> Result<u64, ConvolutionError> {
    let bytes = plan.int(Attribute::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)?;
    // A negative size, which cuDNN never returns, fits no limit.
    Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
}

impl Rejected {
    fn larger(&mut self, workspace: u64) {
        self.smallest = Some(self.smallest.map_or(workspace, |smallest| smallest.min(workspace)));
    }

    fn error(self, problem: &Problem, card: &str, limit: u64) -> ConvolutionError {
        let (problem, card) = (problem.to_string(), card.to_owned());
        if let Some(smallest) = self.smallest {
            return ConvolutionError::Workspace { problem, card, smallest, limit };
        }
        let reason = match (self.proposed, self.allowed, self.failure) {
            (_, _, Some(error)) => error.to_string(),
            (0, ..) => "its heuristics propose none".to_owned(),
            (proposed, ..) => {
                format!("none of the {proposed} proposed is deterministic and precise enough")
            }
        };
        ConvolutionError::NoEngine { problem, card, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Direction, Shape};
    use super::*;

    fn error(rejected: Rejected) -> ConvolutionError {
        let shape = Shape::linear(8, 16, 4);
        let problem = Problem::new(shape, Direction::Forward, Precision::F32);
        rejected.error(&problem, "a card", 1000)
    }

    #[test]
    fn the_smallest_workspace_is_named() {
        let mut rejected = Rejected { proposed: 3, allowed: 2, ..Rejected::default() };
        rejected.larger(3000);
        rejected.larger(2000);
        rejected.larger(4000);
        let error = error(rejected);
        assert!(error.to_string().ends_with(
            "in f32 on a card needs a workspace of 2000 bytes; the limit is 1000 bytes"
        ));
        assert_eq!(error.help(), Some("train with smaller batches"));
    }

    #[test]
    fn no_engine_is_an_error_of_its_own() {
        let none = error(Rejected::default());
        let expected = "cuDNN has no engine for the convolution of 8 maps 1x1x16 to 1x1x4 with a \
                        1x1 kernel, stride 1x1, padding 0x0 in f32 on a card: its heuristics \
                        propose none";
        assert_eq!(none.to_string(), expected);
        let imprecise = error(Rejected { proposed: 3, ..Rejected::default() });
        assert!(
            imprecise
                .to_string()
                .ends_with("none of the 3 proposed is deterministic and precise enough")
        );
    }
}
