//! The list of backbones: one file a family, one entry a network. A backbone turns an input size and a head into a
//! graph whose names are torchvision's. Knows nothing of weights files (`weights::registry` names backbones, not the
//! other way round).

mod alexnet;
mod resnet;
#[cfg(test)]
mod tests;

use super::{Graph, Head, NnError};

/// What a backbone is, without building it.
pub struct BackboneInfo {
    /// Its name, torchvision's.
    pub name: &'static str,
    /// The side of the square pictures that its published weights were made for.
    pub input_size: usize,
    /// The stages that `freeze` can name, from the pictures on, `head` left out.
    pub stages: &'static [&'static str],
    /// Features a picture at any input size.
    pub features: usize,
    build: fn(&Head, (usize, usize)) -> Result<Graph, NnError>,
}

impl BackboneInfo {
    /// The graph for pictures of `input` (height, width) with three channels, ending in `head`.
    ///
    /// # Errors
    /// When the pictures are too small, or the head is impossible.
    pub fn graph(&self, head: &Head, input: (usize, usize)) -> Result<Graph, NnError> {
        (self.build)(head, input)
    }
}

/// Every backbone, in the order in which they are listed to the user.
pub fn backbones() -> &'static [BackboneInfo] {
    static LIST: [BackboneInfo; 6] =
        [resnet::RESNET18, resnet::RESNET34, resnet::RESNET50, resnet::RESNET101, resnet::RESNET152, alexnet::ALEXNET];
    &LIST
}

/// The backbone of this name.
pub fn backbone(name: &str) -> Option<&'static BackboneInfo> {
    backbones().iter().find(|info| info.name == name)
}
