//! Init-data: the text that is bound to a confidential process at launch, and that its reports
//! carry as HOST_DATA, MRCONFIGID or PCR 8.
//!
//! A guest's init-data is rendered from a template that the model's owner signed. Operators fill
//! two slots, the key manager knows the rest, renders again, and compares every byte: what equals
//! is [`RenderedInitData`], which has no other constructor.

mod document;
mod key_manager_config;
mod render;
mod sealift_toml;
mod slots;
mod template;

pub use document::{InitData, InitDataError, MAX_INIT_DATA_BYTES};
pub use key_manager_config::{
    KEY_MANAGER_ENTRY, KeyManagerConfig, KeyManagerConfigError, KeyManagerConfigParts,
};
pub use render::{InitDataNotFromTemplate, RenderError, RenderedInitData, render, rerender_equals};
pub use sealift_toml::{SEALIFT_ENTRY, SealiftToml};
pub use slots::{OperatorSlots, RegisteredSlots, SlotError};
pub use template::{InitTemplate, SlotPatterns, TemplateError, TemplateParts, TemplateTexts};
