//! The bit fields of a report. Bits without a meaning in ABI revision 1.58 must be zero: a build
//! that does not know what a bit grants must not accept a guest that has it.

/// What the guest's owner allowed at launch (POLICY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPolicy(u64);

impl GuestPolicy {
    const MUST_BE_ONE: u64 = 1 << 17;
    const KNOWN: u64 = (1 << 26) - 1;

    /// Takes the raw bits; `None` when a reserved bit has the wrong value.
    pub fn from_bits(bits: u64) -> Option<Self> {
        (bits & !Self::KNOWN == 0 && bits & Self::MUST_BE_ONE != 0).then_some(Self(bits))
    }

    /// The raw bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether the host may run sibling threads on the guest's cores (SMT).
    pub fn smt_allowed(self) -> bool {
        self.0 & (1 << 16) != 0
    }

    /// Whether a migration agent may hold the guest's keys (MIGRATE_MA).
    pub fn migration_agent_allowed(self) -> bool {
        self.0 & (1 << 18) != 0
    }

    /// Whether the host may read and write the guest's memory (DEBUG).
    pub fn debug_allowed(self) -> bool {
        self.0 & (1 << 19) != 0
    }
}

/// What the platform has switched on (PLATFORM_INFO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformInfo(u64);

impl PlatformInfo {
    /// SMT, TSME, ECC, RAPL_DIS, CIPHERTEXT_HIDING, ALIAS_CHECK_COMPLETE and TIO; bit 6 is reserved.
    const KNOWN: u64 = 0b1011_1111;

    /// Takes the raw bits; `None` when a reserved bit is set.
    pub fn from_bits(bits: u64) -> Option<Self> {
        (bits & !Self::KNOWN == 0).then_some(Self(bits))
    }

    /// The raw bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether sibling threads are switched on (SMT_EN).
    pub fn smt_enabled(self) -> bool {
        self.0 & 1 != 0
    }
}

/// Which key signed a report (the field SIGNING_KEY of KEY_INFO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningKeyKind {
    /// The chip's own key.
    Vcek,
    /// A key loaded by the cloud provider.
    Vlek,
    /// No key: the report is not signed.
    None,
    /// A value without a meaning in ABI revision 1.58.
    Reserved(u8),
}

/// How a report was signed (KEY_INFO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo(u32);

impl KeyInfo {
    const KNOWN: u32 = 0b1_1111;

    /// Takes the raw bits; `None` when a reserved bit is set.
    pub fn from_bits(bits: u32) -> Option<Self> {
        (bits & !Self::KNOWN == 0).then_some(Self(bits))
    }

    /// The raw bits.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether the digest of an author key is part of the report (AUTHOR_KEY_EN).
    pub fn author_key_enabled(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the host keeps the chip from signing; the signature is zero then (MASK_CHIP_KEY).
    pub fn chip_key_masked(self) -> bool {
        self.0 & 2 != 0
    }

    /// The key that signed.
    pub fn signing_key(self) -> SigningKeyKind {
        match (self.0 >> 2) & 0b111 {
            0 => SigningKeyKind::Vcek,
            1 => SigningKeyKind::Vlek,
            7 => SigningKeyKind::None,
            other => SigningKeyKind::Reserved(other as u8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_without_its_must_be_one_bit_is_refused() {
        assert!(GuestPolicy::from_bits(0x3_0000).is_some());
        assert!(GuestPolicy::from_bits(0x1_0000).is_none());
    }

    #[test]
    fn reserved_bits_are_refused() {
        assert!(GuestPolicy::from_bits(0x3_0000 | 1 << 26).is_none());
        assert!(PlatformInfo::from_bits(1 << 6).is_none());
        assert!(PlatformInfo::from_bits(1 << 8).is_none());
        assert!(KeyInfo::from_bits(1 << 5).is_none());
    }

    #[test]
    fn a_policy_names_what_it_allows() {
        let debug = GuestPolicy::from_bits(0xB_0000).unwrap();
        assert!(debug.debug_allowed() && debug.smt_allowed() && !debug.migration_agent_allowed());
        assert!(
            GuestPolicy::from_bits(0x6_0000)
                .unwrap()
                .migration_agent_allowed()
        );
    }
}
