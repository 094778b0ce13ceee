//! The list of backbones: one file per family, one entry per network. A backbone builds a graph
//! with torchvision's names for an input size and a head. Doesn't depend on weights files
//! (`weights::registry` refers to backbones by name).

mod alexnet;
mod inception;
mod resnet;
#[cfg(test)]
mod tests;

use super::{Graph, Head, NnError};

/// Builds a graph for a head and images of (height, width).
type Build = fn(&Head, (usize, usize)) -> Result<Graph, NnError>;

/// A backbone, without its graph.
pub struct BackboneInfo {
    /// torchvision's name.
    pub name: &'static str,
    /// Side of the square images that its published weights were trained on, in pixels.
    pub input_size: usize,
    /// The layer groups from input to output, without `head`. `freeze` takes these names.
    pub layer_groups: &'static [&'static str],
    /// Number of features per image, for any input size.
    pub features: usize,
    build: Build,
    /// Builds the graph with an auxiliary head, if the published network has one.
    auxiliary: Option<Build>,
}

impl BackboneInfo {
    /// The graph for images of `input` (height, width) with three channels, ending in `head`,
    /// without an auxiliary head.
    ///
    /// # Errors
    /// When the images are too small, or the head is invalid.
    pub fn graph(&self, head: &Head, input: (usize, usize)) -> Result<Graph, NnError> {
        (self.build)(head, input)
    }

    /// Whether the published network has an auxiliary head: a second classifier on an intermediate
    /// layer that only training runs, for a shorter path of gradients to the early layers.
    pub fn has_auxiliary(&self) -> bool {
        self.auxiliary.is_some()
    }

    /// As [`graph`](Self::graph), with the auxiliary head, for as many classes as `head`, in the
    /// layer group [`AUXILIARY`](super::AUXILIARY).
    ///
    /// # Errors
    /// As for [`graph`](Self::graph), and for a backbone that has no auxiliary head.
    pub fn graph_with_auxiliary(
        &self,
        head: &Head,
        input: (usize, usize),
    ) -> Result<Graph, NnError> {
        let Some(build) = self.auxiliary else {
            let having =
                backbones().iter().filter(|info| info.has_auxiliary()).map(|info| info.name);
            let having: Vec<&str> = having.collect();
            return Err(NnError::Graph(format!(
                "{} has no auxiliary head; only {} has",
                self.name,
                having.join(", ")
            )));
        };
        build(head, input)
    }
}

/// All backbones, in the order of listings.
pub fn backbones() -> &'static [BackboneInfo] {
    static LIST: &[BackboneInfo] = &[
        resnet::RESNET18,
        resnet::RESNET34,
        resnet::RESNET50,
        resnet::RESNET101,
        resnet::RESNET152,
        inception::INCEPTION_V3,
        alexnet::ALEXNET,
    ];
    LIST
}

/// The backbone with this name.
pub fn backbone(name: &str) -> Option<&'static BackboneInfo> {
    backbones().iter().find(|info| info.name == name)
}
