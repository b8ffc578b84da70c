//! From template to init-data, and back by comparison.

use std::collections::BTreeMap;

use sealift_signed_document::Digest;

use crate::{
    InitData, InitDataError, InitTemplate, OperatorSlots, RegisteredSlots, SealiftToml, SlotError,
    template::placeholder,
};

/// Why a template was not rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// A slot's value is not allowed.
    #[error("a slot of the template cannot be filled")]
    Slot(#[source] SlotError),
    /// The result is no init-data.
    #[error("the rendered texts are not init-data")]
    InitData(#[source] InitDataError),
}

/// Renders a guest's init-data. Pure: the same inputs give the same bytes.
pub fn render(
    template: &InitTemplate,
    registered: &RegisteredSlots,
    operator: &OperatorSlots,
) -> Result<InitData, RenderError> {
    let mut values = registered.values().map_err(RenderError::Slot)?;
    let chosen = operator.values().map_err(RenderError::Slot)?;
    for ((slot, value), pattern) in chosen.into_iter().zip(template.patterns()) {
        if !pattern.is_match(value) {
            let (value, pattern) = (value.to_owned(), pattern.as_str().to_owned());
            return Err(RenderError::Slot(SlotError::Pattern {
                slot,
                value,
                pattern,
            }));
        }
        values.push((slot, value.to_owned()));
    }
    let entries: BTreeMap<_, _> = template
        .parts()
        .entries()
        .into_iter()
        .map(|(name, text)| (name.to_owned(), filled(text, &values)))
        .collect();
    InitData::from_entries(entries).map_err(RenderError::InitData)
}

/// No value holds braces, so the order in which slots are filled does not matter.
fn filled(text: &str, values: &[(&'static str, String)]) -> String {
    values.iter().fold(text.to_owned(), |text, (slot, value)| {
        text.replace(&placeholder(slot), value)
    })
}

/// Init-data that a key manager rendered again and found equal in every byte.
///
/// It has no other constructor. The digest is what a guest's HOST_DATA must be.
#[derive(Clone, Debug)]
pub struct RenderedInitData {
    init_data: InitData,
    sealift: SealiftToml,
}

/// Why init-data is not what its owner's template says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitDataNotFromTemplate {
    /// Not init-data of ours, or without `sealift.toml`.
    #[error("the init-data cannot be read")]
    Unreadable(#[source] InitDataError),
    /// Its slots hold what the template does not allow.
    #[error("the init-data cannot be rendered again from its template")]
    NotRendered(#[source] RenderError),
    /// Other bytes than the template gives.
    #[error("the init-data differs from its template from line {line} on; render it again")]
    Differs {
        /// The first line that differs, counted from 1.
        line: usize,
    },
}

/// Renders `template` with the slots that `received` holds and compares all bytes.
///
/// The operator's two slots are read from the received `sealift.toml`; every other slot comes
/// from `registered`, never from what was received.
pub fn rerender_equals(
    template: &InitTemplate,
    registered: &RegisteredSlots,
    received: &[u8],
) -> Result<RenderedInitData, InitDataNotFromTemplate> {
    let parsed = InitData::parse(received).map_err(InitDataNotFromTemplate::Unreadable)?;
    let sealift = SealiftToml::of(&parsed).map_err(InitDataNotFromTemplate::Unreadable)?;
    let operator = OperatorSlots {
        km_url: sealift.km_url.clone(),
        store_url: sealift.store_url.clone(),
    };
    let init_data =
        render(template, registered, &operator).map_err(InitDataNotFromTemplate::NotRendered)?;
    if init_data.as_bytes() != received {
        return Err(InitDataNotFromTemplate::Differs {
            line: first_difference(init_data.as_bytes(), received),
        });
    }
    Ok(RenderedInitData { init_data, sealift })
}

fn first_difference(own: &[u8], received: &[u8]) -> usize {
    let same = own
        .iter()
        .zip(received)
        .take_while(|(own, received)| own == received);
    same.filter(|(own, _)| **own == b'\n').count() + 1
}

impl RenderedInitData {
    /// The init-data.
    pub fn init_data(&self) -> &InitData {
        &self.init_data
    }

    /// SHA-256 of its bytes.
    pub fn digest(&self) -> Digest {
        self.init_data.digest()
    }

    /// What it tells the guest.
    pub fn sealift(&self) -> &SealiftToml {
        &self.sealift
    }
}
