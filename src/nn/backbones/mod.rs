//! The list of backbones: one file a family, one entry a network. A backbone turns an input size and a head into a
//! graph whose names are torchvision's. Knows nothing of weights files (`weights::registry` names backbones, not the
//! other way round).

mod alexnet;
mod inception;
mod resnet;
#[cfg(test)]
mod tests;

use super::{Graph, Head, NnError};

/// Builds a graph for a head and images of (height, width).
type Build = fn(&Head, (usize, usize)) -> Result<Graph, NnError>;

/// What a backbone is, without building it.
pub struct BackboneInfo {
    /// Its name, torchvision's.
    pub name: &'static str,
    /// The side of the square images that its published weights were made for.
    pub input_size: usize,
    /// The stages that `freeze` can name, from the images on, `head` left out.
    pub stages: &'static [&'static str],
    /// Features a image at any input size.
    pub features: usize,
    build: Build,
    /// The same with an auxiliary head, where the published network has one.
    auxiliary: Option<Build>,
}

impl BackboneInfo {
    /// The graph for images of `input` (height, width) with three channels, ending in `head`. It has no auxiliary head.
    ///
    /// # Errors
    /// When the images are too small, or the head is impossible.
    pub fn graph(&self, head: &Head, input: (usize, usize)) -> Result<Graph, NnError> {
        (self.build)(head, input)
    }

    /// Whether the published network has an auxiliary head: a second classifier half-way up that only training runs, so
    /// that gradients reach the lower half by a shorter way.
    pub fn has_auxiliary(&self) -> bool {
        self.auxiliary.is_some()
    }

    /// As [`graph`](Self::graph), with the auxiliary head, for as many classes as `head`, in the stage
    /// [`AUXILIARY`](super::AUXILIARY).
    ///
    /// # Errors
    /// As those of [`graph`](Self::graph), and for a backbone that has no auxiliary head.
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

/// Every backbone, in the order in which they are listed to the user.
pub fn backbones() -> &'static [BackboneInfo] {
    static LIST: [BackboneInfo; 7] = [
        resnet::RESNET18,
        resnet::RESNET34,
        resnet::RESNET50,
        resnet::RESNET101,
        resnet::RESNET152,
        inception::INCEPTION_V3,
        alexnet::ALEXNET,
    ];
    &LIST
}

/// The backbone of this name.
pub fn backbone(name: &str) -> Option<&'static BackboneInfo> {
    backbones().iter().find(|info| info.name == name)
}
