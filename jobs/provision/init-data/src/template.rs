//! What a model's owner allows a guest to be: the document `init-template.v1`.

use std::collections::BTreeSet;

use regex::Regex;
use sealift_evidence::Tee;
use sealift_signed_document::Document;
use serde::{Deserialize, Serialize};

use crate::slots::SLOTS;

/// The texts of a guest's init-data, with slots written `{{name}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateTexts {
    /// Configuration of the attestation agent.
    #[serde(rename = "aa.toml")]
    pub aa_toml: String,
    /// Configuration of the confidential data hub.
    #[serde(rename = "cdh.toml")]
    pub cdh_toml: String,
    /// What the host may ask the guest's agent to do: every container image by digest, its
    /// arguments and environment; no exec, logs or copy.
    #[serde(rename = "policy.rego")]
    pub policy_rego: String,
    /// What the guest is for; holds every slot.
    #[serde(rename = "sealift.toml")]
    pub sealift_toml: String,
}

/// What the operator may put into its two slots: regular expressions from `^` to `$`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotPatterns {
    /// For `{{km_url}}`.
    pub km_url: String,
    /// For `{{store_url}}`.
    pub store_url: String,
}

/// A template before it is checked, in the form in which it is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateParts {
    /// The texts.
    pub texts: TemplateTexts,
    /// What the operator may fill in.
    pub slots: SlotPatterns,
    /// The container images that the policy names, as `name@sha256:<digest>`. Empty where the
    /// launch measurement covers the executable itself.
    pub images: Vec<String>,
    /// Where the guest may run.
    pub tees: BTreeSet<Tee>,
}

/// A template that can be rendered: its slots are known, its patterns are anchored, and its policy
/// names exactly the images it lists.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "TemplateParts", into = "TemplateParts")]
pub struct InitTemplate {
    parts: TemplateParts,
    km_url: Regex,
    store_url: Regex,
}

impl Document for InitTemplate {
    const TYPE: &'static str = "init-template.v1";
}

/// A mistake in a template.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A slot that nobody fills.
    #[error("`{entry}` of the template names the slot {slot:?}, which is none of {SLOTS:?}")]
    UnknownSlot {
        /// Which text.
        entry: &'static str,
        /// What it names.
        slot: String,
    },
    /// The guest would not be told something that it must know.
    #[error("`sealift.toml` of the template lacks the slot `{{{{{slot}}}}}`")]
    MissingSlot {
        /// Which one.
        slot: &'static str,
    },
    /// A pattern that could match a part of a value.
    #[error("the pattern {pattern:?} of slot `{slot}` must go from `^` to `$`")]
    NotAnchored {
        /// Which slot.
        slot: &'static str,
        /// Its pattern.
        pattern: String,
    },
    /// A pattern that is no regular expression.
    #[error("the pattern of slot `{slot}` is not a regular expression")]
    Pattern {
        /// Which slot.
        slot: &'static str,
        /// What is wrong.
        #[source]
        source: Box<regex::Error>,
    },
    /// An image without a digest.
    #[error("image {image:?} is not of the form `name@sha256:<64 hex digits>`")]
    Image {
        /// As listed.
        image: String,
    },
    /// A listed image that the guest's agent would not start.
    #[error("`policy.rego` of the template does not name the image {image:?}")]
    ImageNotInPolicy {
        /// As listed.
        image: String,
    },
    /// An image that the guest's agent would start although it is not listed.
    #[error("`policy.rego` of the template names an image that is not listed: {digest}")]
    ImageNotListed {
        /// As the policy names it.
        digest: String,
    },
    /// A request that would open the guest to its host.
    #[error("`policy.rego` of the template allows {request}; leave it denied")]
    RequestAllowed {
        /// As the agent names it.
        request: &'static str,
    },
    /// Nowhere to run.
    #[error("the template allows no TEE; name at least one")]
    NoTee,
}

/// Requests of the host that let it into a guest or take data out of it.
const NEVER_ALLOWED: [&str; 6] = [
    "AllowRequestsFailingPolicy",
    "CopyFileRequest",
    "ExecProcessRequest",
    "ReadStreamRequest",
    "SetPolicyRequest",
    "WriteStreamRequest",
];

impl InitTemplate {
    /// Checks a template.
    pub fn new(parts: TemplateParts) -> Result<Self, TemplateError> {
        for (entry, text) in parts.entries() {
            check_slots(entry, text)?;
        }
        for slot in SLOTS {
            if !parts.texts.sealift_toml.contains(&placeholder(slot)) {
                return Err(TemplateError::MissingSlot { slot });
            }
        }
        check_images(&parts)?;
        check_requests(&parts.texts.policy_rego)?;
        if parts.tees.is_empty() {
            return Err(TemplateError::NoTee);
        }
        let km_url = anchored("km_url", &parts.slots.km_url)?;
        let store_url = anchored("store_url", &parts.slots.store_url)?;
        Ok(Self {
            parts,
            km_url,
            store_url,
        })
    }

