//! What a platform must be: the appraisal policy, a closed TOML file.

use sealift_evidence::{Assurance, Product, TcbVersion};
use serde::{Deserialize, Serialize};

/// What a platform must be. Every member is required, so that nothing is allowed by leaving it
/// out; unknown members are refused.
///
/// ```toml
/// min_assurance = "hardware"
/// min_report_version = 3
/// vmpl = 0
/// allow_debug = false
/// allow_migration_agent = false
/// allow_smt = true
///
/// [min_tcb.genoa]
/// bootloader = 10
/// tee = 0
/// snp = 23
/// microcode = 25
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppraisalPolicy {
    /// The least that the root of the chain must vouch for.
    pub min_assurance: Assurance,
    /// The oldest report version that is read: 2, 3 or 5.
    pub min_report_version: u32,
    /// The privilege level that must have asked for the report.
    pub vmpl: u32,
    /// Accepts guests whose memory the host can read. Never for real data.
    pub allow_debug: bool,
    /// Accepts guests whose keys a migration agent can hold.
    pub allow_migration_agent: bool,
    /// Accepts guests beside which sibling threads can run.
    pub allow_smt: bool,
    /// Oldest firmware and microcode for each processor family; a family without is refused.
    pub min_tcb: MinimumTcb,
}

/// The oldest TCB that is trusted, for each processor family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinimumTcb {
    /// EPYC 7003.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milan: Option<ChipTcb>,
    /// EPYC 9004 and 8004.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genoa: Option<ChipTcb>,
    /// EPYC 9005.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turin: Option<TurinTcb>,
}

/// A TCB version of Milan and Genoa.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChipTcb {
    /// AMD-SP bootloader.
    pub bootloader: u8,
    /// AMD-SP operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

/// A TCB version of Turin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurinTcb {
    /// Firmware microcontroller.
    pub fmc: u8,
    /// AMD-SP bootloader.
    pub bootloader: u8,
    /// AMD-SP operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl MinimumTcb {
    /// The minimum for `product`, if the policy has one.
    pub fn for_product(&self, product: Product) -> Option<TcbVersion> {
        let chip = |tcb: ChipTcb| TcbVersion {
            fmc: None,
            bootloader: tcb.bootloader,
            tee: tcb.tee,
            snp: tcb.snp,
            microcode: tcb.microcode,
        };
        match product {
            Product::Milan => self.milan.map(chip),
            Product::Genoa => self.genoa.map(chip),
            Product::Turin => self.turin.map(|tcb| TcbVersion {
                fmc: Some(tcb.fmc),
                bootloader: tcb.bootloader,
                tee: tcb.tee,
                snp: tcb.snp,
                microcode: tcb.microcode,
            }),
        }
    }
}

/// A mistake in a policy file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct PolicyError {
    /// The file, as the caller named it.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl AppraisalPolicy {
    /// Reads a policy; `file` only names it in errors.
    pub fn from_toml(file: &str, text: &str) -> Result<Self, PolicyError> {
        toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start.min(text.len()));
            let before = text.get(..offset).unwrap_or_default();
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            PolicyError {
                file: file.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                message: error.message().to_owned(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
min_assurance = \"hardware\"
min_report_version = 3
vmpl = 0
allow_debug = false
allow_migration_agent = false
allow_smt = true

[min_tcb.genoa]
bootloader = 10
tee = 0
snp = 23
microcode = 25
";

    #[test]
    fn a_policy_names_the_minimum_of_each_family_it_trusts() {
        let policy = AppraisalPolicy::from_toml("policy.toml", GOOD).unwrap();
        let genoa = policy.min_tcb.for_product(Product::Genoa).unwrap();
        assert_eq!(
            (genoa.fmc, genoa.bootloader, genoa.microcode),
            (None, 10, 25)
        );
        assert_eq!(policy.min_tcb.for_product(Product::Milan), None);
    }

    #[test]
    fn a_mistake_is_reported_with_its_place() {
        for (spoiled, place) in [
            (GOOD.replace("vmpl = 0", "vmpl = zero"), "policy.toml:3:8: "),
            (GOOD.replace("allow_smt", "allow_simt"), "policy.toml:6:1: "),
            (GOOD.replace("snp = 23", "snp = 256"), "policy.toml:11:7: "),
            (
                GOOD.replace("tee = 0\n", "tee = 0\nfmc = 1\n"),
                "policy.toml:11:1: ",
            ),
            (
                GOOD.replace("min_tcb.genoa", "min_tcb.naples"),
                "policy.toml:8:10: ",
            ),
            (
                GOOD.replace("\"hardware\"", "\"good\""),
                "policy.toml:1:17: ",
            ),
        ] {
            let error = AppraisalPolicy::from_toml("policy.toml", &spoiled).unwrap_err();
            assert!(error.to_string().starts_with(place), "{error}\n{spoiled}");
        }
    }

    #[test]
    fn a_policy_that_leaves_something_out_is_refused() {
        for line in GOOD.lines().filter(|line| line.contains('=')) {
            let spoiled = GOOD.replace(&format!("{line}\n"), "");
            AppraisalPolicy::from_toml("policy.toml", &spoiled).unwrap_err();
        }
    }
}
