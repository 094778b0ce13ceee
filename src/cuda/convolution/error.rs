//! Errors of convolutions on a card. Each names the convolution, where one is concerned.

/// An error of planning or executing a convolution.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvolutionError {
    /// cuDNN is missing, too old or incomplete.
    #[error("{0}")]
    Library(String),
    /// A card's description is invalid.
    #[error("invalid description of a card: {0}")]
    Card(String),
    /// A shape that no convolution has.
    #[error("invalid convolution {shape}: {reason}")]
    Shape { shape: String, reason: String },
    /// The card can't compute in bf16.
    #[error(
        "{card} (compute capability {}.{}) can't compute in bf16, which needs 8.0 or newer",
        capability.0, capability.1
    )]
    Bf16 { card: String, capability: (u32, u32) },
    /// No engine computes the convolution as asked for.
    #[error("cuDNN has no engine for the {problem} on {card}: {reason}")]
    NoEngine { problem: String, card: String, reason: String },
    /// Engines exist, but need a larger workspace than allowed.
    #[error(
        "the {problem} on {card} needs a workspace of {smallest} bytes; the limit is {limit} bytes"
    )]
    Workspace { problem: String, card: String, smallest: u64, limit: u64 },
    /// A saved plan that can't be used here.
    #[error("the saved plan of the {problem} can't be used: {reason}")]
    SavedPlan { problem: String, reason: String },
    /// A plan for a described card can't be executed.
    #[error("the {problem} was planned for a described card, and can't be executed")]
    Described { problem: String },
    /// A pointer that doesn't match the plan.
    #[error("the {problem} got an invalid address of its {operand}: {reason}")]
    Operand { problem: String, operand: &'static str, reason: String },
    /// A call of cuDNN failed.
    #[error("cuDNN failed to {action}: {status}{}", in_parentheses(detail))]
    Cudnn {
        /// Completes "cuDNN failed to".
        action: String,
        /// cuDNN's name of the status.
        status: String,
        /// cuDNN's last error message; may be empty.
        detail: String,
    },
}

impl ConvolutionError {
    /// What to do, if it is known.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            ConvolutionError::Library(_) => {
                Some("install cuDNN 9.8 or newer, for example with `pip install nvidia-cudnn-cu13`")
            }
            ConvolutionError::Bf16 { .. } => Some("train with `precision = \"f32\"`"),
            ConvolutionError::Workspace { .. } => Some("train with smaller batches"),
            ConvolutionError::SavedPlan { .. } => Some("delete the saved plan to plan again"),
            _ => None,
        }
    }
}

fn in_parentheses(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail})") }
}