    /// What the template is made of.
    pub fn parts(&self) -> &TemplateParts {
        &self.parts
    }

    /// Whether a guest may run on `tee`.
    pub fn allows(&self, tee: Tee) -> bool {
        self.parts.tees.contains(&tee)
    }

    /// What the operator may put into `{{km_url}}` and `{{store_url}}`.
    pub(crate) fn patterns(&self) -> [&Regex; 2] {
        [&self.km_url, &self.store_url]
    }
}

impl PartialEq for InitTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for InitTemplate {}

impl TryFrom<TemplateParts> for InitTemplate {
    type Error = TemplateError;

    fn try_from(parts: TemplateParts) -> Result<Self, TemplateError> {
        Self::new(parts)
    }
}

impl From<InitTemplate> for TemplateParts {
    fn from(template: InitTemplate) -> Self {
        template.parts
    }
}

impl TemplateParts {
    /// The entries of the init-data, by name.
    pub(crate) fn entries(&self) -> [(&'static str, &str); 4] {
        let TemplateTexts {
            aa_toml,
            cdh_toml,
            policy_rego,
            sealift_toml,
        } = &self.texts;
        [
            ("aa.toml", aa_toml),
            ("cdh.toml", cdh_toml),
            ("policy.rego", policy_rego),
            (crate::SEALIFT_ENTRY, sealift_toml),
        ]
    }
}

/// How a template names a slot.
pub(crate) fn placeholder(slot: &str) -> String {
    format!("{{{{{slot}}}}}")
}

fn pattern(text: &'static str) -> Regex {
    Regex::new(text).expect("the pattern is a constant that tests compile")
}

fn check_slots(entry: &'static str, text: &str) -> Result<(), TemplateError> {
    let named = pattern(r"\{\{([A-Za-z0-9_ -]*)\}\}");
    match named
        .captures_iter(text)
        .find(|slot| !SLOTS.contains(&&slot[1]))
    {
        Some(slot) => Err(TemplateError::UnknownSlot {
            entry,
            slot: slot[1].to_owned(),
        }),
        None => Ok(()),
    }
}

fn check_images(parts: &TemplateParts) -> Result<(), TemplateError> {
    let form = pattern(r"\A[a-z0-9][A-Za-z0-9._/:-]*(@sha256:[0-9a-f]{64})\z");
    let policy = &parts.texts.policy_rego;
    let mut listed = BTreeSet::new();
    for image in &parts.images {
        let digest = form.captures(image).ok_or_else(|| TemplateError::Image {
            image: image.clone(),
        })?;
        if !policy.contains(image.as_str()) {
            return Err(TemplateError::ImageNotInPolicy {
                image: image.clone(),
            });
        }
        listed.insert(digest[1].to_owned());
    }
    let named = pattern(r"@sha256:[0-9A-Za-z]*");
    match named
        .find_iter(policy)
        .find(|digest| !listed.contains(digest.as_str()))
    {
        Some(digest) => Err(TemplateError::ImageNotListed {
            digest: digest.as_str().to_owned(),
        }),
        None => Ok(()),
    }
}

/// Catches an owner's slip, not an owner's malice: the owner signs the whole text. Rules with
/// conditions are left to the owner.
fn check_requests(policy: &str) -> Result<(), TemplateError> {
    let rule = pattern(
        r"(?m)^\s*(?:default\s+)?([A-Za-z]+)\s*(?::?=\s*true\s*$|(?:if\s+)?\{\s*true\s*\}|if\s+true\s*$)",
    );
    let allowed: BTreeSet<_> = rule
        .captures_iter(policy)
        .filter_map(|rule| rule.get(1).map(|name| name.as_str()))
        .collect();
    match NEVER_ALLOWED
        .into_iter()
        .find(|request| allowed.contains(request))
    {
        Some(request) => Err(TemplateError::RequestAllowed { request }),
        None => Ok(()),
    }
}

fn anchored(slot: &'static str, pattern: &str) -> Result<Regex, TemplateError> {
    let inner = pattern
        .strip_prefix('^')
        .and_then(|rest| rest.strip_suffix('$'));
    let Some(inner) = inner else {
        return Err(TemplateError::NotAnchored {
            slot,
            pattern: pattern.to_owned(),
        });
    };
    // The group keeps an alternative such as `^a|b$` from being anchored on one side only.
    Regex::new(&format!(r"\A(?:{inner})\z")).map_err(|error| TemplateError::Pattern {
        slot,
        source: Box::new(error),
    })
}
