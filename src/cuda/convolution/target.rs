//! What is planned for: the card of a handle, or a card described in JSON, which needn't be there.

#![allow(unsafe_code)]

use super::descriptor::Descriptor;
use super::{ConvolutionError, Cudnn, Handle};
use cudarc::cudnn::sys::cudnnBackendAttributeName_t as Attribute;
use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;
use serde_json::Value;

/// A card described in cuDNN's JSON. Plans for it can be made and saved, not executed.
pub struct DescribedCard {
    cudnn: Cudnn,
    descriptor: Descriptor,
    name: String,
    capability: (u32, u32),
}

impl DescribedCard {
    /// Reads a description, as [`Handle::describe`] writes it.
    ///
    /// # Errors
    /// When it isn't JSON, lacks the card's name or version, or cuDNN refuses it.
    pub fn new(cudnn: Cudnn, json: &str) -> Result<DescribedCard, ConvolutionError> {
        let card: Value = serde_json::from_str(json)
            .map_err(|error| ConvolutionError::Card(format!("not JSON: {error}")))?;
        let missing = |key| ConvolutionError::Card(format!("`{key}` is missing or invalid"));
        let name = card["deviceName"].as_str().ok_or_else(|| missing("deviceName"))?.to_owned();
        let version = card["deviceVer"].as_u64().and_then(|version| u32::try_from(version).ok());
        let version = version.ok_or_else(|| missing("deviceVer"))?;
        let descriptor = Descriptor::new(
            cudnn,
            Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR,
            "the described card",
        )?
        .text(Attribute::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, &card.to_string())
        .and_then(Descriptor::finalize)
        .map_err(|error| ConvolutionError::Card(error.to_string()))?;
        Ok(DescribedCard {
            cudnn,
            descriptor,
            name,
            capability: (version / 100, version / 10 % 10),
        })
    }
}

/// What is planned for.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// The card of a handle.
    Handle(&'a Handle),
    /// A card that needn't be there.
    Described(&'a DescribedCard),
}

impl Target<'_> {
    pub(super) fn cudnn(self) -> Cudnn {
        match self {
            Target::Handle(handle) => handle.cudnn(),
            Target::Described(card) => card.cudnn,
        }
    }

    /// The card's name.
    pub(super) fn name(&self) -> &str {
        match self {
            Target::Handle(handle) => handle.name(),
            Target::Described(card) => &card.name,
        }
    }

    /// The card's compute capability.
    pub(super) fn capability(self) -> (u32, u32) {
        match self {
            Target::Handle(handle) => handle.capability(),
            Target::Described(card) => card.capability,
        }
    }

    /// Sets the handle, if there is one.
    pub(super) fn set_handle(
        self,
        descriptor: Descriptor,
        name: Attribute,
    ) -> Result<Descriptor, ConvolutionError> {
        match self {
            // SAFETY: plans keep the handle; descriptors of planning are dropped before it.
            Target::Handle(handle) => unsafe { descriptor.handle(name, handle.raw()) },
            Target::Described(_) => Ok(descriptor),
        }
    }

    /// Sets the described card, if it is one.
    pub(super) fn set_description(
        self,
        descriptor: Descriptor,
        name: Attribute,
    ) -> Result<Descriptor, ConvolutionError> {
        match self {
            Target::Handle(_) => Ok(descriptor),
            Target::Described(card) => descriptor.descriptor(name, &card.descriptor),
        }
    }
}
