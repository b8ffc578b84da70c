//! The init-data template that this owner signs for guests on one machine.

use std::collections::BTreeSet;

use sealift_evidence::Tee;
use sealift_init_data::{InitTemplate, SlotPatterns, TemplateError, TemplateParts, TemplateTexts};

/// Configuration of the attestation agent: where it gets keys, and that it believes nobody else.
const AA_TOML: &str = "\
[token_configs.kbs]
url = \"{{km_url}}\"
";

/// Configuration of the confidential data hub.
const CDH_TOML: &str = "\
[kbc]
name = \"cc_kbc\"
url = \"{{km_url}}\"
";

/// What the host may ask the guest's agent to do: nothing.
///
/// A guest on one machine is the measured executable itself; there are no container images, and no
/// agent that takes requests. The policy stands here all the same, so that the same template can
/// only ever start a closed guest.
const POLICY_REGO: &str = "\
package agent_policy

default AllowRequestsFailingPolicy := false
default CopyFileRequest := false
default CreateContainerRequest := false
default CreateSandboxRequest := false
default ExecProcessRequest := false
default ReadStreamRequest := false
default SetPolicyRequest := false
default WriteStreamRequest := false
";

/// What the guest is for.
const SEALIFT_TOML: &str = "\
model = \"{{model}}\"
version = \"{{version}}\"
serial = {{serial}}
manifest_sha256 = \"{{manifest_sha256}}\"
km_id = \"{{km_id}}\"
km_url = \"{{km_url}}\"
km_tls_sha256 = \"{{km_tls_sha256}}\"
owner_root = \"{{owner_root}}\"
template_sha256 = \"{{template_sha256}}\"
store_url = \"{{store_url}}\"
";

/// Stores that guests may be given: a folder, or the operator's relay on loopback before any
/// other. Neither is trusted, so which of them it is decides nothing.
const STORES: &str = r#"^file:///[^"'\\\x00-\x1f]{0,4000}$|^https://127\.0\.0\.1:[0-9]{1,5}$"#;

/// The template for guests on one machine: key manager and relay on loopback.
pub(crate) fn one_machine() -> Result<InitTemplate, TemplateError> {
    InitTemplate::new(TemplateParts {
        texts: TemplateTexts {
            aa_toml: AA_TOML.into(),
            cdh_toml: CDH_TOML.into(),
            policy_rego: POLICY_REGO.into(),
            sealift_toml: SEALIFT_TOML.into(),
        },
        slots: SlotPatterns {
            km_url: r"^https://127\.0\.0\.1:[0-9]{1,5}$".into(),
            store_url: STORES.into(),
        },
        images: Vec::new(),
        tees: BTreeSet::from([Tee::Snp]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_for_one_machine_is_well_formed() {
        one_machine().unwrap();
    }
}
